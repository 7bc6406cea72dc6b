//! Processor time and which processors.

use oci_spec::runtime::LinuxCpu;
use rustix::io::Errno;

use super::wrong;
use crate::cgroup::directory::Directory;
use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Sets what is asked for.
pub(super) fn set(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    set_cpuset(cgroup, cpu)?;
    let wanted = Wanted {
        shares: cpu.shares().filter(|value| *value != 0),
        period: cpu.period().filter(|value| *value != 0),
        quota: cpu.quota().filter(|value| *value != 0),
        burst: cpu.burst(),
        idle: cpu.idle(),
        realtime_period: cpu.realtime_period().filter(|value| *value != 0),
        realtime_runtime: cpu.realtime_runtime().filter(|value| *value != 0),
    };
    if wanted.is_nothing() {
        return Ok(());
    }
    match cgroup.require("cpu", "cpu", "the limit on processor time")? {
        Controller::V1(directory) => set_v1(directory, &wanted),
        Controller::V2(directory) => set_v2(directory, &wanted),
    }
}

fn set_cpuset(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            let (Controller::V1(directory) | Controller::V2(directory)) = cgroup.require(
                "cpuset",
                "cpuset",
                "the choice of processors or memory nodes",
            )?;
            directory.write(file, value)?;
        }
    }
    Ok(())
}

/// What is asked for; a 0 is not, but for `burst` and `idle`.
#[derive(PartialEq, Eq)]
struct Wanted {
    shares: Option<u64>,
    /// Microseconds.
    period: Option<u64>,
    /// Microseconds of each period; below 0 is no limit.
    quota: Option<i64>,
    burst: Option<u64>,
    idle: Option<i64>,
    realtime_period: Option<u64>,
    realtime_runtime: Option<i64>,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        *self
            == Self {
                shares: None,
                period: None,
                quota: None,
                burst: None,
                idle: None,
                realtime_period: None,
                realtime_runtime: None,
            }
    }
}

fn set_v1(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    if let Some(shares) = wanted.shares {
        // The kernel would take the nearest value that it allows, and say nothing.
        if !(2..=262_144).contains(&shares) {
            return Err(wrong(
                "the CPU shares",
                format!("{shares} is not between 2 and 262144"),
            ));
        }
        directory.write("cpu.shares", &shares.to_string())?;
    }
    // A period or a burst that does not go with the quota there is may go with the one to come, so both are tried before
    // and, where they were refused, again after it.
    let has_quota = wanted.quota.is_some();
    let burst = wanted.burst.map(|burst| burst.to_string());
    let period = wanted.period.map(|period| period.to_string());
    let first = [("cpu.cfs_period_us", period), ("cpu.cfs_burst_us", burst)];
    let mut again = Vec::new();
    for (file, value) in first {
        let Some(value) = value else { continue };
        match directory.try_write(file, &value) {
            Err(Errno::INVAL) if has_quota => again.push((file, value)),
            other => other.map_err(|errno| directory.refused(file, &value, errno))?,
        }
    }
    if let Some(quota) = wanted.quota {
        directory.write("cpu.cfs_quota_us", &quota.to_string())?;
    }
    for (file, value) in again {
        directory.write(file, &value)?;
    }
    if let Some(idle) = wanted.idle {
        directory.write("cpu.idle", &idle.to_string())?;
    }
    set_realtime(directory, wanted)
}

/// The period again after the runtime, as with quotas.
fn set_realtime(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    let file = "cpu.rt_period_us";
    let mut again = None;
    if let Some(period) = wanted.realtime_period.map(|period| period.to_string()) {
        match directory.try_write(file, &period) {
            Err(Errno::INVAL) if wanted.realtime_runtime.is_some() => again = Some(period),
            other => other.map_err(|errno| directory.refused(file, &period, errno))?,
        }
    }
    if let Some(runtime) = wanted.realtime_runtime {
        directory.write("cpu.rt_runtime_us", &runtime.to_string())?;
    }
    match again {
        Some(period) => directory.write(file, &period),
        None => Ok(()),
    }
}

fn set_v2(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    if wanted.realtime_period.is_some() || wanted.realtime_runtime.is_some() {
        return Err(wrong(
            "the share of realtime tasks",
            "only cgroup v1 has it, and this host has v2; leave it away",
        ));
    }
    if let Some(idle) = wanted.idle {
        directory.write("cpu.idle", &idle.to_string())?;
    }
    // An idle cgroup has no weight, and the kernel refuses one.
    if let (Some(shares), None | Some(0)) = (wanted.shares, wanted.idle) {
        directory.write("cpu.weight", &weight(shares).to_string())?;
    }
    let mut burst = wanted.burst.map(|burst| burst.to_string());
    if let Some(value) = &burst {
        match directory.try_write("cpu.max.burst", value) {
            Err(Errno::INVAL) if wanted.quota.is_some() => {}
            other => {
                other.map_err(|errno| directory.refused("cpu.max.burst", value, errno))?;
                burst = None;
            }
        }
    }
    if wanted.quota.is_some() || wanted.period.is_some() {
        directory.write("cpu.max", &maximum(directory, wanted)?)?;
    }
    match burst {
        Some(value) => directory.write("cpu.max.burst", &value),
        None => Ok(()),
    }
}

/// `QUOTA PERIOD`; what is not asked for stays as it is.
fn maximum(directory: &Directory, wanted: &Wanted) -> Result<String, CgroupError> {
    let now = match (wanted.quota, wanted.period) {
        (Some(_), Some(_)) => String::new(),
        _ => directory.read("cpu.max")?,
    };
    let mut now = now.split_whitespace();
    let (quota_now, period_now) = (now.next(), now.next());
    let quota = match wanted.quota {
        Some(quota) if quota > 0 => quota.to_string(),
        Some(_) => "max".to_owned(),
        None => quota_now.unwrap_or("max").to_owned(),
    };
    let period = match wanted.period {
        Some(period) => period.to_string(),
        None => period_now.unwrap_or("100000").to_owned(),
    };
    Ok(format!("{quota} {period}"))
}

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default).
///
/// The curve that runc and crun took up in 2025: a parabola of the logarithms through the least, the default and the
/// largest of both scales. The straight line before it made of the default shares a weight of 39.
pub(in crate::cgroup) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_the_default_and_the_largest_shares_keep_their_places() {
        for (shares, expected) in [
            (1, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1 << 40, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        let all: Vec<u64> = (2..20_000).map(weight).collect();
        assert!(all.is_sorted(), "more shares never weigh less");
    }
}
