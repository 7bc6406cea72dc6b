//! Starts the dhow-runtime program and reads its answers.
//!
//! Creating a container takes a process with one thread and no inherited locks, so every other room reaches the runtime
//! as a program. What the runtime has to say comes through its JSON log, never through a descriptor of the container.

mod command;
mod error;
mod options;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use oci_spec::runtime::{LinuxResources, Process};

pub use error::{ErrorKind, RuntimeError};
pub use options::{CreateOptions, ExecOptions, Stdio3};
pub use state::{State, Status};

use command::Call;

/// The dhow-runtime program, with the directory where it keeps its containers' state.
#[derive(Debug, Clone)]
pub struct RuntimeClient {
    program: PathBuf,
    root: PathBuf,
}

impl RuntimeClient {
    /// A client of the program at `program`, whose `--root` is `root`.
    pub fn new(program: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            root: root.into(),
        }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The directory of the containers' state.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn call(&self, verb: &str) -> Result<Call, RuntimeError> {
        Call::new(self, verb)
    }

    /// Makes a container from a bundle; its init waits for [`start`](Self::start) and is a child of the calling process.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn create(
        &self,
        id: &str,
        bundle: &Path,
        options: CreateOptions,
    ) -> Result<(), RuntimeError> {
        let mut call = self.call("create")?;
        call.on_bundle(id, bundle, options);
        call.succeed()
    }

    /// Lets a created container's process begin.
    ///
    /// # Errors
    /// What the runtime said; of kind [`ErrorKind::CommandNotFound`] or [`ErrorKind::CommandNotExecutable`] when the
    /// container's program could not be executed.
    pub fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let mut call = self.call("start")?;
        call.arg(id);
        call.succeed()
    }

    /// The state of a container.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::NotFound`] when there is no such container.
    pub fn state(&self, id: &str) -> Result<State, RuntimeError> {
        let mut call = self.call("state")?;
        call.arg(id);
        call.json()
    }

    /// Sends a signal (a name with or without SIG, or a number) to a container's init, or to all its processes.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::NotFound`] when there is no such container, [`ErrorKind::NotRunning`] when it has ended.
    pub fn kill(&self, id: &str, signal: &str, all: bool) -> Result<(), RuntimeError> {
        let mut call = self.call("kill")?;
        if all {
            call.arg("--all");
        }
        call.arg(id).arg(signal);
        call.succeed()
    }

    /// Removes what a stopped container holds; with `force` also of one that runs (it is killed), that does not exist or
    /// whose state is half written.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        let mut call = self.call("delete")?;
        if force {
            call.arg("--force");
        }
        call.arg(id);
        call.succeed()
    }

    /// Runs a container in the foreground, from creation to deletion; gives the exit status of its process (128 + N when
    /// signal N ended it).
    ///
    /// # Errors
    /// What the runtime said when the container could not be run.
    pub fn run(
        &self,
        id: &str,
        bundle: &Path,
        options: CreateOptions,
    ) -> Result<ExitStatus, RuntimeError> {
        let mut call = self.call("run")?;
        call.on_bundle(id, bundle, options);
        call.status()
    }

    /// Makes a container from a bundle and lets its process begin, in one call; its init is a child of the calling process.
    ///
    /// # Errors
    /// What the runtime said, as for [`create`](Self::create) and [`start`](Self::start); then nothing is left of the container.
    pub fn run_detached(
        &self,
        id: &str,
        bundle: &Path,
        options: CreateOptions,
    ) -> Result<(), RuntimeError> {
        let mut call = self.call("run")?;
        call.arg("--detach").on_bundle(id, bundle, options);
        call.succeed()
    }

    /// Executes a process in a running container. Gives its exit status, or `None` at once when it is detached (it is
    /// then a child of the calling process).
    ///
    /// # Errors
    /// What the runtime said when the process could not be started.
    pub fn exec(
        &self,
        id: &str,
        process: &Process,
        options: ExecOptions,
    ) -> Result<Option<ExitStatus>, RuntimeError> {
        let mut call = self.call("exec")?;
        let document = call.document("process", process)?;
        call.flag("--process", Some(&document))
            .flag("--pid-file", options.pid_file.as_deref())
            .flag("--console-socket", options.console_socket.as_deref())
            .preserve(options.preserve_fds);
        if options.detach {
            call.arg("--detach");
        }
        call.arg(id);
        call.stdio(options.stdio);
        if options.detach {
            call.succeed().map(|()| None)
        } else {
            call.status().map(Some)
        }
    }

    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        let mut call = self.call("pause")?;
        call.arg(id);
        call.succeed()
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        let mut call = self.call("resume")?;
        call.arg(id);
        call.succeed()
    }

    /// Changes a container's limits; what is not set stays as it is.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError> {
        let mut call = self.call("update")?;
        let document = call.document("resources", resources)?;
        call.flag("--resources", Some(&document)).arg(id);
        call.succeed()
    }

    /// The process ids (on the host) of all processes of a container.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn ps(&self, id: &str) -> Result<Vec<i32>, RuntimeError> {
        let mut call = self.call("ps")?;
        call.arg("--format").arg("json").arg(id);
        call.json()
    }

    /// All containers under this root.
    ///
    /// # Errors
    /// What the runtime said.
    pub fn list(&self) -> Result<Vec<State>, RuntimeError> {
        let mut call = self.call("list")?;
        call.arg("--format").arg("json");
        // runc says `null` where there is none.
        call.json::<Option<Vec<State>>>()
            .map(Option::unwrap_or_default)
    }
}
