//! What can go wrong with a container.

use std::path::PathBuf;

use dhow_container_spec::SpecError;
use dhow_image_store::StoreError;
use dhow_runtime_client::RuntimeError;
use dhow_supervise::{DocumentError, LockError};

use crate::NameError;

/// An engine that could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container has this name or id.
    #[error("no such container: {0}; `dhow ps -a` lists what there is")]
    NoSuchContainer(String),
    /// The beginning of an id fits several.
    #[error("{0:?} is the beginning of more than one container's id; write more of it")]
    Ambiguous(String),
    /// The name is another's.
    #[error(
        "the name {name:?} is in use by container {by}; remove it (dhow rm {name}) or choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The beginning of the other's id.
        by: String,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It runs.
    #[error("container {0} is running; stop it first (dhow stop {0}), or force it (-f)")]
    Running(String),
    /// It does not run.
    #[error("container {0} is not running; start it first (dhow start {0})")]
    NotRunning(String),
    /// It could not be started: the exit status says how it failed, as in Docker.
    #[error("{message}")]
    NotStarted {
        /// 125, 126 or 127.
        code: u8,
        /// The runtime's words.
        message: String,
    },
    /// The monitor is gone without a word.
    #[error("the monitor of container {0} died; dhow rm -f {0} removes what is left")]
    MonitorDied(String),
    /// The monitor could not be started.
    #[error("starting {}", program.display())]
    Monitor {
        /// The program.
        program: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// The container cannot be described to the runtime.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file; the error names it.
    #[error(transparent)]
    File(std::io::Error),
    /// A call of the kernel.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: String,
        /// What the system answered.
        source: rustix::io::Errno,
    },
}

/// What went wrong, for callers that branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such container.
    NotFound,
    /// It is in the wrong state, or its name is taken.
    Conflict,
    /// The person asked for something that cannot be meant.
    Invalid,
    /// Anything else.
    Other,
}

impl EngineError {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_) => ErrorKind::NotFound,
            Self::NameTaken { .. } | Self::Running(_) | Self::NotRunning(_) => ErrorKind::Conflict,
            Self::Ambiguous(_) | Self::Name(_) | Self::Invalid(_) | Self::Spec(_) => {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Other,
        }
    }

    /// The exit status of a command that ends with this error: 126 or 127 for a program that cannot be run, 125 otherwise.
    pub fn exit_status(&self) -> u8 {
        use dhow_runtime_client::ErrorKind as Runtime;
        match self {
            Self::NotStarted { code, .. } => *code,
            Self::Runtime(error) if error.kind() == Runtime::CommandNotFound => 127,
            Self::Runtime(error) if error.kind() == Runtime::CommandNotExecutable => 126,
            _ => 125,
        }
    }

    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}
