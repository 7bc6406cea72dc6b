//! The small controllers: tasks, processors and memory nodes, huge pages, remote memory access.

use std::collections::BTreeMap;

use super::{CpusetStats, HugepageStats, PidsStats, RdmaEntry, RdmaStats};
use crate::cgroup::directory::{Directory, find_entry};
use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Tasks; without the controller the processes are counted.
pub(super) fn pids(cgroup: &Cgroup) -> Result<PidsStats, CgroupError> {
    if let Some(Controller::V1(directory) | Controller::V2(directory)) =
        cgroup.controller("pids", "pids")
        && let Some(current) = directory.figure("pids.current")?
    {
        let limit = directory.figure("pids.max")?.unwrap_or(u64::MAX);
        return Ok(PidsStats {
            current,
            limit: if limit == u64::MAX { 0 } else { limit },
        });
    }
    Ok(PidsStats {
        current: cgroup.processes()?.len() as u64,
        limit: 0,
    })
}

/// Processors and memory nodes.
pub(super) fn cpuset(cgroup: &Cgroup) -> Result<CpusetStats, CgroupError> {
    let Some(directory) = cgroup.v1("cpuset") else {
        return Ok(CpusetStats::default());
    };
    let figure = |name: &str| -> Result<u64, CgroupError> {
        Ok(directory.figure(&format!("cpuset.{name}"))?.unwrap_or(0))
    };
    let set = |name: &str| -> Result<Vec<u16>, CgroupError> {
        let text = directory.read_if_there(&format!("cpuset.{name}"))?;
        Ok(numbers(text.unwrap_or_default().trim()))
    };
    let level = directory.read_if_there("cpuset.sched_relax_domain_level")?;
    Ok(CpusetStats {
        cpus: set("cpus")?,
        cpu_exclusive: figure("cpu_exclusive")?,
        mems: set("mems")?,
        mem_hardwall: figure("mem_hardwall")?,
        mem_exclusive: figure("mem_exclusive")?,
        memory_migrate: figure("memory_migrate")?,
        memory_spread_page: figure("memory_spread_page")?,
        memory_spread_slab: figure("memory_spread_slab")?,
        memory_pressure: figure("memory_pressure")?,
        sched_load_balance: figure("sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

/// `0-2,5` as four numbers.
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Huge pages of every size that the kernel has.
pub(super) fn hugepages(cgroup: &Cgroup) -> Result<BTreeMap<String, HugepageStats>, CgroupError> {
    let mut all = BTreeMap::new();
    let Some(controller) = cgroup.controller("hugetlb", "hugetlb") else {
        return Ok(all);
    };
    for size in page_sizes() {
        let stats = match controller {
            Controller::V1(directory) => hugepages_v1(directory, &size)?,
            Controller::V2(directory) => hugepages_v2(directory, &size)?,
        };
        all.extend(stats.map(|stats| (size, stats)));
    }
    Ok(all)
}

/// With what is reserved, which kernels since 5.7 count.
fn hugepages_v1(directory: &Directory, size: &str) -> Result<Option<HugepageStats>, CgroupError> {
    for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
        let Some(usage) = directory.figure(&format!("{prefix}.usage_in_bytes"))? else {
            continue;
        };
        let max = directory.figure(&format!("{prefix}.max_usage_in_bytes"))?;
        let failcnt = directory.figure(&format!("{prefix}.failcnt"))?;
        return Ok(Some(HugepageStats {
            usage,
            max: max.unwrap_or(0),
            failcnt: failcnt.unwrap_or(0),
        }));
    }
    Ok(None)
}

fn hugepages_v2(directory: &Directory, size: &str) -> Result<Option<HugepageStats>, CgroupError> {
    for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
        let Some(usage) = directory.figure(&format!("{prefix}.current"))? else {
            continue;
        };
        let events = directory.read_if_there(&format!("hugetlb.{size}.events"))?;
        return Ok(Some(HugepageStats {
            usage,
            max: 0,
            failcnt: find_entry(&events.unwrap_or_default(), "max").unwrap_or(0),
        }));
    }
    Ok(None)
}

/// The sizes of huge pages, as the kernel names them in cgroups' files.
pub(in crate::cgroup) fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let kibibytes = name.to_str()?.strip_prefix("hugepages-")?;
            size_name(kibibytes.strip_suffix("kB")?.parse().ok()?)
        })
        .collect()
}

fn size_name(kibibytes: u64) -> Option<String> {
    match kibibytes {
        0 => None,
        1..1024 => Some(format!("{kibibytes}KB")),
        1024..1_048_576 => Some(format!("{}MB", kibibytes >> 10)),
        _ => Some(format!("{}GB", kibibytes >> 20)),
    }
}

/// Devices for remote memory access; both versions have the same files.
pub(super) fn rdma(cgroup: &Cgroup) -> Result<RdmaStats, CgroupError> {
    let Some(Controller::V1(directory) | Controller::V2(directory)) =
        cgroup.controller("rdma", "rdma")
    else {
        return Ok(RdmaStats::default());
    };
    let read = |file: &str| -> Result<Vec<RdmaEntry>, CgroupError> {
        let text = directory.read_if_there(file)?.unwrap_or_default();
        Ok(text.lines().filter_map(rdma_entry).collect())
    };
    Ok(RdmaStats {
        rdma_limit: read("rdma.max")?,
        rdma_current: read("rdma.current")?,
    })
}

/// `mlx4_0 hca_handle=2 hca_object=max`.
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut fields = line.split_whitespace();
    let mut entry = RdmaEntry {
        device: fields.next()?.to_owned(),
        ..RdmaEntry::default()
    };
    for (key, value) in fields.filter_map(|field| field.split_once('=')) {
        let value = match value {
            "max" => u32::MAX,
            number => number.parse().ok()?,
        };
        match key {
            "hca_handle" => entry.hca_handles = value,
            "hca_object" => entry.hca_objects = value,
            _ => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_sizes_and_entries_are_read() {
        assert_eq!(numbers("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(numbers(""), Vec::<u16>::new());
        assert_eq!(size_name(64).as_deref(), Some("64KB"));
        assert_eq!(size_name(2048).as_deref(), Some("2MB"));
        assert_eq!(size_name(1_048_576).as_deref(), Some("1GB"));
        let entry = rdma_entry("mlx4_0 hca_handle=2 hca_object=max").unwrap();
        assert_eq!((entry.hca_handles, entry.hca_objects), (2, u32::MAX));
    }
}
