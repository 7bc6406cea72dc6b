//! The directories of criu's files: images, and the log that says why something failed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::CriuOptions;
use crate::error::Error;

/// The directories, open.
#[derive(Debug)]
pub(crate) struct Images {
    images: OwnedFd,
    images_path: PathBuf,
    work: Option<OwnedFd>,
    work_path: Option<PathBuf>,
    /// Where the log is.
    log: PathBuf,
}

/// Opens a directory.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::system(format!("open the directory {}", path.display()), errno))
}

/// Opens a directory that is made, for its owner only, where it is missing.
fn make_directory(path: &Path) -> Result<OwnedFd, Error> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    open_directory(path)
}

impl Images {
    /// Opens them; for a checkpoint they are made.
    ///
    /// # Errors
    /// When one is not there or cannot be made.
    pub(crate) fn open(options: &CriuOptions, log: &str, makes: bool) -> Result<Self, Error> {
        let images = match makes {
            true => make_directory(&options.images)?,
            false => open_directory(&options.images)?,
        };
        let work = options.work.as_deref().map(make_directory).transpose()?;
        let place = options.work.as_ref().unwrap_or(&options.images);
        Ok(Self {
            images,
            images_path: options.images.clone(),
            work,
            work_path: options.work.clone(),
            log: place.join(log),
        })
    }

    /// Their numbers here: criu opens them through this process.
    pub(crate) fn numbers(&self) -> (i32, Option<i32>) {
        let work = self.work.as_ref().map(AsRawFd::as_raw_fd);
        (self.images.as_raw_fd(), work)
    }

    /// Opens them anew as a process sees them that is in another mount namespace: criu mounts in them and reaches them through this
    /// process's descriptors, and where these are of another namespace nothing can be mounted.
    ///
    /// # Errors
    /// When they are not there.
    pub(crate) fn see_as(&mut self, pid: i32) -> Result<(), Error> {
        let open = |path: &Path| {
            let absolute = std::path::absolute(path).unwrap_or_default();
            let below = absolute.strip_prefix("/").unwrap_or(&absolute);
            open_directory(&Path::new(&format!("/proc/{pid}/root")).join(below))
        };
        self.images = open(&self.images_path)?;
        if let Some(path) = &self.work_path {
            self.work = Some(open(path)?);
        }
        Ok(())
    }

    /// An error with what the log says of it.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let told: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("Error "))
            // Without the place in criu's sources.
            .map(|(_, words)| words.split_once("): ").map_or(words, |(_, words)| words))
            // A helper's end, which says nothing.
            .filter(|words| !words.contains("exited, status="))
            .collect();
        // The first is the cause or near it; the last says what could not be done for it.
        let words = match &*told {
            [] => return error,
            [only] => (*only).to_owned(),
            [first, .., last] => format!("{first}; {last}"),
        };
        // criu gives the first line of its log with its answer.
        let error = error.to_string();
        let error = error
            .split_once(": Error (")
            .map_or(&*error, |(before, _)| before);
        Error::Asked(format!("{error}: {words} (log: {})", self.log.display()))
    }

    /// Writes what the first three descriptors of a process are, for the restore.
    pub(crate) fn write_descriptors(&self, pid: i32) -> Result<(), Error> {
        let link = |number: i32| {
            let link = rustix::fs::readlink(format!("/proc/{pid}/fd/{number}"), Vec::new());
            link.map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let links = [link(0), link(1), link(2)];
        let text = serde_json::to_string(&links).unwrap_or_default();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::openat(&self.images, DESCRIPTORS, flags, mode)
            .and_then(|file| rustix::io::write(&file, text.as_bytes()))
            .map(drop)
            .map_err(|errno| Error::system(format!("write {DESCRIPTORS}"), errno))
    }

    /// The pipes among them: what they were, and the descriptor that is to take the place of each.
    pub(crate) fn read_pipes(&self) -> Result<Vec<(String, i32)>, Error> {
        let error = |source| Error::File {
            path: DESCRIPTORS.into(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.images, DESCRIPTORS, flags, Mode::empty())
            .map_err(|errno| error(errno.into()))?;
        let text = std::io::read_to_string(std::fs::File::from(file)).map_err(error)?;
        let links: Vec<String> =
            serde_json::from_slice(text.as_bytes()).map_err(|source| error(source.into()))?;
        let pipes = links.into_iter().zip(0..);
        Ok(pipes
            .filter(|(link, _)| link.starts_with("pipe:"))
            .collect())
    }
}

/// The file's name: runc's, so that its checkpoints can be restored.
const DESCRIPTORS: &str = "descriptors.json";
