//! Memory and swap.

use oci_spec::runtime::LinuxMemory;
use rustix::io::Errno;

use super::wrong;
use crate::cgroup::directory::Directory;
use crate::cgroup::{Cgroup, CgroupError, Controller};

const LIMIT: &str = "the memory limit";
const SWAP: &str = "the swap limit";

/// Sets what is asked for.
#[allow(deprecated)] // The kernel memory fields are deprecated, and still are not dropped in silence.
pub(super) fn set(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let asked = |value: Option<i64>| value.filter(|value| *value != 0);
    let wanted = Wanted {
        limit: asked(memory.limit()),
        swap: asked(memory.swap()),
        reservation: asked(memory.reservation()),
        kernel_tcp: asked(memory.kernel_tcp()),
        // Callers that mean "not set" write -1 as an unsigned number.
        swappiness: memory.swappiness().filter(|value| *value != u64::MAX),
        no_oom_killer: memory.disable_oom_killer() == Some(true),
        hierarchy: memory.use_hierarchy(),
        check: memory.check_before_update() == Some(true),
    };
    if memory.kernel().is_some_and(|value| value > 0) {
        // The specification advises against it, kernels since 5.16 have dropped it, and runc ignores it: all of a container's memory
        // counts to its limit anyhow.
        crate::log::warn(
            "linux.resources.memory.kernel is ignored: the limit on memory counts the kernel's too",
        );
    }
    if wanted.is_nothing() {
        return Ok(());
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (wanted.limit, wanted.swap)
        && swap < limit
    {
        return Err(wrong(
            SWAP,
            format!(
                "{swap} bytes for memory and swap together is less than the {limit} bytes for memory"
            ),
        ));
    }
    match cgroup.require("memory", "memory", LIMIT)? {
        Controller::V1(directory) => set_v1(directory, &wanted),
        Controller::V2(directory) => set_v2(directory, &wanted),
    }
}

/// What is asked for; a 0 is not.
struct Wanted {
    limit: Option<i64>,
    /// Memory and swap together.
    swap: Option<i64>,
    reservation: Option<i64>,
    kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    no_oom_killer: bool,
    hierarchy: Option<bool>,
    check: bool,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        let Self {
            limit,
            swap,
            reservation,
            kernel_tcp,
            swappiness,
            no_oom_killer,
            hierarchy,
            check: _,
        } = self;
        [limit, swap, reservation, kernel_tcp]
            .iter()
            .all(|value| value.is_none())
            && swappiness.is_none()
            && hierarchy.is_none()
            && !no_oom_killer
    }
}

fn set_v1(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    // What has no limit on memory has none on swap either; the kernel would refuse the one without the other.
    let unlimited = wanted.limit == Some(-1) && wanted.swap.is_none();
    let swap = match wanted.swap {
        None if unlimited && directory.has(V1_SWAP) => Some(-1),
        other => other,
    };
    let limit_v1 = |value: i64| match directory.try_write(V1_LIMIT, &value.to_string()) {
        Err(Errno::BUSY) => {
            let usage = directory.number("memory.usage_in_bytes")?.unwrap_or(0);
            Err(wrong(
                LIMIT,
                format!("{value} bytes is less than the {usage} bytes that are in use"),
            ))
        }
        other => other.map_err(|errno| directory.refused(V1_LIMIT, &value.to_string(), errno)),
    };
    // The limit on both may never be below the one on memory, not even between two writes.
    let raises = match (wanted.limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => directory
            .number(V1_LIMIT)?
            .is_some_and(|now| now < swap.unsigned_abs()),
        _ => false,
    };
    if let Some(swap) = swap.filter(|_| raises) {
        swap_v1(directory, swap)?;
    }
    if let Some(limit) = wanted.limit {
        limit_v1(limit)?;
    }
    if let Some(swap) = swap.filter(|_| !raises) {
        swap_v1(directory, swap)?;
    }
    set_v1_rest(directory, wanted)
}

const V1_LIMIT: &str = "memory.limit_in_bytes";
const V1_SWAP: &str = "memory.memsw.limit_in_bytes";

fn swap_v1(directory: &Directory, value: i64) -> Result<(), CgroupError> {
    match directory.try_write(V1_SWAP, &value.to_string()) {
        Err(Errno::NOENT) => without_swap_accounting(value == -1),
        other => other.map_err(|errno| directory.refused(V1_SWAP, &value.to_string(), errno)),
    }
}

/// A kernel that does not count swap holds a limit on it if there is no swap.
fn without_swap_accounting(unlimited: bool) -> Result<(), CgroupError> {
    let has_swap =
        || std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().nth(1).is_some());
    if unlimited || !has_swap() {
        return Ok(());
    }
    Err(wrong(
        SWAP,
        "this kernel does not count swap; boot it with swapaccount=1, or leave the limit away",
    ))
}

fn set_v1_rest(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    if let Some(reservation) = wanted.reservation {
        directory.write("memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(value) = wanted.kernel_tcp {
        directory.write("memory.kmem.tcp.limit_in_bytes", &value.to_string())?;
    }
    if let Some(hierarchy) = wanted.hierarchy {
        let now = directory.number("memory.use_hierarchy")? == Some(1);
        if now != hierarchy {
            directory.write("memory.use_hierarchy", if hierarchy { "1" } else { "0" })?;
        }
    }
    if wanted.no_oom_killer {
        directory.write("memory.oom_control", "1")?;
    }
    match wanted.swappiness {
        None => Ok(()),
        Some(value @ 0..=100) => directory.write("memory.swappiness", &value.to_string()),
        Some(value) => Err(wrong(
            "the swappiness",
            format!("{value} is not between 0 and 100"),
        )),
    }
}

fn set_v2(directory: &Directory, wanted: &Wanted) -> Result<(), CgroupError> {
    refuse_v1_only(wanted)?;
    if let (true, Some(limit @ 1..)) = (wanted.check, wanted.limit) {
        let usage = directory.number("memory.current")?.unwrap_or(0);
        if limit.unsigned_abs() < usage {
            return Err(wrong(
                LIMIT,
                format!("{limit} bytes is less than the {usage} bytes that are in use"),
            ));
        }
    }
    if let Some(swap) = swap_alone(wanted.limit, wanted.swap)? {
        let value = limit_text(swap);
        match directory.try_write("memory.swap.max", &value) {
            Err(Errno::NOENT) => without_swap_accounting(swap == -1)?,
            other => {
                other.map_err(|errno| directory.refused("memory.swap.max", &value, errno))?;
            }
        }
    }
    if let Some(limit) = wanted.limit {
        directory.write("memory.max", &limit_text(limit))?;
    }
    match wanted.reservation {
        Some(reservation) => directory.write("memory.low", &limit_text(reservation)),
        None => Ok(()),
    }
}

/// What v2 has no file for. The specification: where a setting of v1's cannot be converted, it is an error.
fn refuse_v1_only(wanted: &Wanted) -> Result<(), CgroupError> {
    let gone = "only cgroup v1 has it, and this host has v2; leave it away";
    if wanted.kernel_tcp.is_some_and(|value| value != -1) {
        return Err(wrong("the limit on the kernel's memory for TCP", gone));
    }
    if wanted.no_oom_killer {
        return Err(wrong("disabling the OOM killer", gone));
    }
    if wanted.swappiness.is_some() {
        return Err(wrong("the swappiness", gone));
    }
    if wanted.hierarchy == Some(false) {
        return Err(wrong("a limit without regard to cgroups below", gone));
    }
    Ok(())
}

fn limit_text(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// v2 limits swap alone, the specification memory and swap together.
pub(in crate::cgroup) fn swap_alone(
    limit: Option<i64>,
    both: Option<i64>,
) -> Result<Option<i64>, CgroupError> {
    match (limit, both) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) | (Some(-1), _) => Ok(both),
        (None, Some(_)) => Err(wrong(SWAP, "it needs a memory limit beside it")),
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_what_is_left_of_both() {
        for (limit, both, expected) in [
            (Some(100), Some(300), Some(200)),
            (Some(100), Some(100), Some(0)),
            (Some(100), Some(-1), Some(-1)),
            (Some(100), None, None),
            (Some(-1), None, Some(-1)),
            (Some(-1), Some(300), Some(300)),
            (None, None, None),
        ] {
            assert_eq!(swap_alone(limit, both).unwrap(), expected);
        }
        assert!(swap_alone(None, Some(300)).is_err());
    }
}
