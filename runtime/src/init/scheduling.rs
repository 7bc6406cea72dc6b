//! Which processors and memory a process gets.

use rustix::thread::CpuSet;

use super::{Doing, StepError};

/// Keeps the calling process to processors.
pub(crate) fn set_affinity(cpus: &[usize]) -> Result<(), StepError> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(StepError::other(format!(
                "processor {cpu}: only the first {} can be asked for",
                CpuSet::MAX_CPU
            )));
        }
        set.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .doing(|| format!("keep to the processors {cpus:?} (are there any of them?)"))
}

/// set_mempolicy(2).
pub(super) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), StepError> {
    dhow_sys::process::set_memory_policy(mode, nodes)
        .doing(|| "set the memory policy (does the machine have these nodes?)".to_owned())
}
