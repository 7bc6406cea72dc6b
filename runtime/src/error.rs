//! Why a command failed, and what a caller may decide by.

use std::path::PathBuf;

use rustix::io::Errno;

/// What a caller may decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no such container.
    NotFound,
    /// There is already a container of this id.
    AlreadyExists,
    /// The container's process has ended, or has not begun.
    NotRunning,
    /// The container's program is not there.
    CommandNotFound,
    /// The container's program cannot be executed.
    CommandNotExecutable,
    /// Anything else.
    Other,
}

impl Kind {
    /// The word for it in the JSON log.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::NotRunning => "not-running",
            Self::CommandNotFound => "command-not-found",
            Self::CommandNotExecutable => "command-not-executable",
            Self::Other => "other",
        }
    }

    /// The kind that a word names.
    pub fn from_name(name: &str) -> Self {
        [
            Self::NotFound,
            Self::AlreadyExists,
            Self::NotRunning,
            Self::CommandNotFound,
            Self::CommandNotExecutable,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
        .unwrap_or(Self::Other)
    }
}

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle.
    #[error(transparent)]
    Spec(#[from] crate::spec::SpecError),
    /// The container's record.
    #[error(transparent)]
    Container(#[from] crate::container::ContainerError),
    /// A step of the plan.
    #[error("unable to start container process: {0}")]
    Step(#[from] crate::init::StepError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] crate::hooks::HookError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// The group of caches and memory bandwidth.
    #[error(transparent)]
    Resctrl(#[from] crate::resctrl::ResctrlError),
    /// The filter of system calls.
    #[error("seccomp: {0}")]
    Seccomp(#[from] crate::seccomp::SeccompError),
    /// The system refused something that the command itself does.
    #[error("cannot {doing}: {errno}")]
    System {
        /// What was being done, and to what.
        doing: String,
        /// What the system answered.
        errno: Errno,
    },
    /// What was asked cannot be.
    #[error("{0}")]
    Asked(String),
    /// A file that the person named.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl Error {
    /// A refusal by the system.
    pub fn system(doing: impl Into<String>, errno: Errno) -> Self {
        Self::System {
            doing: doing.into(),
            errno,
        }
    }

    /// What a caller may decide by.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Container(error) => error.kind(),
            Self::Step(error) => error.kind,
            _ => Kind::Other,
        }
    }
}
