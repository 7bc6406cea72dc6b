//! The device nodes and links of a container's /dev.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType};

use super::step::{DeviceNode, Step};
use crate::spec::SpecError;

const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// What every container has (OCI runtime specification, "Default Devices"): name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links of /dev: name, target.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The steps for a container's devices: those of the spec, then the default ones that it does not name.
pub(super) fn device_steps(linux: &Linux) -> Result<Vec<Step>, SpecError> {
    let mut steps = Vec::new();
    let mut named = Vec::new();
    for device in linux.devices().iter().flatten() {
        let invalid = |what: &str| SpecError::Invalid {
            what: format!("linux.devices: {}: {what}", device.path().display()),
        };
        let (kind, mode) = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => (CHARACTER, 0o666),
            LinuxDeviceType::B => (BLOCK, 0o660),
            LinuxDeviceType::P => (FIFO, 0o666),
            LinuxDeviceType::A => return Err(invalid("type \"a\" is no device")),
        };
        if !device.path().is_absolute() {
            return Err(invalid("not an absolute path"));
        }
        let number = |number: i64| u32::try_from(number).map_err(|_| invalid("bad number"));
        named.push(device.path().clone());
        steps.push(Step::MakeDevice(DeviceNode {
            path: device.path().clone(),
            kind,
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(mode) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        }));
    }
    for (path, major, minor) in DEFAULT {
        if named.iter().any(|path_named| path_named == Path::new(path)) {
            continue;
        }
        steps.push(Step::MakeDevice(DeviceNode {
            path: PathBuf::from(path),
            kind: CHARACTER,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }));
    }
    for (name, target) in LINKS {
        steps.push(Step::MakeDevLink {
            name: name.to_owned(),
            target: target.to_owned(),
        });
    }
    Ok(steps)
}
