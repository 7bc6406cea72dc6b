//! The processes of a container, whether it has a cgroup or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::{Record, is_alive};
use crate::error::Error;

/// The ids (on the host) of all processes of a container, in order. Without a cgroup they are those of its pid namespace and
/// what came of them.
///
/// # Errors
/// When its cgroup cannot be read, or it has neither a cgroup nor a pid namespace.
pub(super) fn members(record: &Record) -> Result<Vec<i32>, Error> {
    let cgroup = record.cgroup.as_ref().is_some_and(has_places);
    if let Some(cgroup) = record.cgroup().filter(|_| cgroup) {
        let mut pids = cgroup.processes()?;
        pids.sort_unstable();
        return Ok(pids);
    }
    if !is_alive(record.pid, record.start_time) {
        return Ok(Vec::new());
    }
    let theirs = pid_namespace(record.pid);
    if theirs.is_none() || theirs == pid_namespace(own_pid()) {
        return Err(Error::Asked(format!(
            "container {:?} has neither a cgroup nor a pid namespace of its own, so its processes cannot be told from others",
            record.id
        )));
    }
    let parents = parents();
    let mut found: BTreeSet<i32> = parents
        .keys()
        .copied()
        .filter(|pid| pid_namespace(*pid) == theirs)
        .collect();
    // In a pid namespace below the container's, every process descends from one in the container's.
    loop {
        let before = found.len();
        let children = parents.iter().filter(|(_, parent)| found.contains(parent));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        if found.len() == before {
            return Ok(found.into_iter().collect());
        }
    }
}

/// Whether any hierarchy has a directory for the container.
pub(super) fn has_places(cgroup: &crate::cgroup::CgroupRecord) -> bool {
    !cgroup.places.is_empty()
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// What tells one pid namespace from another.
fn pid_namespace(pid: i32) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(format!("/proc/{pid}/ns/pid")).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Every process with its parent.
fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            // The name stands in brackets and may hold anything, brackets too.
            let after = text.iter().rposition(|byte| *byte == b')')? + 2;
            let rest = std::str::from_utf8(text.get(after..)?).ok()?;
            Some((pid, rest.split(' ').nth(1)?.parse().ok()?))
        })
        .collect()
}
