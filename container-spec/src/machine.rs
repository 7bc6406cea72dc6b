//! What the machine has of what a container may ask for: where it has less, that is told before anything is made.

use rustix::process::Resource;

use crate::{LimitError, Rlimit};

/// Where the kernel lists the processors that are online, as in `0-3,6`.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// The most descriptors that any process may have.
const MOST_DESCRIPTORS: &str = "/proc/sys/fs/nr_open";
/// The capability that raises limits, as its bit.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The processors that are online, as the kernel lists them; none where it does not say.
pub(crate) fn processors() -> Option<String> {
    let text = std::fs::read_to_string(ONLINE).ok()?;
    Some(text.trim().to_owned())
}

/// Whether a list of processors (`0-2,5`) names only those of `online`.
///
/// # Errors
/// When it is no such list, or names others.
pub(crate) fn check_processors(asked: &str, online: &str) -> Result<(), LimitError> {
    let ranges = ranges(asked).ok_or_else(|| LimitError::CpuList(asked.to_owned()))?;
    let there = self::ranges(online).unwrap_or_default();
    let has = |number: u32| {
        there
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    };
    // What is there has few ranges; what is asked may have wide ones, so these are looked at by their ends and by the gaps.
    let lacks = |(first, last): &(u32, u32)| {
        let gap = |(_, end): &(u32, u32)| (*first..*last).contains(end) && !has(end + 1);
        !has(*first) || !has(*last) || there.iter().any(gap)
    };
    match ranges.iter().any(lacks) {
        true => Err(LimitError::NoSuchCpu {
            list: asked.to_owned(),
            online: online.to_owned(),
        }),
        false => Ok(()),
    }
}

/// How many processors a list names.
pub(crate) fn count(list: &str) -> Option<u64> {
    let ranges = ranges(list)?;
    let counts = ranges
        .iter()
        .map(|(first, last)| u64::from(last - first) + 1);
    Some(counts.sum())
}

/// The first and last of each range of a list.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    list.split(',').map(range).collect()
}

impl Rlimit {
    /// Sees that this process may set the limit.
    ///
    /// # Errors
    /// When it is above this process's own, and this process may not raise that, or nobody may.
    pub fn check(&self) -> Result<(), LimitError> {
        let Some(resource) = resource(&self.name) else {
            return Ok(());
        };
        let own = rustix::process::getrlimit(resource).maximum;
        let own = own.unwrap_or(u64::MAX);
        let most = match may_raise() {
            true if resource == Resource::Nofile => most_descriptors().max(own),
            true => u64::MAX,
            false => own,
        };
        if self.hard <= most {
            return Ok(());
        }
        Err(LimitError::AboveHardLimit {
            name: self.name.clone(),
            asked: number_or_unlimited(self.hard),
            most,
        })
    }
}

/// Without the capability in force, or in a user namespace of its own, a process can only lower its limits.
fn may_raise() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| {
        let bits = line.strip_prefix("CapEff:")?.trim();
        u64::from_str_radix(bits, 16).ok()
    });
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all: Vec<&str> = ids.split_whitespace().collect();
    effective.unwrap_or(0) & CAP_SYS_RESOURCE != 0 && all == ["0", "0", "4294967295"]
}

fn most_descriptors() -> u64 {
    let text = std::fs::read_to_string(MOST_DESCRIPTORS).ok();
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or(u64::MAX)
}

fn number_or_unlimited(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_is_there_or_is_refused() {
        for (asked, online) in [
            ("0", "0-1"),
            ("0-1", "0-1"),
            ("1,0", "0-1"),
            ("2,4-5", "0-2,4-7"),
        ] {
            assert!(
                check_processors(asked, online).is_ok(),
                "{asked} of {online}"
            );
        }
        for (asked, online) in [
            ("77", "0-1"),
            ("0-2", "0-1"),
            ("2-4", "0-2,4-7"),
            ("0-7", "0-2,4-7"),
        ] {
            let refused = check_processors(asked, online);
            assert!(
                matches!(refused, Err(LimitError::NoSuchCpu { .. })),
                "{asked} of {online}"
            );
        }
        for asked in ["", "x", "1-", "-1", "2-1", "0,", "+1", "99999999999"] {
            let refused = check_processors(asked, "0-1");
            assert!(matches!(refused, Err(LimitError::CpuList(_))), "{asked}");
        }
        assert_eq!(count("0-2,5"), Some(4));
    }

    #[test]
    fn this_machine_has_its_processors() {
        let online = processors().unwrap();
        assert!(count(&online).unwrap() > 0);
        check_processors(&online, &online).unwrap();
    }

    #[test]
    fn what_this_process_has_it_may_give_on() {
        let own = rustix::process::getrlimit(Resource::Nofile).maximum;
        let limit = |hard| Rlimit {
            name: "nofile".to_owned(),
            soft: 1,
            hard,
        };
        limit(own.unwrap_or(u64::MAX)).check().unwrap();
        // More descriptors than the kernel gives to anyone, root or not.
        let refused = limit(u64::MAX).check().unwrap_err().to_string();
        assert!(refused.contains("--ulimit nofile"), "{refused}");
    }
}
