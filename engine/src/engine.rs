//! The engine: where things are, and how a container is found.

use std::path::{Path, PathBuf};

use dhow_image_store::Store;
use dhow_runtime_client::RuntimeClient;
use dhow_supervise::PodFiles;

use crate::records::Records;
use crate::{ContainerId, EngineError, PodSpec};

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The image store.
    pub store: Store,
    /// Where what lasts is kept.
    pub root: PathBuf,
    /// Where what dies with the machine is kept.
    pub state: PathBuf,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// The monitor.
    pub monitor: PathBuf,
    /// The command that removes a container which was to be removed at its end; its id is added.
    pub clean_up: Vec<String>,
}

/// Containers under one root and one state directory. Any number of processes may have one.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) records: Records,
    pub(crate) runtime: RuntimeClient,
    pub(crate) monitor: PathBuf,
    pub(crate) clean_up: Vec<String>,
    pub(crate) root: PathBuf,
    state: PathBuf,
}

impl Engine {
    /// An engine; nothing is made until it is needed.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            store: options.store,
            records: Records::new(&options.root),
            runtime: RuntimeClient::new(options.runtime, options.state.join("runtime")),
            monitor: options.monitor,
            clean_up: options.clean_up,
            root: options.root,
            state: options.state,
        }
    }

    /// The container of this name, this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<PodSpec, EngineError> {
        self.records.find(name)
    }

    /// The runtime.
    pub fn runtime(&self) -> &RuntimeClient {
        &self.runtime
    }

    pub(crate) fn files(&self, id: &ContainerId) -> PodFiles {
        PodFiles::new(self.states().join(id.as_str()))
    }

    /// Where the files of all pods are.
    pub(crate) fn states(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// Where the first container's log is kept.
    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.records.dir(id).join("log.json")
    }

    /// The cgroup of a container, from the mount of each hierarchy.
    pub(crate) fn cgroup(id: &ContainerId) -> PathBuf {
        Path::new("/dhow").join(id.as_str())
    }
}
