//! The maps of a new user namespace.
//!
//! The process whose namespace it is waits meanwhile and is this process's own (or its parent's) child, which nobody has
//! waited for yet: its number cannot become another's while a helper works on it.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use crate::error::Error;
use crate::plan::IdRange;
use crate::root_dir::write_procfs;

/// One of the two maps.
struct Map {
    /// Its file in /proc/PID.
    file: &'static str,
    /// The program that writes it for who may not.
    helper: &'static str,
    /// Where it says what may be mapped.
    allowed: &'static str,
    /// The caller's own id.
    own: u32,
}

/// Writes both maps of the user namespace of `pid`. What the kernel does not let this process write, newuidmap and newgidmap
/// (package uidmap) are asked for; for the caller's own group alone setgroups is given up instead.
pub(super) fn write(pid: i32, uids: &[IdRange], gids: &[IdRange]) -> Result<(), Error> {
    let map = Map {
        file: "uid_map",
        helper: "newuidmap",
        allowed: "/etc/subuid",
        own: rustix::process::geteuid().as_raw(),
    };
    map.write(pid, uids)?;
    let map = Map {
        file: "gid_map",
        helper: "newgidmap",
        allowed: "/etc/subgid",
        own: rustix::process::getegid().as_raw(),
    };
    map.write(pid, gids)
}

impl Map {
    fn write(&self, pid: i32, ranges: &[IdRange]) -> Result<(), Error> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut written = self.try_write(pid, ranges);
        if written == Err(Errno::PERM) && self.file == "gid_map" && self.is_own(ranges) {
            // Else who is shut out of a file by a group could leave that group.
            let path = format!("/proc/{pid}/setgroups");
            write_procfs(Path::new(&path), b"deny")
                .map_err(|errno| Error::system("give up setgroups", errno))?;
            written = self.try_write(pid, ranges);
        }
        let what = |more: &str| format!("write {}{more}", self.file);
        match written {
            Ok(()) => Ok(()),
            Err(Errno::PERM) => self.ask_helper(pid, ranges),
            Err(errno @ Errno::INVAL) => {
                let more = " (do the ranges overlap, or are they too many?)";
                Err(Error::system(what(more), errno))
            }
            Err(errno) => Err(Error::system(what(""), errno)),
        }
    }

    fn try_write(&self, pid: i32, ranges: &[IdRange]) -> Result<(), Errno> {
        let text: String = ranges
            .iter()
            .map(|range| format!("{} {} {}\n", range.container, range.host, range.size))
            .collect();
        let path = format!("/proc/{pid}/{}", self.file);
        write_procfs(Path::new(&path), text.as_bytes())
    }

    /// Whether the caller's own id is all that is mapped.
    fn is_own(&self, ranges: &[IdRange]) -> bool {
        matches!(ranges, [range] if range.host == self.own && range.size == 1)
    }

    fn ask_helper(&self, pid: i32, ranges: &[IdRange]) -> Result<(), Error> {
        let Self {
            helper, allowed, ..
        } = self;
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin".into());
        // It gains privileges, so it gets no more of the caller's environment than where it is looked for.
        let mut command = Command::new(helper);
        command.env_clear().env("PATH", path).arg(pid.to_string());
        for range in ranges {
            for number in [range.container, range.host, range.size] {
                command.arg(number.to_string());
            }
        }
        let output = command.output().map_err(|error| {
            Error::Asked(match error.kind() {
                ErrorKind::NotFound => format!(
                    "{helper}, which maps ids for users without privileges, is not in PATH: install the package uidmap, or map only id {}",
                    self.own
                ),
                _ => format!("{helper} cannot be run: {error}"),
            })
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said
            .trim()
            .trim_start_matches(helper)
            .trim_start_matches(':');
        Err(Error::Asked(format!(
            "{helper} refused: {}; {}",
            said.trim(),
            if rustix::thread::no_new_privs().unwrap_or(false) {
                format!(
                    "this process has no_new_privs, so {helper} gets no privileges: start it without, or map only id {}",
                    self.own
                )
            } else {
                format!(
                    "what this user may map is said in {allowed} (USER:FIRST:COUNT), here {}",
                    self.needed(ranges)
                )
            }
        )))
    }

    /// The host's ids that are asked for besides the caller's own, for people.
    fn needed(&self, ranges: &[IdRange]) -> String {
        let others: Vec<String> = ranges
            .iter()
            .filter(|range| !self.is_own(std::slice::from_ref(range)))
            .map(|range| {
                let last = u64::from(range.host) + u64::from(range.size).saturating_sub(1);
                format!("{} to {last}", range.host)
            })
            .collect();
        format!("host ids {} are needed", others.join(", "))
    }
}
