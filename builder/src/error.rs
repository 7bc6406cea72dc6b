//! What can go wrong in a build.

use std::io;
use std::path::PathBuf;

use dhow_dockerfile::DockerfileError;
use dhow_image_store::StoreError;
use dhow_layer::UnpackError;
use dhow_runtime_client::RuntimeError;
use rustix::io::Errno;

use crate::ContextError;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The command of a `RUN` failed.
    #[error("{place}: {step} failed with exit status {status}")]
    Failed {
        /// File and line.
        place: String,
        /// The step as it was understood, in one line.
        step: String,
        /// The exit status of its command; 128 + N for an end by signal N.
        status: i32,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
    /// The command of a `RUN` could not be run.
    #[error("{place}: {step}: {source}")]
    Run {
        /// File and line.
        place: String,
        /// The step.
        step: String,
        /// What the runtime said.
        source: RuntimeError,
    },
    /// A step could not be carried out.
    #[error("{place}: {step}: {source}")]
    Step {
        /// File and line.
        place: String,
        /// The step.
        step: String,
        /// Why.
        source: Box<TreeError>,
    },
    /// What a person asked for cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the build's own.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// A file of a context, a stage or the root that is being built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// There is no such file.
    #[error("{path} is not in {place}{hint}")]
    NotFound {
        /// What was asked for.
        path: String,
        /// Where it was looked for.
        place: String,
        /// What may help; empty, or with a separator before it.
        hint: String,
    },
    /// The system refused.
    #[error("{doing} {path}: {}", io::Error::from(*.source))]
    System {
        /// What was being done.
        doing: &'static str,
        /// The path inside its tree.
        path: String,
        /// What the system answered.
        source: Errno,
    },
    /// It cannot be meant.
    #[error("{0}")]
    Refused(String),
    /// An owner that the image does not know.
    #[error(transparent)]
    User(#[from] dhow_container_spec::UserError),
    /// The specification of the step's container.
    #[error(transparent)]
    Spec(#[from] dhow_container_spec::SpecError),
    /// An archive that cannot be unpacked.
    #[error("unpacking {path}: {source}")]
    Unpack {
        /// The archive.
        path: String,
        /// Why.
        source: UnpackError,
    },
}

impl TreeError {
    /// For `map_err`: the system refused to do something to a path.
    pub(crate) fn system<'a>(doing: &'static str, path: &'a str) -> impl Fn(Errno) -> Self + 'a {
        move |source| Self::System {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// The same for the standard library's errors.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a str) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::System {
            doing,
            path: path.to_owned(),
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
    }
}
