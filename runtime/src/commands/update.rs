//! `pause`, `resume` and `update`.

use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};

use super::Runtime;
use super::members::has_places;
use crate::cgroup::Cgroup;
use crate::container::{ContainerDir, ContainerError, Record, Status, is_alive};
use crate::error::Error;
use crate::plan::resctrl_group;
use crate::resctrl::Places;

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
    match cgroup_of(&record)?.freeze() {
        // It was removed while it was being stopped.
        Err(_) if !is_alive(record.pid, record.start_time) => {
            Err(Error::Container(ContainerError::Status {
                verb: "pause",
                id: id.to_owned(),
                status: Status::Stopped,
            }))
        }
        frozen => Ok(frozen?),
    }
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

/// Changes a container's limits; what is not named stays. Of `schemas` only the two that `update` has flags for count.
///
/// # Errors
/// When it has ended, or a limit cannot be set.
pub fn update(
    runtime: &Runtime,
    id: &str,
    resources: &LinuxResources,
    schemas: Option<&LinuxIntelRdt>,
) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    dir.lock()?;
    let (record, _) = dir.require("update")?;
    if let Some(schemas) = schemas {
        update_resctrl(&dir, id, schemas)?;
        // Who asks for nothing else needs no cgroup.
        let mut nothing = LinuxResources::default();
        nothing.set_devices(None);
        if *resources == nothing {
            return Ok(());
        }
    }
    Ok(cgroup_of(&record)?.update(resources)?)
}

/// Changes what the container's group of resctrl may use.
fn update_resctrl(dir: &ContainerDir, id: &str, schemas: &LinuxIntelRdt) -> Result<(), Error> {
    let spec = dir.spec()?;
    let own = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.intel_rdt().as_ref());
    let Some(own) = own else {
        return Err(Error::Asked(format!(
            "container {id:?} has no group of resctrl whose schema could be changed: its config.json has no linux.intelRdt"
        )));
    };
    let mut asked = schemas.clone();
    asked.set_clos_id(own.clos_id().clone());
    let group = resctrl_group(&asked, id)?;
    Ok(Places::find(&group)?.update(&group)?)
}
