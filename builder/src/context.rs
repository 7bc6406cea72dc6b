//! The directory that a build may copy from.

use std::io;
use std::path::{Path, PathBuf};

use dhow_dockerfile::{IgnoreError, IgnoreFile};

use crate::root_dir::RootDir;

/// A build's context: a directory, and what of it is left out.
#[derive(Debug)]
pub struct Context {
    pub(crate) root: RootDir,
    pub(crate) ignore: IgnoreFile,
    /// Which ignore file was read.
    pub(crate) ignore_name: String,
}

/// A context that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// No such directory.
    #[error("the context {path} cannot be opened: {source}; name a directory")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The ignore file cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The ignore file is wrong.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

impl Context {
    /// Opens the directory `path`. The ignore file is the one named after the Dockerfile (`NAME.dockerignore` beside it), or
    /// `.dockerignore` in the context.
    ///
    /// # Errors
    /// When it is no directory or an ignore file cannot be understood.
    pub fn open(path: &Path, dockerfile: Option<&Path>) -> Result<Self, ContextError> {
        let root = RootDir::open(path).map_err(|errno| ContextError::Open {
            path: path.to_owned(),
            source: errno.into(),
        })?;
        let own = dockerfile.map(|file| {
            let mut name = file.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        for file in own.into_iter().chain([path.join(".dockerignore")]) {
            match fs_err::read_to_string(&file) {
                Ok(text) => {
                    let ignore_name = file.display().to_string();
                    return Ok(Self {
                        root,
                        ignore: IgnoreFile::parse(&ignore_name, &text)?,
                        ignore_name,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ContextError::Read { path: file, source }),
            }
        }
        Ok(Self {
            root,
            ignore: IgnoreFile::default(),
            ignore_name: String::new(),
        })
    }
}
