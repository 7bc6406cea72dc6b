//! Limits of the specification as what the files of v1 and v2 controllers take.
//!
//! As in runc a value of 0 means that nothing is asked for, where the controller has no use for 0.

mod block_io;
mod cpu;
mod hugepages;
mod memory;
mod network;
mod unified;

pub(super) use block_io::wide_weight;
pub(super) use cpu::weight as cpu_weight;
pub(super) use memory::swap_alone;

use oci_spec::runtime::{LinuxPids, LinuxResources};

use super::{Cgroup, CgroupError, Controller, devices};

/// Sets what is asked for; on a cgroup that was just made also what holds when nothing is asked for.
pub(super) fn set(
    cgroup: &Cgroup,
    resources: Option<&LinuxResources>,
    fresh: bool,
) -> Result<(), CgroupError> {
    let rules = resources.and_then(|asked| asked.devices().as_deref());
    if fresh || rules.is_some() {
        devices::set(cgroup, rules, fresh)?;
    }
    let Some(asked) = resources else {
        return Ok(());
    };
    if let Some(pids) = asked.pids() {
        set_pids(cgroup, pids)?;
    }
    if let Some(memory) = asked.memory() {
        memory::set(cgroup, memory)?;
    }
    if let Some(io) = asked.block_io() {
        block_io::set(cgroup, io)?;
    }
    if let Some(cpu) = asked.cpu() {
        cpu::set(cgroup, cpu)?;
    }
    for limit in asked.hugepage_limits().iter().flatten() {
        hugepages::set(cgroup, limit)?;
    }
    if let Some(network) = asked.network() {
        network::set(cgroup, network)?;
    }
    for (device, limit) in asked.rdma().iter().flatten() {
        network::set_rdma(cgroup, device, limit)?;
    }
    for (file, value) in asked.unified().iter().flatten() {
        unified::set(cgroup, file, value)?;
    }
    Ok(())
}

/// Whether a limit is asked for whose controller is not in v1.
pub(super) fn need_v2(asked: &LinuxResources, in_v1: impl Fn(&str) -> bool) -> bool {
    let some = |list: usize| list > 0;
    let families = [
        ("pids", asked.pids().is_some()),
        ("memory", asked.memory().is_some()),
        ("blkio", asked.block_io().is_some()),
        ("cpu", asked.cpu().is_some()),
        ("cpuset", asked.cpu().is_some()),
        (
            "hugetlb",
            some(asked.hugepage_limits().iter().flatten().count()),
        ),
        ("rdma", some(asked.rdma().iter().flatten().count())),
        ("", some(asked.unified().iter().flatten().count())),
    ];
    families
        .iter()
        .any(|(name, is_asked)| *is_asked && !in_v1(name))
}

/// Both versions have the same file.
fn set_pids(cgroup: &Cgroup, pids: &LinuxPids) -> Result<(), CgroupError> {
    let value = match pids.limit() {
        // As in runc: a container needs its first process at the least.
        0 => "1".to_owned(),
        limit if limit > 0 => limit.to_string(),
        _ if cgroup.controller("pids", "pids").is_none() => return Ok(()),
        _ => "max".to_owned(),
    };
    let (Controller::V1(directory) | Controller::V2(directory)) =
        cgroup.require("pids", "pids", "the limit on the number of processes")?;
    directory.write("pids.max", &value)
}

/// The error for a limit that only the other version of cgroups has, or a value that cannot be.
pub(super) fn wrong(limit: &'static str, reason: impl Into<String>) -> CgroupError {
    CgroupError::Value {
        limit,
        reason: reason.into(),
    }
}
