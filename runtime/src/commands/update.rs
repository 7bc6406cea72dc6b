//! `pause`, `resume` and `update`.

use oci_spec::runtime::LinuxResources;

use super::Runtime;
use super::members::has_places;
use crate::cgroup::Cgroup;
use crate::container::{ContainerDir, Record};
use crate::error::Error;

pub(super) fn cgroup_of(record: &Record) -> Result<Cgroup, Error> {
    let has_one = record.cgroup.as_ref().is_some_and(has_places);
    record.cgroup().filter(|_| has_one).ok_or_else(|| {
        Error::Asked(format!(
            "container {:?} has no cgroup: its user may not make one (it takes a delegated one), and without it nothing can be limited, counted or paused",
            record.id
        ))
    })
}

/// Stops all processes of a container where they are.
///
/// # Errors
/// When it does not run, or there is no freezer.
pub fn pause(runtime: &Runtime, id: &str) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let (record, _) = dir.require("pause")?;
    Ok(cgroup_of(&record)?.freeze()?)
}

/// Lets a paused container go on.
///
/// # Errors
/// When it is not paused.
pub fn resume(runtime: &Runtime, id: &str) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let (record, _) = dir.require("resume")?;
    Ok(cgroup_of(&record)?.thaw()?)
}

/// Changes a container's limits; what is not named stays.
///
/// # Errors
/// When it has ended, or a limit cannot be set.
pub fn update(runtime: &Runtime, id: &str, resources: &LinuxResources) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    dir.lock()?;
    let (record, _) = dir.require("update")?;
    Ok(cgroup_of(&record)?.update(resources)?)
}
