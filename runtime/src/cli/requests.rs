//! From arguments to the library's options, in one place.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use dhow_runtime::cgroup::Driver;
use dhow_runtime::commands::{self, CreateOptions, ExecOptions};
use dhow_runtime::{Error, signals};
use oci_spec::runtime::{
    Capability, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxIntelRdt, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources,
};

use super::flags::Given;

fn asked<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Asked(message.into()))
}

fn count_of_descriptors(given: &Given) -> Result<u32, Error> {
    Ok(given.number("preserve-fds")?.unwrap_or(0))
}

/// Who is to make the cgroup.
pub(crate) fn driver(global: &Given) -> Driver {
    match global.is("systemd-cgroup") {
        true => Driver::Systemd,
        false => Driver::Cgroupfs,
    }
}

pub(crate) fn create_options(global: &Given, given: &Given) -> Result<CreateOptions, Error> {
    Ok(CreateOptions {
        bundle: given.path("bundle").unwrap_or_else(|| ".".into()),
        console_socket: given.path("console-socket"),
        pidfd_socket: given.path("pidfd-socket"),
        pid_file: given.path("pid-file"),
        preserve_fds: count_of_descriptors(given)?,
        no_pivot: given.is("no-pivot"),
        no_new_keyring: given.is("no-new-keyring"),
        detach: given.is("detach"),
        keep: given.is("keep"),
        driver: driver(global),
    })
}

pub(crate) fn exec_options(given: &Given) -> Result<ExecOptions, Error> {
    let process = given.path("process");
    let args = given.words_from(1)?;
    if process.is_none() && args.is_empty() {
        return asked(
            "exec args cannot be empty: give a command after the container, or a document with --process",
        );
    }
    Ok(ExecOptions {
        process,
        args,
        cwd: given.path("cwd"),
        env: given.all("env")?,
        tty: given.is("tty"),
        user: given.text("user")?.as_deref().map(parse_user).transpose()?,
        additional_gids: given
            .all("additional-gids")?
            .iter()
            .map(|gid| parse_gid(gid))
            .collect::<Result<_, _>>()?,
        apparmor: given.text("apparmor")?,
        process_label: given.text("process-label")?,
        capabilities: given
            .all("cap")?
            .iter()
            .map(|name| parse_capability(name))
            .collect::<Result<_, _>>()?,
        no_new_privileges: given
            .switched("no-new-privs")
            .or(given.switched("no-new-privileges")),
        detach: given.is("detach"),
        pid_file: given.path("pid-file"),
        console_socket: given.path("console-socket"),
        pidfd_socket: given.path("pidfd-socket"),
        preserve_fds: count_of_descriptors(given)?,
        cgroups: given.all("cgroup")?,
        ignore_paused: given.is("ignore-paused"),
    })
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), Error> {
    let number = |what: &str, part: &str| match part.parse::<u32>() {
        Ok(number) => Ok(number),
        Err(_) => asked(format!("bad {what}: --user {text:?} is not UID or UID:GID")),
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number("uid", uid)?, Some(number("gid", gid)?))),
        None => Ok((number("uid", text)?, None)),
    }
}

fn parse_gid(text: &str) -> Result<u32, Error> {
    text.parse().map_err(|_| {
        Error::Asked(format!(
            "additional-gids must be a positive number, not {text:?}"
        ))
    })
}

fn parse_capability(name: &str) -> Result<Capability, Error> {
    serde_json::from_slice(format!("{name:?}").as_bytes())
        .map_err(|_| Error::Asked(format!("--cap {name:?} is no capability")))
}

pub(crate) fn signal(given: &Given) -> Result<i32, Error> {
    let word = given.word(1)?.filter(|word| !word.is_empty());
    let word = word.unwrap_or_else(|| "SIGTERM".to_owned());
    match signals::parse(&word) {
        Some(signal) => Ok(signal),
        None => asked(format!(
            "unknown signal {word:?}: a name with or without SIG, or a number up to 64"
        )),
    }
}

/// The time between two looks of `events`, as Go writes durations (`500ms`, `1m30s`).
pub(crate) fn interval(given: &Given) -> Result<Duration, Error> {
    let Some(text) = given.text("interval")? else {
        return Ok(Duration::from_secs(5));
    };
    match parse_duration(&text) {
        Some(interval) if !interval.is_zero() => Ok(interval),
        Some(_) => asked("duration interval must be greater than 0"),
        None => asked(format!(
            "invalid value {text:?} for flag -interval: a time as 500ms, 5s or 1m30s"
        )),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest == "0" {
        return Some(total);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let seconds = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// Whether JSON is asked for, not a table.
pub(crate) fn json(given: &Given) -> Result<bool, Error> {
    match given.text("format")?.as_deref() {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => asked(format!("invalid format option {other:?}: table or json")),
    }
}

/// A directory that was named must be there.
pub(crate) fn require_directory(path: &Path) -> Result<(), Error> {
    dhow_runtime::container::check_root(path)?;
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// What `update` is to change in the container's group of resctrl.
pub(crate) fn schemas(given: &Given) -> Result<Option<LinuxIntelRdt>, Error> {
    let (cache, memory) = (given.text("l3-cache-schema")?, given.text("mem-bw-schema")?);
    if cache.is_none() && memory.is_none() {
        return Ok(None);
    }
    let mut schemas = LinuxIntelRdt::default();
    schemas.set_l3_cache_schema(cache);
    schemas.set_mem_bw_schema(memory);
    Ok(Some(schemas))
}

/// The limits that `update` is to set.
pub(crate) fn limits(given: &Given) -> Result<LinuxResources, Error> {
    if let Some(path) = given.path("resources") {
        return read_resources(&path);
    }
    if given.text("kernel-memory")?.is_some() || given.text("kernel-memory-tcp")?.is_some() {
        dhow_runtime::log::warn("Kernel memory settings are ignored and will be removed");
    }
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    let mut memory = built(LinuxMemoryBuilder::default().build())?;
    memory.set_limit(given.bytes("memory")?);
    memory.set_swap(given.bytes("memory-swap")?);
    memory.set_reservation(given.bytes("memory-reservation")?);
    if (memory.limit(), memory.swap(), memory.reservation()) != (None, None, None) {
        resources.set_memory(Some(memory));
    }
    let mut cpu = built(LinuxCpuBuilder::default().build())?;
    cpu.set_period(given.number("cpu-period")?);
    cpu.set_quota(given.number("cpu-quota")?);
    cpu.set_burst(given.number("cpu-burst")?);
    cpu.set_shares(given.number("cpu-share")?);
    cpu.set_realtime_period(given.number("cpu-rt-period")?);
    cpu.set_realtime_runtime(given.number("cpu-rt-runtime")?);
    cpu.set_idle(given.number("cpu-idle")?);
    cpu.set_cpus(given.text("cpuset-cpus")?);
    cpu.set_mems(given.text("cpuset-mems")?);
    resources.set_cpu(Some(cpu));
    if let Some(limit) = given.number("pids-limit")? {
        let pids = LinuxPidsBuilder::default().limit::<i64>(limit).build();
        resources.set_pids(Some(built(pids)?));
    }
    // As in runc, 0 is no weight.
    if let Some(weight) = given
        .number::<u16>("blkio-weight")?
        .filter(|weight| *weight != 0)
    {
        let block = LinuxBlockIoBuilder::default().weight(weight).build();
        resources.set_block_io(Some(built(block)?));
    }
    Ok(resources)
}

fn read_resources(path: &Path) -> Result<LinuxResources, Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(file_error)?;
    } else {
        text = std::fs::read_to_string(path).map_err(file_error)?;
    }
    let mut resources: LinuxResources = serde_json::from_slice(text.as_bytes())
        .map_err(|error| Error::Asked(format!("{}: {error}", path.display())))?;
    dhow_runtime::spec::drop_unsaid_pids(&mut resources, text.as_bytes(), "/pids/limit");
    Ok(resources)
}

fn built<T>(built: Result<T, oci_spec::OciSpecError>) -> Result<T, Error> {
    built.map_err(|error| Error::Asked(error.to_string()))
}

/// Writes `config.json` into a bundle that has none.
pub(crate) fn write_template(given: &Given) -> Result<(), Error> {
    let dir = given.path("bundle").unwrap_or_else(|| ".".into());
    let path = dir.join("config.json");
    let error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::Asked(format!("File {} exists. Remove it first", path.display()))
        }
        _ => Error::File {
            path: path.clone(),
            source,
        },
    };
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let template = commands::template(given.is("rootless").then_some(own));
    let text = format!("{template:#}\n");
    let mut file = std::fs::File::create_new(&path).map_err(error)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, milliseconds) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("0", Some(0)),
            ("5", None),
            ("s", None),
            ("", None),
            ("3 s", None),
        ] {
            let parsed = parse_duration(text).map(|time| time.as_millis());
            assert_eq!(parsed, milliseconds, "{text}");
        }
    }
}
