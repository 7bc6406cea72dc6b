//! `--change`: an instruction in a Dockerfile's words, applied to an empty config.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use oci_spec::image::Config;

/// The config that the instructions make, one after the other.
pub(super) fn config(changes: &[String]) -> anyhow::Result<Config> {
    let mut config = Config::default();
    for change in changes {
        apply(&mut config, change)
            .with_context(|| format!("--change {change:?} cannot be understood"))?;
    }
    Ok(config)
}

fn apply(config: &mut Config, change: &str) -> anyhow::Result<()> {
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .context("an instruction needs an argument")?;
    let rest = rest.trim();
    match word.to_ascii_uppercase().as_str() {
        "CMD" => {
            config.set_cmd(Some(command(rest)?));
        }
        "ENTRYPOINT" => {
            config.set_entrypoint(Some(command(rest)?));
        }
        "ENV" => {
            let mut env = config.env().clone().unwrap_or_default();
            for (key, value) in pairs(rest)? {
                env.retain(|line: &String| line.split('=').next() != Some(&key));
                env.push(format!("{key}={value}"));
            }
            config.set_env(Some(env));
        }
        "LABEL" => {
            let mut labels: HashMap<String, String> = config.labels().clone().unwrap_or_default();
            labels.extend(pairs(rest)?);
            config.set_labels(Some(labels));
        }
        "EXPOSE" => {
            let mut ports = config.exposed_ports().clone().unwrap_or_default();
            for port in rest.split_whitespace() {
                ports.push(port_with_protocol(port)?);
            }
            config.set_exposed_ports(Some(ports));
        }
        "VOLUME" => {
            let mut volumes = config.volumes().clone().unwrap_or_default();
            volumes.extend(words_or_list(rest)?);
            config.set_volumes(Some(volumes));
        }
        "USER" => {
            config.set_user(Some(rest.to_owned()));
        }
        "WORKDIR" => {
            config.set_working_dir(Some(rest.to_owned()));
        }
        "STOPSIGNAL" => {
            config.set_stop_signal(Some(rest.to_owned()));
        }
        other => bail!(
            "{other} is not one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL"
        ),
    }
    Ok(())
}

/// The exec form (a JSON list), or a line for the shell.
fn command(text: &str) -> anyhow::Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("its list is no JSON list of strings");
    }
    Ok(vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn words_or_list(text: &str) -> anyhow::Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("its list is no JSON list of strings");
    }
    Ok(text.split_whitespace().map(Into::into).collect())
}

fn port_with_protocol(port: &str) -> anyhow::Result<String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let number: u16 = number.parse().context("a port is a number up to 65535")?;
    anyhow::ensure!(
        matches!(protocol, "tcp" | "udp" | "sctp"),
        "a port's protocol is tcp, udp or sctp"
    );
    Ok(format!("{number}/{protocol}"))
}

/// `KEY=VALUE...` with quotes, or the old `KEY VALUE`.
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let first = text.split_whitespace().next().unwrap_or("");
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .context("KEY=VALUE is missing")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| {
            let (key, value) = word.split_once('=').context("KEY=VALUE is missing")?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Words as the shell splits them: quotes and backslashes keep spaces.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next().context("a backslash at the end")?;
                word.get_or_insert_default().push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    anyhow::ensure!(quote.is_none(), "a quote is not closed");
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_make_a_config() {
        let changes = [
            "CMD [\"/bin/sh\", \"-l\"]",
            "entrypoint run it",
            "ENV A=1 B='two words'",
            "ENV A=3",
            "LABEL a.b=\"c d\"",
            "EXPOSE 80 53/udp",
            "WORKDIR /srv",
        ];
        let config = config(&changes.map(String::from)).unwrap();
        assert_eq!(config.cmd().as_ref().unwrap(), &["/bin/sh", "-l"]);
        assert_eq!(
            config.entrypoint().as_ref().unwrap(),
            &["/bin/sh", "-c", "run it"]
        );
        assert_eq!(config.env().as_ref().unwrap(), &["B=two words", "A=3"]);
        assert_eq!(config.labels().as_ref().unwrap()["a.b"], "c d");
        assert_eq!(
            config.exposed_ports().as_ref().unwrap(),
            &["80/tcp", "53/udp"]
        );
        assert_eq!(config.working_dir().as_deref(), Some("/srv"));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for text in ["", "CMD", "RUN make", "EXPOSE http", "ENV =", "ENV A='b"] {
            let changes = [text.to_owned()];
            assert!(text == "ENV =" || config(&changes).is_err(), "{text}");
        }
    }
}
