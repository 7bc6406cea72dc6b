//! What a monitor is started with, and where a pod's files lie.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a monitor is to hold. Written once, before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The pod's id.
    pub pod: String,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Where it keeps its containers' state.
    pub runtime_root: PathBuf,
    /// The containers, in the order in which they are started.
    pub containers: Vec<ContainerPlan>,
    /// A command that cleans up once all have ended; the monitor becomes it. It is not run when the one who started the monitor is still
    /// there and says that it has cleaned up itself.
    #[serde(default)]
    pub at_end: Vec<String>,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// Its id, under which the runtime knows it.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Whether its process has a terminal.
    pub terminal: bool,
    /// Whether its standard input stays open; it reads nothing otherwise.
    pub stdin: bool,
    /// Where what it writes is kept.
    pub log: PathBuf,
    /// Its cgroup, from the mount of each hierarchy.
    pub cgroup: PathBuf,
}

/// The places of a pod's files under the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFiles {
    dir: PathBuf,
}

impl PodFiles {
    /// The files of the pod whose directory is `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The pod's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The [`Plan`].
    pub fn plan(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    /// The [`Status`](crate::Status).
    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }

    /// What is locked while the pod has a monitor, or someone works on it.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The bundle of a container.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.dir.join(container)
    }
}
