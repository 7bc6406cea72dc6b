//! Why the runtime did not do what it was asked.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

/// What a caller may decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// There is no such container.
    NotFound,
    /// There is already a container of this id.
    AlreadyExists,
    /// The container's process has ended, or has not begun.
    NotRunning,
    /// The container's program is not there (exit status 127).
    CommandNotFound,
    /// The container's program cannot be executed (exit status 126).
    CommandNotExecutable,
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}

/// A failed call of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program could not be started.
    #[error("cannot start {program}: {source}; is dhow-runtime installed beside dhow?")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A file that passes between caller and runtime.
    #[error("cannot use {path} to speak with the runtime: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The runtime said no.
    #[error("{message}")]
    Refused {
        /// Its own words.
        message: String,
        /// The kind.
        kind: ErrorKind,
    },
    /// The answer is not what the verb promises.
    #[error("dhow-runtime {verb}: its answer cannot be read: {detail}")]
    Answer {
        /// The verb.
        verb: String,
        /// Why not.
        detail: String,
    },
}

impl RuntimeError {
    /// What a caller may decide by.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            _ => ErrorKind::Other,
        }
    }
}
