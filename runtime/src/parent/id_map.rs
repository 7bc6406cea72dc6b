//! The maps of a new user namespace.

use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use crate::error::Error;
use crate::plan::IdRange;
use crate::root_dir::write_procfs;

/// Writes both maps of the user namespace of `pid`. Without the power to, newuidmap and newgidmap (package uidmap) are
/// asked, and for the caller's own id alone setgroups is given up.
pub(super) fn write(pid: i32, uids: &[IdRange], gids: &[IdRange]) -> Result<(), Error> {
    let own_uid = rustix::process::geteuid().as_raw();
    let own_gid = rustix::process::getegid().as_raw();
    write_one(pid, "uid_map", "newuidmap", uids, own_uid)?;
    if own_uid != 0 && is_only(gids, own_gid) {
        let path = format!("/proc/{pid}/setgroups");
        write_procfs(Path::new(&path), b"deny")
            .map_err(|errno| Error::system("give up setgroups", errno))?;
    }
    write_one(pid, "gid_map", "newgidmap", gids, own_gid)
}

fn is_only(ranges: &[IdRange], own: u32) -> bool {
    matches!(ranges, [range] if range.host == own && range.size == 1)
}

fn write_one(
    pid: i32,
    file: &str,
    helper: &str,
    ranges: &[IdRange],
    own: u32,
) -> Result<(), Error> {
    if ranges.is_empty() {
        return Ok(());
    }
    let privileged = rustix::process::geteuid().is_root();
    if privileged || is_only(ranges, own) {
        let text: String = ranges
            .iter()
            .map(|range| format!("{} {} {}\n", range.container, range.host, range.size))
            .collect();
        let path = format!("/proc/{pid}/{file}");
        return match write_procfs(Path::new(&path), text.as_bytes()) {
            Ok(()) => Ok(()),
            Err(errno @ Errno::INVAL) => Err(Error::system(
                format!("write {file} (do the ranges overlap?)"),
                errno,
            )),
            Err(errno) => Err(Error::system(format!("write {file}"), errno)),
        };
    }
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for range in ranges {
        for number in [range.container, range.host, range.size] {
            command.arg(number.to_string());
        }
    }
    let output = command.output().map_err(|error| {
        Error::Asked(format!(
            "cannot map ids without privileges: {helper} cannot be run ({error}); install the package uidmap"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Asked(format!(
        "{helper}: {}; does /etc/subuid (/etc/subgid) allow these ranges?",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
