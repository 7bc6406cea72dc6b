//! The instructions that change an image's configuration.

use oci_spec::image::Config;

/// Sets a variable in a list of `NAME=VALUE`s.
pub(crate) fn set_env(config: &mut Config, name: &str, value: &str) {
    let mut env = config.env().clone().unwrap_or_default();
    let entry = format!("{name}={value}");
    match env.iter().position(|other| name_of(other) == name) {
        Some(place) => env[place] = entry,
        None => env.push(entry),
    }
    config.set_env(Some(env));
}

/// The value of a variable of the image.
pub(crate) fn env(config: &Config, name: &str) -> Option<String> {
    config
        .env()
        .as_ref()?
        .iter()
        .find(|entry| name_of(entry) == name)
        .and_then(|entry| entry.split_once('='))
        .map(|(_, value)| value.to_owned())
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

pub(crate) fn set_label(config: &mut Config, name: &str, value: &str) {
    let mut labels = config.labels().clone().unwrap_or_default();
    labels.insert(name.to_owned(), value.to_owned());
    config.set_labels(Some(labels));
}

/// Adds `PORT[-PORT][/PROTOCOL]`.
pub(crate) fn expose(config: &mut Config, text: &str) -> Result<(), &'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err("expected tcp, udp or sctp after the slash");
    }
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err("expected PORT[/PROTOCOL], a port from 1 to 65535"),
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(ports)?, port(ports)?),
    };
    if first > last {
        return Err("expected the lower port first");
    }
    let mut exposed = config.exposed_ports().clone().unwrap_or_default();
    for port in first..=last {
        let entry = format!("{port}/{protocol}");
        if !exposed.contains(&entry) {
            exposed.push(entry);
        }
    }
    exposed.sort();
    config.set_exposed_ports(Some(exposed));
    Ok(())
}

pub(crate) fn add_volume(config: &mut Config, path: &str) {
    let mut volumes = config.volumes().clone().unwrap_or_default();
    if !volumes.iter().any(|volume| volume == path) {
        volumes.push(path.to_owned());
        volumes.sort();
    }
    config.set_volumes(Some(volumes));
}

/// Whether a text is a signal's name or number.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN+").or(name.strip_prefix("RTMAX-")) {
        return offset.parse::<u8>().is_ok_and(|offset| offset <= 30);
    }
    name == "RTMIN"
        || name == "RTMAX"
        || format!("SIG{name}")
            .parse::<nix::sys::signal::Signal>()
            .is_ok()
}

/// A path of the image: `path` from `working_dir`, without `.`, `..` and doubled slashes. A slash at the end stays.
pub(crate) fn absolute(working_dir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{working_dir}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let is_directory =
        path.is_empty() || path.ends_with('/') || path == "." || path.ends_with("/.");
    let slash = if is_directory && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_keep_their_slash() {
        for (dir, path, expected) in [
            ("/", "a", "/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "", "/w/"),
            ("/w", "/a//b/../c", "/a/c"),
            ("/", ".", "/"),
            ("/w", "../../..", "/"),
        ] {
            assert_eq!(absolute(dir, path), expected, "{dir} {path}");
        }
    }

    #[test]
    fn ports_are_checked_and_ranges_written_out() {
        let mut config = Config::default();
        expose(&mut config, "80").unwrap();
        expose(&mut config, "53-54/udp").unwrap();
        assert_eq!(
            config.exposed_ports().as_ref().unwrap(),
            &["53/udp", "54/udp", "80/tcp"]
        );
        for text in ["0", "x", "80/", "80/icmp", "9-8", "70000", ""] {
            assert!(expose(&mut config, text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["SIGNOPE", "0", "99", ""] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
