//! Memory and swap.

use super::{MemoryEntry, MemoryStats, pressure};
use crate::cgroup::directory::Directory;
use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Reads it from the version that has the controller.
pub(super) fn read(cgroup: &Cgroup) -> Result<MemoryStats, CgroupError> {
    let mut stats = MemoryStats::default();
    match cgroup.controller("memory", "memory") {
        None => {}
        Some(Controller::V1(directory)) => {
            read_raw(directory, &mut stats)?;
            stats.cache = stats.raw.get("cache").copied().unwrap_or(0);
            stats.usage = entry_v1(directory, "memory")?;
            stats.swap = entry_v1(directory, "memory.memsw")?;
            stats.kernel = entry_v1(directory, "memory.kmem")?;
            stats.kernel_tcp = entry_v1(directory, "memory.kmem.tcp")?;
        }
        Some(Controller::V2(directory)) => {
            read_raw(directory, &mut stats)?;
            stats.cache = stats.raw.get("file").copied().unwrap_or(0);
            stats.usage = entry_v2(directory, "memory")?;
            let swap = entry_v2(directory, "memory.swap")?;
            // v1 tells of both together, and so does what is printed; the most of both cannot be told.
            stats.swap = MemoryEntry {
                limit: swap.limit.saturating_add(stats.usage.limit),
                usage: swap.usage + stats.usage.usage,
                ..MemoryEntry::default()
            };
            stats.psi = pressure(directory, "memory.pressure")?;
        }
    }
    Ok(stats)
}

fn read_raw(directory: &Directory, stats: &mut MemoryStats) -> Result<(), CgroupError> {
    let text = directory.read_if_there("memory.stat")?.unwrap_or_default();
    stats.raw = text
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect();
    Ok(())
}

fn entry_v1(directory: &Directory, prefix: &str) -> Result<MemoryEntry, CgroupError> {
    let figure = |name: &str| -> Result<u64, CgroupError> {
        Ok(directory.figure(&format!("{prefix}.{name}"))?.unwrap_or(0))
    };
    Ok(MemoryEntry {
        limit: figure("limit_in_bytes")?,
        usage: figure("usage_in_bytes")?,
        max: figure("max_usage_in_bytes")?,
        failcnt: figure("failcnt")?,
    })
}

/// `peak` came with 5.19 and, for swap, 6.5; v2 counts no failures.
fn entry_v2(directory: &Directory, prefix: &str) -> Result<MemoryEntry, CgroupError> {
    let figure = |name: &str| -> Result<u64, CgroupError> {
        Ok(directory.figure(&format!("{prefix}.{name}"))?.unwrap_or(0))
    };
    Ok(MemoryEntry {
        limit: figure("max")?,
        usage: figure("current")?,
        max: figure("peak")?,
        failcnt: 0,
    })
}
