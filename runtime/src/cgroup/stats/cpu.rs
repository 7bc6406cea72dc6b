//! Processor time.

use super::{CpuStats, Throttling, pressure};
use crate::cgroup::directory::{Directory, find_entry};
use crate::cgroup::{Cgroup, CgroupError};

/// In v1 the parts are told in these, a hundredth of a second, whatever the kernel's own clock is (USER_HZ).
const TICK_NANOSECONDS: u64 = 10_000_000;

/// Reads it from wherever it is counted.
pub(super) fn read(cgroup: &Cgroup) -> Result<CpuStats, CgroupError> {
    let mut stats = CpuStats::default();
    let account = cgroup.v1("cpuacct");
    if let Some(directory) = account {
        account_v1(directory, &mut stats)?;
    }
    match (cgroup.v1("cpu"), cgroup.v2()) {
        (Some(directory), _) => throttling_v1(directory, &mut stats)?,
        // Every v2 cgroup counts time, also without the controller; on a hybrid host v1 has counted it already.
        (None, Some(directory)) if account.is_none() => read_v2(directory, &mut stats)?,
        _ => {}
    }
    Ok(stats)
}

fn account_v1(directory: &Directory, stats: &mut CpuStats) -> Result<(), CgroupError> {
    let usage = &mut stats.usage;
    usage.total = directory.figure("cpuacct.usage")?.unwrap_or(0);
    if let Some(text) = directory.read_if_there("cpuacct.stat")? {
        let part = |name| find_entry(&text, name).unwrap_or(0) * TICK_NANOSECONDS;
        usage.user = part("user");
        usage.kernel = part("system");
    }
    let text = directory
        .read_if_there("cpuacct.usage_percpu")?
        .unwrap_or_default();
    usage.percpu = text
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let text = directory
        .read_if_there("cpuacct.usage_all")?
        .unwrap_or_default();
    // `cpu user system` with a line for each.
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        if let (Some(user), Some(kernel)) = (fields.next(), fields.next()) {
            usage.percpu_user.push(user.parse().unwrap_or(0));
            usage.percpu_kernel.push(kernel.parse().unwrap_or(0));
        }
    }
    Ok(())
}

fn throttling_v1(directory: &Directory, stats: &mut CpuStats) -> Result<(), CgroupError> {
    if let Some(text) = directory.read_if_there("cpu.stat")? {
        let entry = |name| find_entry(&text, name).unwrap_or(0);
        stats.throttling = Throttling {
            periods: entry("nr_periods"),
            throttled_periods: entry("nr_throttled"),
            throttled_time: entry("throttled_time"),
        };
    }
    Ok(())
}

fn read_v2(directory: &Directory, stats: &mut CpuStats) -> Result<(), CgroupError> {
    if let Some(text) = directory.read_if_there("cpu.stat")? {
        let entry = |name| find_entry(&text, name).unwrap_or(0);
        let nanoseconds = |name| entry(name).saturating_mul(1000);
        stats.usage.total = nanoseconds("usage_usec");
        stats.usage.user = nanoseconds("user_usec");
        stats.usage.kernel = nanoseconds("system_usec");
        stats.throttling = Throttling {
            periods: entry("nr_periods"),
            throttled_periods: entry("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        };
    }
    stats.psi = pressure(directory, "cpu.pressure")?;
    Ok(())
}
