//! What a cgroup uses, in the shape in which runc's `events` prints it.

mod block_io;
mod cpu;
mod memory;
mod others;
mod resctrl;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::directory::Directory;
use super::processes::below;
use super::{Cgroup, CgroupError, Controller};

pub use resctrl::{BandwidthStats, CacheInfo, IntelRdtStats, MemoryBandwidthInfo, OccupancyStats};

/// What a cgroup uses now (runc's `types.Stats`); what a controller that is missing would tell is 0 or absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Which processors and memory nodes; v1 only, as in runc.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: BlockIoStats,
    /// Huge pages, by the kernel's name of their size (`2MB`).
    pub hugetlb: BTreeMap<String, HugepageStats>,
    /// Devices for remote memory access; runc reads these too and does not print them.
    #[serde(skip_serializing_if = "is_default")]
    pub rdma: RdmaStats,
    /// Cache and memory bandwidth; filled by who knows the container's resctrl group, see [`IntelRdtStats::read`].
    pub intel_rdt: IntelRdtStats,
    /// Always `null`: the interfaces of a container that was made from a bundle are nothing that runc knows either.
    pub network_interfaces: (),
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Time used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    /// Time waited because of the quota.
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    /// How long tasks waited for a processor; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time used, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// By all processors together.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    /// By each processor; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By each in the kernel; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By each in user mode; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// By all in the kernel.
    pub kernel: u64,
    /// By all in user mode.
    pub user: u64,
}

/// What the quota did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have gone by.
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    /// Periods in which it was used up.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    /// Nanoseconds that were waited because of it.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

/// How long tasks waited for something (PSI).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some of them.
    #[serde(skip_serializing_if = "is_default")]
    pub some: PressureFigures,
    /// All of them.
    #[serde(skip_serializing_if = "is_default")]
    pub full: PressureFigures,
}

/// Shares in percent over a time, and microseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PressureFigures {
    /// Over the last 10 seconds.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last 5 minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup is there.
    pub total: u64,
}

/// What v1's cpuset files tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // Each is the file of its name.
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Page cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    /// All memory.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    /// Memory and swap together, in both versions.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    /// The kernel's; v1 only.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    /// The kernel's for TCP; v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// The whole of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How long tasks waited for memory; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// The limit; the largest number where v2 has none.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most that was in use.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// The limit; 0 when there is none.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Block devices, with v1's names for both versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIoStats {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Operations that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlockIoEntry>,
    /// Nanoseconds that devices worked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    /// Nanoseconds that operations waited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    /// Operations that became one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    /// Milliseconds of a device's time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    /// How long tasks waited for devices; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One figure of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    /// `Read`, `Write` and such.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The figure.
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugepageStats {
    /// Reserved or in use.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most that was; v1 only.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Devices for remote memory access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaStats {
    /// The limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_limit: Vec<RdmaEntry>,
    /// What is in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_current: Vec<RdmaEntry>,
}

/// One device for remote memory access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles; the largest number where there is no limit.
    pub hca_handles: u32,
    /// Objects; the largest number where there is no limit.
    pub hca_objects: u32,
}

/// Whether a figure is left out, as Go's `omitempty` leaves it out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Cgroup {
    /// What it uses now.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: cpu::read(self)?,
            cpuset: others::cpuset(self)?,
            memory: memory::read(self)?,
            pids: others::pids(self)?,
            blkio: block_io::read(self)?,
            hugetlb: others::hugepages(self)?,
            rdma: others::rdma(self)?,
            intel_rdt: IntelRdtStats::default(),
            network_interfaces: (),
        })
    }

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
}

impl Stats {
    /// Adds what the container's resctrl group tells (a directory below /sys/fs/resctrl).
    ///
    /// # Errors
    /// When the group is not there.
    pub fn add_intel_rdt(&mut self, group: &Path) -> Result<(), CgroupError> {
        self.intel_rdt = IntelRdtStats::read(group)?;
        Ok(())
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

/// A `*.pressure` file; none where the kernel keeps none, or keeps none for this cgroup.
fn pressure(directory: &Directory, file: &str) -> Result<Option<Pressure>, CgroupError> {
    let Some(text) = directory.read_if_there(file)? else {
        return Ok(None);
    };
    let figures = |kind: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        let mut figures = PressureFigures::default();
        for (key, value) in line
            .unwrap_or_default()
            .split(' ')
            .filter_map(|field| field.split_once('='))
        {
            match key {
                "avg10" => figures.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => figures.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => figures.avg300 = value.parse().unwrap_or(0.0),
                "total" => figures.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        figures
    };
    Ok(Some(Pressure {
        some: figures("some"),
        full: figures("full"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        std::fs::write(dir.path().join("cpu.pressure"), text).unwrap();
        let directory = Directory::new(dir.path().to_owned());
        let read = pressure(&directory, "cpu.pressure").unwrap().unwrap();
        assert_eq!(
            (read.some.avg10, read.some.total, read.full.total),
            (1.5, 42, 7)
        );
        assert_eq!(pressure(&directory, "io.pressure").unwrap(), None);
    }

    #[test]
    fn nothing_is_printed_as_runc_prints_nothing() {
        let text = serde_json::to_value(Stats::default()).unwrap();
        assert_eq!(text["cpu"], serde_json::json!({}));
        assert_eq!(text["memory"], serde_json::json!({}));
        assert_eq!(text["pids"], serde_json::json!({}));
        assert_eq!(text["cpuset"]["mem_hardwall"], 0);
        assert_eq!(text["hugetlb"], serde_json::json!({}));
        assert!(text["network_interfaces"].is_null());
        assert!(text.get("rdma").is_none());
    }
}
