//! What a cgroup uses.

use serde::Serialize;

use super::directory::{Directory, find_entry};
use super::processes::below;
use super::{Cgroup, CgroupError, Controller};

/// What a cgroup uses now; a part is missing where its controller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuStats {
    /// Nanoseconds used by all processors together.
    pub usage_ns: u64,
    /// Of these, in user mode.
    pub user_ns: u64,
    /// Of these, in the kernel.
    pub system_ns: u64,
    /// Periods of the quota that have gone by.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds that were waited because of it.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStats {
    /// In use now, with the page cache.
    pub usage: u64,
    /// The most that was in use.
    pub peak: Option<u64>,
    /// The limit; none when there is no limit.
    pub limit: Option<u64>,
    /// Anonymous memory.
    pub anonymous: u64,
    /// Page cache.
    pub file: u64,
    /// Page cache that was not used lately; what is in use without it is what people call "used".
    pub inactive_file: u64,
    /// Processes killed since memory was over the limit.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; none when there is no limit.
    pub limit: Option<u64>,
}

impl Cgroup {
    /// How many processes the kernel killed in it because memory was over the limit; none without a memory controller.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.controller("memory", "memory") {
            None => Ok(0),
            // With those below it.
            Some(Controller::V2(directory)) => {
                Ok(directory.entry("memory.events", "oom_kill")?.unwrap_or(0))
            }
            Some(Controller::V1(directory)) => oom_kills_v1(directory),
        }
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats()?,
        })
    }

    fn cpu_stats(&self) -> Result<Option<CpuStats>, CgroupError> {
        let mut stats = CpuStats::default();
        if let Some(directory) = self.v1("cpuacct") {
            stats.usage_ns = directory.number("cpuacct.usage")?.unwrap_or(0);
            stats.user_ns = directory.number("cpuacct.usage_user")?.unwrap_or(0);
            stats.system_ns = directory.number("cpuacct.usage_sys")?.unwrap_or(0);
        }
        if let Some(directory) = self.v1("cpu") {
            let text = directory.read("cpu.stat")?;
            let entry = |name| find_entry(&text, name).unwrap_or(0);
            stats.periods = entry("nr_periods");
            stats.throttled_periods = entry("nr_throttled");
            stats.throttled_ns = entry("throttled_time");
            return Ok(Some(stats));
        }
        // Every v2 cgroup counts time, also without the controller.
        let Some(directory) = self.v2() else {
            return Ok(None);
        };
        let text = directory.read("cpu.stat")?;
        let nanoseconds = |name| find_entry(&text, name).unwrap_or(0).saturating_mul(1000);
        stats.usage_ns = nanoseconds("usage_usec");
        stats.user_ns = nanoseconds("user_usec");
        stats.system_ns = nanoseconds("system_usec");
        stats.periods = find_entry(&text, "nr_periods").unwrap_or(0);
        stats.throttled_periods = find_entry(&text, "nr_throttled").unwrap_or(0);
        stats.throttled_ns = nanoseconds("throttled_usec");
        Ok(Some(stats))
    }

    fn memory_stats(&self) -> Result<Option<MemoryStats>, CgroupError> {
        let (directory, files, names) = match self.controller("memory", "memory") {
            None => return Ok(None),
            Some(Controller::V1(directory)) => (
                directory,
                [
                    "memory.usage_in_bytes",
                    "memory.max_usage_in_bytes",
                    "memory.limit_in_bytes",
                ],
                ["total_rss", "total_cache", "total_inactive_file"],
            ),
            Some(Controller::V2(directory)) => (
                directory,
                ["memory.current", "memory.peak", "memory.max"],
                ["anon", "file", "inactive_file"],
            ),
        };
        let text = directory.read("memory.stat")?;
        let entry = |name| find_entry(&text, name).unwrap_or(0);
        Ok(Some(MemoryStats {
            usage: directory.number(files[0])?.unwrap_or(0),
            // memory.peak came with 5.19.
            peak: directory.number(files[1]).ok().flatten(),
            limit: directory.number(files[2])?,
            anonymous: entry(names[0]),
            file: entry(names[1]),
            inactive_file: entry(names[2]),
            oom_kills: self.oom_kills()?,
        }))
    }

    fn pids_stats(&self) -> Result<Option<PidsStats>, CgroupError> {
        let Some(Controller::V1(directory) | Controller::V2(directory)) =
            self.controller("pids", "pids")
        else {
            return Ok(None);
        };
        Ok(Some(PidsStats {
            current: directory.number("pids.current")?.unwrap_or(0),
            limit: directory.number("pids.max")?,
        }))
    }
}

/// v1 counts each directory for itself.
fn oom_kills_v1(directory: &Directory) -> Result<u64, CgroupError> {
    let mut sum = directory
        .entry("memory.oom_control", "oom_kill")?
        .unwrap_or(0);
    let children = below(directory).map_err(|source| CgroupError::Read {
        file: directory.path().to_owned(),
        source,
    })?;
    for child in children {
        sum += oom_kills_v1(&child).unwrap_or(0);
    }
    Ok(sum)
}
