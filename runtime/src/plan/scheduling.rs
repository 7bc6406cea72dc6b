//! Where and when a process gets processors, memory and disks.

use dhow_sys::process::SchedulingAttributes;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality,
    LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Scheduler,
};

use super::number_list;
use super::step::Step;
use crate::spec::{Process, SpecError};

fn invalid(what: impl Into<String>) -> SpecError {
    SpecError::Invalid { what: what.into() }
}

/// The steps of a process, and those that its container's Linux section asks for each of them.
pub(super) fn steps(process: &Process, linux: Option<&Linux>) -> Result<Vec<Step>, SpecError> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::SetScheduler(scheduling(scheduler)?));
    }
    if let Some(priority) = process.io_priority() {
        steps.push(io_priority(priority)?);
    }
    if let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) {
        steps.push(execution_domain(personality)?);
    }
    if let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
        steps.push(memory_policy(policy)?);
    }
    Ok(steps)
}

/// The processors of a list; none named is none asked for.
pub(super) fn cpus(what: &str, list: Option<&String>) -> Result<Option<Vec<usize>>, SpecError> {
    list.filter(|list| !list.is_empty())
        .map(|list| {
            number_list::parse(list)
                .map_err(|error| invalid(format!("process.{what} {list:?}: {error}")))
        })
        .transpose()
}

fn io_priority(priority: &LinuxIOPriority) -> Result<Step, SpecError> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u16::try_from(priority.priority())
        .ok()
        .filter(|level| *level <= 7)
        .ok_or_else(|| invalid("process.ioPriority.priority is not one of 0 (first) to 7"))?;
    Ok(Step::SetIoPriority { class, level })
}

fn execution_domain(personality: &LinuxPersonality) -> Result<Step, SpecError> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(invalid(format!(
            "linux.personality.flags: {flag:?}: the specification knows no flags yet"
        )));
    }
    Ok(Step::SetPersonality {
        persona: match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        },
    })
}

/// Mode, flags and nodes as set_mempolicy(2) takes them.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<Step, SpecError> {
    let mut mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let has_nodes = policy.nodes().as_ref().is_some_and(|list| !list.is_empty());
    // Preferred does with or without.
    let wrong = match mode {
        0 | 4 if has_nodes => Some("takes no nodes"),
        2 | 3 | 5 | 6 if !has_nodes => Some("needs nodes"),
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(invalid(format!(
            "linux.memoryPolicy: {} {wrong}",
            policy.mode()
        )));
    }
    for flag in policy.flags().iter().flatten() {
        mode |= match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        };
    }
    let nodes = match policy.nodes().as_deref().filter(|_| has_nodes) {
        None => Vec::new(),
        Some(list) => number_list::parse(list)
            .map_err(|error| invalid(format!("linux.memoryPolicy.nodes {list:?}: {error}")))?,
    };
    Ok(Step::SetMemoryPolicy {
        mode,
        nodes: number_list::bits(&nodes),
    })
}

/// The parameters of sched_setattr(2), checked as its manual page says.
fn scheduling(scheduler: &Scheduler) -> Result<SchedulingAttributes, SpecError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for flag in scheduler.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        };
    }
    check_scheduling(scheduler)?;
    let priority = scheduler.priority().unwrap_or(0);
    Ok(SchedulingAttributes {
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(priority)
            .map_err(|_| invalid("process.scheduler.priority is negative"))?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// What one policy has and another does not.
fn check_scheduling(scheduler: &Scheduler) -> Result<(), SpecError> {
    use LinuxSchedulerPolicy as Policy;
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    if matches!(policy, Policy::SchedOther | Policy::SchedBatch) && !(-20..=19).contains(&nice) {
        return Err(invalid(format!(
            "process.scheduler.nice {nice} is not one of -20 to 19"
        )));
    }
    let real_time = matches!(policy, Policy::SchedFifo | Policy::SchedRr);
    let priority = scheduler.priority().unwrap_or(0);
    if priority != 0 && !real_time {
        return Err(invalid(format!(
            "process.scheduler.priority is for SCHED_FIFO and SCHED_RR, not for {policy}"
        )));
    }
    let times = [
        scheduler.runtime(),
        scheduler.deadline(),
        scheduler.period(),
    ];
    if times.iter().any(|time| time.unwrap_or(0) != 0) && policy != Policy::SchedDeadline {
        return Err(invalid(format!(
            "process.scheduler: runtime, deadline and period are for SCHED_DEADLINE, not for {policy}"
        )));
    }
    if real_time && !(1..=99).contains(&priority) {
        return Err(invalid(format!(
            "process.scheduler.priority {priority} is not one of 1 to 99, which {policy} takes"
        )));
    }
    Ok(())
}
