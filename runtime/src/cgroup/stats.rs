//! What a cgroup uses.

use serde::Serialize;

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
