//! What a container may use, as cgroup limits.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder,
};
use serde::{Deserialize, Serialize};

use crate::machine;

/// The period of a CPU quota in microseconds, as Docker sets it.
const CPU_PERIOD: u64 = 100_000;

/// The least memory that a container can be started with.
const MINIMUM_MEMORY: i64 = 6 << 20;

/// Limits on what a container may use; nothing is limited by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit. Without it, swap is as much again as memory.
    pub memory_swap: Option<i64>,
    /// Processor time in thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Relative weight; 1024 is everyone's.
    pub cpu_shares: Option<u64>,
    /// The processors it may run on, as in `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// How many tasks it may have; -1 is no limit.
    pub pids: Option<i64>,
    /// Bytes a second read from block devices.
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes a second written to block devices.
    pub device_write_bps: Vec<DeviceRate>,
    /// Operations a second read from block devices.
    pub device_read_iops: Vec<DeviceRate>,
    /// Operations a second written to block devices.
    pub device_write_iops: Vec<DeviceRate>,
}

/// How fast a block device may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's node on the host.
    pub device: PathBuf,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// A limit that cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Not a size.
    #[error("{0:?} is not a size; write a number and b, k, m or g, for example 64m")]
    Size(String),
    /// Not a number of processors.
    #[error("{0:?} is not a number of processors; write for example 0.5 or 2")]
    Cpus(String),
    /// More processors than there are.
    #[error(
        "{} processors are more than the machine has ({have}); ask for {have} or fewer (--cpus)",
        *.asked_millis as f64 / 1000.0
    )]
    TooManyCpus {
        /// What was asked, in thousandths.
        asked_millis: u64,
        /// How many there are.
        have: u64,
    },
    /// Not a list of processors.
    #[error("{0:?} is not a list of processors; write for example 0-2,5 (--cpuset-cpus)")]
    CpuList(String),
    /// A processor that is not there.
    #[error(
        "the machine has the processors {online}, not all of {list}; name some of them (--cpuset-cpus)"
    )]
    NoSuchCpu {
        /// What was asked.
        list: String,
        /// What is there.
        online: String,
    },
    /// A resource limit that cannot be given.
    #[error(
        "--ulimit {name}: {asked} is above {most}, the most that can be given here; ask for that or less, or raise the limit of who runs dhow"
    )]
    AboveHardLimit {
        /// The resource.
        name: String,
        /// What was asked.
        asked: String,
        /// The most that can be had.
        most: u64,
    },
    /// Less memory than a container can start with.
    #[error("a memory limit of {0} bytes is too small; the least is 6m")]
    MemoryTooSmall(i64),
    /// Less memory and swap than memory.
    #[error(
        "a limit of {swap} bytes for memory and swap together is below the {memory} bytes for memory alone"
    )]
    SwapBelowMemory {
        /// Memory and swap.
        swap: i64,
        /// Memory.
        memory: i64,
    },
    /// A limit on both without a limit on memory.
    #[error("--memory-swap limits memory and swap together and needs --memory beside it")]
    SwapWithoutMemory,
    /// Not a block device.
    #[error("{} is not a block device; its rate cannot be limited", .0.display())]
    NotABlockDevice(PathBuf),
    /// The device's node could not be looked at.
    #[error("looking at the device {}", .device.display())]
    Device {
        /// The node.
        device: PathBuf,
        /// What the system answered.
        source: rustix::io::Errno,
    },
}

/// A number of bytes: `512`, `64k`, `64m`, `1.5g`, `2GiB`.
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<u64, LimitError> {
    let wrong = || LimitError::Size(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let split = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let scale = 1u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * scale as f64;
    if bytes.is_finite() && bytes < i64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// A number of processors, in thousandths: `0.5` is 500.
///
/// # Errors
/// When it is none, or not above zero.
pub fn parse_cpus(text: &str) -> Result<u64, LimitError> {
    let wrong = || LimitError::Cpus(text.to_owned());
    let number: f64 = text.trim().parse().map_err(|_| wrong())?;
    if number.is_finite() && (0.01..=100_000.0).contains(&number) {
        Ok((number * 1000.0).round() as u64)
    } else {
        Err(wrong())
    }
}

impl Limits {
    /// The limits as the runtime takes them, with device nodes looked up on the host.
    ///
    /// # Errors
    /// When they contradict each other, or a device is none.
    pub fn resources(&self) -> Result<LinuxResources, LimitError> {
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        resources.set_memory(self.memory()?);
        resources.set_cpu(self.cpu()?);
        resources.set_pids(self.pids.map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(if limit <= 0 { -1 } else { limit });
            pids
        }));
        resources.set_block_io(self.block_io()?);
        Ok(resources)
    }

    fn memory(&self) -> Result<Option<LinuxMemory>, LimitError> {
        let Some(limit) = self.memory else {
            return match self.memory_swap {
                Some(swap) if swap != -1 => Err(LimitError::SwapWithoutMemory),
                _ => Ok(None),
            };
        };
        if limit < MINIMUM_MEMORY {
            return Err(LimitError::MemoryTooSmall(limit));
        }
        let swap = match self.memory_swap {
            None | Some(0) => limit.saturating_mul(2),
            Some(swap) if swap != -1 && swap < limit => {
                return Err(LimitError::SwapBelowMemory {
                    swap,
                    memory: limit,
                });
            }
            Some(swap) => swap,
        };
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit)).set_swap(Some(swap));
        Ok(Some(memory))
    }

    fn cpu(&self) -> Result<Option<LinuxCpu>, LimitError> {
        if self.cpu_millis.is_none() && self.cpu_shares.is_none() && self.cpuset_cpus.is_none() {
            return Ok(None);
        }
        if let Some(online) = machine::processors() {
            self.check_processors(&online)?;
        }
        let mut cpu = LinuxCpu::default();
        if let Some(millis) = self.cpu_millis {
            cpu.set_period(Some(CPU_PERIOD));
            cpu.set_quota(i64::try_from(millis * CPU_PERIOD / 1000).ok());
        }
        cpu.set_shares(self.cpu_shares);
        cpu.set_cpus(self.cpuset_cpus.clone());
        Ok(Some(cpu))
    }

    /// Sees that nothing is asked beyond the processors that are there.
    fn check_processors(&self, online: &str) -> Result<(), LimitError> {
        if let Some(list) = &self.cpuset_cpus {
            machine::check_processors(list, online)?;
        }
        match (self.cpu_millis, machine::count(online)) {
            (Some(asked_millis), Some(have)) if asked_millis > have.saturating_mul(1000) => {
                Err(LimitError::TooManyCpus { asked_millis, have })
            }
            _ => Ok(()),
        }
    }

    fn block_io(&self) -> Result<Option<LinuxBlockIo>, LimitError> {
        let lists = [
            &self.device_read_bps,
            &self.device_write_bps,
            &self.device_read_iops,
            &self.device_write_iops,
        ];
        if lists.iter().all(|list| list.is_empty()) {
            return Ok(None);
        }
        let mut io = LinuxBlockIo::default();
        io.set_throttle_read_bps_device(throttles(&self.device_read_bps)?);
        io.set_throttle_write_bps_device(throttles(&self.device_write_bps)?);
        io.set_throttle_read_iops_device(throttles(&self.device_read_iops)?);
        io.set_throttle_write_iops_device(throttles(&self.device_write_iops)?);
        Ok(Some(io))
    }
}

fn throttles(rates: &[DeviceRate]) -> Result<Option<Vec<LinuxThrottleDevice>>, LimitError> {
    if rates.is_empty() {
        return Ok(None);
    }
    let throttle = |rate: &DeviceRate| {
        let stat = rustix::fs::stat(&rate.device).map_err(|source| LimitError::Device {
            device: rate.device.clone(),
            source,
        })?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device() {
            return Err(LimitError::NotABlockDevice(rate.device.clone()));
        }
        // The type has no setters, and its builder's error cannot occur: every field has a default.
        let throttle = LinuxThrottleDeviceBuilder::default()
            .major(i64::from(rustix::fs::major(stat.st_rdev)))
            .minor(i64::from(rustix::fs::minor(stat.st_rdev)))
            .rate(rate.rate)
            .build()
            .unwrap_or_default();
        Ok(throttle)
    };
    rates
        .iter()
        .map(throttle)
        .collect::<Result<_, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("512", 512),
            ("64k", 65536),
            ("64M", 64 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
            ("10 mb", 10 << 20),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3m", "99999999999999999999g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_read_in_thousandths() {
        assert_eq!(parse_cpus("0.5").unwrap(), 500);
        assert_eq!(parse_cpus("2").unwrap(), 2000);
        for text in ["0", "-1", "half", "NaN"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let limits = |memory, memory_swap| Limits {
            memory,
            memory_swap,
            ..Default::default()
        };
        assert!(limits(Some(1024), None).resources().is_err());
        assert!(limits(Some(64 << 20), Some(32 << 20)).resources().is_err());
        assert!(limits(None, Some(32 << 20)).resources().is_err());
        let memory = *limits(Some(64 << 20), None)
            .resources()
            .unwrap()
            .memory()
            .as_ref()
            .unwrap();
        assert_eq!(memory.swap(), Some(128 << 20));
    }

    #[test]
    fn no_more_processors_than_there_are_can_be_had() {
        let limits = |cpu_millis, list: &str| Limits {
            cpu_millis: Some(cpu_millis),
            cpuset_cpus: Some(list.to_owned()),
            ..Default::default()
        };
        limits(2000, "0-1").check_processors("0-1").unwrap();
        let many = limits(2001, "0").check_processors("0-1").unwrap_err();
        assert_eq!(
            many.to_string(),
            "2.001 processors are more than the machine has (2); ask for 2 or fewer (--cpus)"
        );
        let absent = limits(1000, "77").check_processors("0-1").unwrap_err();
        assert!(
            absent.to_string().contains("the processors 0-1"),
            "{absent}"
        );
        assert!(limits(100_000_000, "0").resources().is_err());
    }

    #[test]
    fn a_rate_needs_a_block_device() {
        let limits = Limits {
            device_read_bps: vec![DeviceRate {
                device: "/dev/null".into(),
                rate: 1,
            }],
            ..Default::default()
        };
        assert!(matches!(
            limits.resources(),
            Err(LimitError::NotABlockDevice(_))
        ));
    }
}
