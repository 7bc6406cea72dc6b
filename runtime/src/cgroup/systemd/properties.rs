//! Limits of the specification as properties of a unit (systemd.resource-control(5)).
//!
//! systemd is told so that it does not undo what is written to the cgroup's files afterwards, exactly as it was asked for: where a
//! property is coarser than the kernel, or there is none, the file holds.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::message::{Property, Value};
use crate::cgroup::{CgroupError, devices, limits};

/// What a unit is told, in terms of the host's cgroups and systemd's version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) v2: bool,
    pub(super) version: u32,
}

fn property(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

/// The properties for what is asked; `fresh` for a unit that is being made, which gets device rules always.
pub(super) fn of(
    resources: Option<&LinuxResources>,
    fresh: bool,
    host: Host,
) -> Result<Vec<Property>, CgroupError> {
    let rules = resources.and_then(|asked| asked.devices().as_deref());
    let mut found = Vec::new();
    if fresh || rules.is_some() {
        found.extend(devices::systemd::properties(rules.unwrap_or(&[]))?);
    }
    let Some(asked) = resources else {
        return Ok(found);
    };
    if let Some(memory) = asked.memory() {
        add_memory(memory, host, &mut found)?;
    }
    if let Some(cpu) = asked.cpu() {
        add_cpu(cpu, host, &mut found)?;
    }
    if let Some(pids) = asked.pids() {
        let tasks = match pids.limit() {
            // systemd does not take 0, and 1 is as good: the container's process is in.
            0 => 1,
            limit => unsigned(limit),
        };
        found.push(property("TasksMax", Value::U64(tasks)));
    }
    if let Some(io) = asked.block_io() {
        add_block_io(io, host, &mut found);
    }
    if host.v2 {
        for (file, value) in asked.unified().iter().flatten() {
            add_unified(file, value.trim(), host, &mut found)?;
        }
    }
    Ok(found)
}

/// Below 0 is no limit, which is the largest number here.
fn unsigned(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

fn add_memory(
    memory: &LinuxMemory,
    host: Host,
    found: &mut Vec<Property>,
) -> Result<(), CgroupError> {
    let asked = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = asked(memory.limit());
    if let Some(limit) = limit {
        let name = if host.v2 { "MemoryMax" } else { "MemoryLimit" };
        found.push(property(name, Value::U64(unsigned(limit))));
    }
    if !host.v2 {
        return Ok(());
    }
    if let Some(reservation) = asked(memory.reservation()) {
        found.push(property("MemoryLow", Value::U64(unsigned(reservation))));
    }
    if let Some(swap) = limits::swap_alone(limit, asked(memory.swap()))? {
        found.push(property("MemorySwapMax", Value::U64(unsigned(swap))));
    }
    Ok(())
}

fn add_cpu(cpu: &LinuxCpu, host: Host, found: &mut Vec<Property>) -> Result<(), CgroupError> {
    let shares = cpu.shares().filter(|shares| *shares != 0);
    // What is idle has no weight, and systemd's word for idle is the weight 0.
    if host.v2 && cpu.idle() == Some(1) && host.version >= 252 {
        found.push(property("CPUWeight", Value::U64(0)));
    } else if let Some(shares) = shares {
        found.push(match host.v2 {
            true => property("CPUWeight", Value::U64(limits::cpu_weight(shares))),
            false => property("CPUShares", Value::U64(shares)),
        });
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    add_quota(quota, period, host, found);
    for (name, list) in [
        ("AllowedCPUs", cpu.cpus()),
        ("AllowedMemoryNodes", cpu.mems()),
    ] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            add_set(name, list, host, found)?;
        }
    }
    Ok(())
}

fn add_quota(quota: Option<i64>, period: Option<u64>, host: Host, found: &mut Vec<Property>) {
    if let Some(period) = period.filter(|_| host.version >= 242) {
        found.push(property("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    if let Some(quota) = quota {
        // Of each second; systemd counts in hundredths of a processor, and less than what was asked for would be wrong.
        let of_second = u64::try_from(quota)
            .map(|quota| quota.saturating_mul(1_000_000) / period.unwrap_or(100_000))
            .map_or(u64::MAX, |share| share.next_multiple_of(10_000));
        found.push(property("CPUQuotaPerSecUSec", Value::U64(of_second)));
    }
}

/// Properties for these came with systemd 244.
fn add_set(
    name: &str,
    list: &str,
    host: Host,
    found: &mut Vec<Property>,
) -> Result<(), CgroupError> {
    let bits = bits(list).ok_or_else(|| CgroupError::Value {
        limit: "the choice of processors or memory nodes",
        reason: format!("{list:?} is no list such as 0-2,4"),
    })?;
    if host.version >= 244 {
        found.push(property(name, Value::Bytes(bits)));
    }
    Ok(())
}

/// `0-2,4` as bits, the first in the lowest place of the first byte.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > 0xffff {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        for one in first..=last {
            bits[one / 8] |= 1 << (one % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

fn add_block_io(io: &LinuxBlockIo, host: Host, found: &mut Vec<Property>) {
    let weight = io.weight().filter(|weight| *weight != 0);
    if !host.v2 {
        found.extend(weight.map(|weight| property("BlockIOWeight", Value::U64(weight.into()))));
        return;
    }
    found
        .extend(weight.map(|weight| property("IOWeight", Value::U64(limits::wide_weight(weight)))));
    let path = |major: i64, minor: i64| format!("/dev/block/{major}:{minor}");
    let weights: Vec<_> = io
        .weight_device()
        .iter()
        .flatten()
        .filter_map(|device| {
            let weight = device.weight().filter(|weight| *weight != 0)?;
            Some((
                path(device.major(), device.minor()),
                limits::wide_weight(weight),
            ))
        })
        .collect();
    if !weights.is_empty() {
        found.push(property("IODeviceWeight", Value::Limits(weights)));
    }
    let rates = |list: &Option<Vec<LinuxThrottleDevice>>| -> Vec<(String, u64)> {
        list.iter()
            .flatten()
            .map(|rate| {
                (
                    path(rate.major(), rate.minor()),
                    if rate.rate() == 0 {
                        u64::MAX
                    } else {
                        rate.rate()
                    },
                )
            })
            .collect()
    };
    for (name, list) in [
        ("IOReadBandwidthMax", io.throttle_read_bps_device()),
        ("IOWriteBandwidthMax", io.throttle_write_bps_device()),
        ("IOReadIOPSMax", io.throttle_read_iops_device()),
        ("IOWriteIOPSMax", io.throttle_write_iops_device()),
    ] {
        let rates = rates(list);
        if !rates.is_empty() {
            found.push(property(name, Value::Limits(rates)));
        }
    }
}

/// Files of the v2 tree for which systemd has a property; the others it does not touch.
fn add_unified(
    file: &str,
    value: &str,
    host: Host,
    found: &mut Vec<Property>,
) -> Result<(), CgroupError> {
    let wrong = || CgroupError::Value {
        limit: "a v2 setting under \"unified\"",
        reason: format!("{file}: {value:?} is not what it takes"),
    };
    let number = |text: &str| match text {
        "max" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|_| wrong()),
    };
    let name = match file {
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpu.idle" if value == "1" && host.version >= 252 => {
            found.push(property("CPUWeight", Value::U64(0)));
            return Ok(());
        }
        "cpu.max" => {
            let mut fields = value.split_whitespace();
            let quota = match fields.next() {
                None => return Err(wrong()),
                Some("max") => -1,
                Some(digits) => digits.parse().map_err(|_| wrong())?,
            };
            let period = fields.next().map(number).transpose()?;
            add_quota(Some(quota), period, host, found);
            return Ok(());
        }
        "cpuset.cpus" => return add_set("AllowedCPUs", value, host, found),
        "cpuset.mems" => return add_set("AllowedMemoryNodes", value, host, found),
        _ => return Ok(()),
    };
    let mut number = number(value)?;
    if name == "TasksMax" {
        number = number.max(1);
    }
    found.push(property(name, Value::U64(number)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host {
        v2: true,
        version: 252,
    };

    fn named(text: &str) -> Vec<(String, Value)> {
        let asked: LinuxResources = serde_json::from_str(text).unwrap();
        let mut found = of(Some(&asked), false, HOST).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    #[test]
    fn limits_are_told_in_systemds_words() {
        let number = |name: &str, number: u64| (name.to_owned(), Value::U64(number));
        let text = r#"{"memory": {"limit": 1048576, "swap": 3145728, "reservation": 4096}, "pids": {"limit": -1},
            "cpu": {"shares": 1024, "quota": 12345, "period": 50000, "cpus": "0-2,9"}}"#;
        assert_eq!(
            named(text),
            [
                ("AllowedCPUs".to_owned(), Value::Bytes(vec![7, 2])),
                number("CPUQuotaPerSecUSec", 250_000),
                number("CPUQuotaPeriodUSec", 50_000),
                number("CPUWeight", 100),
                number("MemoryLow", 4096),
                number("MemoryMax", 1_048_576),
                number("MemorySwapMax", 2_097_152),
                number("TasksMax", u64::MAX),
            ]
        );
        let text = r#"{"unified": {"cpu.max": "max 1000", "memory.high": "max", "pids.max": "0", "hugetlb.2MB.max": "0"}}"#;
        assert_eq!(
            named(text),
            [
                number("CPUQuotaPerSecUSec", u64::MAX),
                number("CPUQuotaPeriodUSec", 1000),
                number("MemoryHigh", u64::MAX),
                number("TasksMax", 1),
            ]
        );
    }

    #[test]
    fn a_list_of_processors_is_bits() {
        assert_eq!(bits("0"), Some(vec![1]));
        assert_eq!(bits("8, 0-1,"), Some(vec![3, 1]));
        for wrong in ["", "a", "3-1", "0-99999999"] {
            assert_eq!(bits(wrong), None, "{wrong}");
        }
    }
}
