//! One container's cgroup, over v1 hierarchies, a v2 tree, or both.

use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

mod error;
mod join;
mod stats;

pub use error::CgroupError;
pub use join::Joiner;
pub use stats::{CpuStats, MemoryStats, PidsStats, Stats};

/// One container's cgroup: a directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    record: CgroupRecord,
}

/// Where a container's cgroup is, as it is kept in the container's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// A directory for each hierarchy.
    pub places: Vec<PlaceRecord>,
}

/// A container's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// The hierarchy's controllers (`cpu`, `memory`), or its name (`name=systemd`); none for a v2 tree.
    pub controllers: Vec<String>,
    /// The directory on the host, absolute.
    pub directory: std::path::PathBuf,
}

impl Cgroup {
    /// Makes a container's cgroup and sets its limits, before any process is in it.
    ///
    /// # Errors
    /// When the path is none, a directory cannot be made, a limit's controller is missing or a limit cannot be set;
    /// what was made is removed again.
    pub fn create(
        path: Option<&Path>,
        id: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let _ = (path, id, resources);
        todo!("next landing")
    }

    /// The cgroup of a container that was made before.
    ///
    /// # Errors
    /// None as yet: directories are opened when they are needed.
    pub fn open(record: &CgroupRecord) -> Result<Self, CgroupError> {
        Ok(Self {
            record: record.clone(),
        })
    }

    /// What [`Cgroup::open`] needs.
    pub fn record(&self) -> CgroupRecord {
        self.record.clone()
    }

    /// The descriptors with which a process joins, opened here so that the process itself opens nothing.
    ///
    /// # Errors
    /// When a directory is not there any more.
    pub fn join(&self) -> Result<Joiner, CgroupError> {
        todo!("next landing")
    }

    /// The ids of all processes in it and below it.
    ///
    /// # Errors
    /// When it cannot be read; a cgroup that is gone has none.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        todo!("next landing")
    }

    /// Sends a signal to every process in it and below it, until none is left that was not signalled.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kill_all(&self, signal: i32) -> Result<(), CgroupError> {
        let _ = signal;
        todo!("next landing")
    }

    /// Stops every process in it, and returns when all are stopped.
    ///
    /// # Errors
    /// When there is no freezer.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        todo!("next landing")
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When there is no freezer.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        todo!("next landing")
    }

    /// Whether its processes are stopped.
    ///
    /// # Errors
    /// When the freezer cannot be read; without a freezer it is `false`.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        todo!("next landing")
    }

    /// Sets the limits that are named and leaves the others.
    ///
    /// # Errors
    /// As for [`Cgroup::create`].
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let _ = resources;
        todo!("next landing")
    }

    /// Removes it and what is below it; one that is gone is no error.
    ///
    /// # Errors
    /// When a process is still in it after a short wait.
    pub fn remove(&self) -> Result<(), CgroupError> {
        todo!("next landing")
    }

    /// How many processes the kernel killed in it because memory was over its limit; none without a memory controller.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        todo!("next landing")
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        todo!("next landing")
    }
}
