//! Block devices: weights and rates.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};
use rustix::io::Errno;

use super::wrong;
use crate::cgroup::directory::Directory;
use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Sets what is asked for.
pub(super) fn set(cgroup: &Cgroup, io: &LinuxBlockIo) -> Result<(), CgroupError> {
    let rates = rates(io);
    let weights: Vec<&LinuxWeightDevice> = io.weight_device().iter().flatten().collect();
    let weight = io.weight().filter(|weight| *weight != 0);
    let leaf_weight = io.leaf_weight().filter(|weight| *weight != 0);
    if rates.is_empty() && weights.is_empty() && weight.is_none() && leaf_weight.is_none() {
        return Ok(());
    }
    match cgroup.require("blkio", "io", "the limit on block devices")? {
        Controller::V1(directory) => {
            if let Some(weight) = weight {
                write_weight(directory, V1_WEIGHT, &weight.to_string())?;
            }
            if let Some(weight) = leaf_weight {
                write_weight(directory, &["blkio.leaf_weight"], &weight.to_string())?;
            }
            for device in weights {
                set_device_weight_v1(directory, device)?;
            }
            rates
                .iter()
                .try_for_each(|(file, _, rate)| directory.write(file, &entry(rate, "")))
        }
        Controller::V2(directory) => {
            if leaf_weight.is_some() || weights.iter().any(|d| d.leaf_weight().is_some()) {
                return Err(wrong(
                    "the leaf weight of block devices",
                    "only cgroup v1 has it, and this host has v2; leave it away",
                ));
            }
            if let Some(weight) = weight {
                set_weight_v2(directory, weight)?;
            }
            for device in weights {
                set_device_weight_v2(directory, device)?;
            }
            rates
                .iter()
                .try_for_each(|(_, key, rate)| directory.write("io.max", &entry(rate, key)))
        }
    }
}

const V1_WEIGHT: &[&str] = &["blkio.weight", "blkio.bfq.weight"];
const V1_WEIGHT_DEVICE: &[&str] = &["blkio.weight_device", "blkio.bfq.weight_device"];

/// Every rate with its v1 file and its v2 key.
fn rates(io: &LinuxBlockIo) -> Vec<(&'static str, &'static str, &LinuxThrottleDevice)> {
    let lists = [
        (
            "blkio.throttle.read_bps_device",
            "rbps=",
            io.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            "wbps=",
            io.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            "riops=",
            io.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            "wiops=",
            io.throttle_write_iops_device(),
        ),
    ];
    lists
        .into_iter()
        .flat_map(|(file, key, list)| list.iter().flatten().map(move |rate| (file, key, rate)))
        .collect()
}

/// `MAJOR:MINOR RATE`, with a key before the rate; a rate of 0 is none.
fn entry(rate: &LinuxThrottleDevice, key: &str) -> String {
    let value = match rate.rate() {
        0 if !key.is_empty() => "max".to_owned(),
        value => value.to_string(),
    };
    format!("{}:{} {key}{value}", rate.major(), rate.minor())
}

/// Writes to the first of the files that there is: which one depends on the I/O scheduler.
fn write_weight(directory: &Directory, files: &[&str], value: &str) -> Result<(), CgroupError> {
    for file in files {
        match directory.try_write(file, value) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| directory.refused(file, value, errno)),
        }
    }
    Err(wrong(
        "the weight on block devices",
        "this kernel has no I/O scheduler that weighs (load the module bfq), or leave it away",
    ))
}

fn set_device_weight_v1(
    directory: &Directory,
    device: &LinuxWeightDevice,
) -> Result<(), CgroupError> {
    let entry = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
    if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
        write_weight(directory, V1_WEIGHT_DEVICE, &entry(weight))?;
    }
    match device.leaf_weight().filter(|weight| *weight != 0) {
        Some(weight) => write_weight(directory, &["blkio.leaf_weight_device"], &entry(weight)),
        None => Ok(()),
    }
}

/// BFQ takes the specification's scale of 10 to 1000; io.weight goes from 1 to 10000.
fn set_weight_v2(directory: &Directory, weight: u16) -> Result<(), CgroupError> {
    match directory.try_write("io.bfq.weight", &weight.to_string()) {
        Err(Errno::NOENT) => write_weight(
            directory,
            &["io.weight"],
            &format!("default {}", wide_weight(weight)),
        ),
        other => {
            other.map_err(|errno| directory.refused("io.bfq.weight", &weight.to_string(), errno))
        }
    }
}

fn set_device_weight_v2(
    directory: &Directory,
    device: &LinuxWeightDevice,
) -> Result<(), CgroupError> {
    let Some(weight) = device.weight().filter(|weight| *weight != 0) else {
        return Ok(());
    };
    let entry = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
    let value = entry(weight.into());
    match directory.try_write("io.bfq.weight", &value) {
        Err(Errno::NOENT) => write_weight(directory, &["io.weight"], &entry(wide_weight(weight))),
        other => other.map_err(|errno| directory.refused("io.bfq.weight", &value, errno)),
    }
}

/// 10 to 1000 spread over 1 to 10000, as runc does.
pub(in crate::cgroup) fn wide_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxThrottleDeviceBuilder;

    #[test]
    fn weights_are_spread_over_the_whole_scale() {
        assert_eq!(wide_weight(10), 1);
        assert_eq!(wide_weight(1000), 10_000);
    }

    #[test]
    fn no_rate_is_written_as_each_version_has_it() {
        let rate = |rate: u64| {
            LinuxThrottleDeviceBuilder::default()
                .major(8)
                .minor(16)
                .rate(rate)
                .build()
                .unwrap()
        };
        assert_eq!(entry(&rate(0), "rbps="), "8:16 rbps=max");
        assert_eq!(entry(&rate(0), ""), "8:16 0");
        assert_eq!(entry(&rate(1024), "wiops="), "8:16 wiops=1024");
    }
}
