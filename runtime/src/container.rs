//! A container's record on disk: one directory under the runtime's root, locked by whoever changes it.
//!
//! ROOT/ID holds `state.json` (the record), `config.json` (the bundle's configuration as it was at creation) and, while
//! init waits, `start.sock`. Each file is replaced whole, so what a crash leaves is complete or not there.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, CgroupRecord};
use crate::error::Kind;

/// The version of the specification that this runtime follows.
pub const OCI_VERSION: &str = "1.2.1";

/// A record that is not as the command needs it.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The id is none.
    #[error(
        "invalid container id {0:?}: letters, digits and _ + - . only, beginning with a letter, digit or _"
    )]
    InvalidId(String),
    /// There is none.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// There is one.
    #[error("container with id exists: {0:?}; delete it first or choose another id")]
    Exists(String),
    /// It is at another place of its life.
    #[error("cannot {verb} container {id:?}: it is {status}")]
    Status {
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: String,
        /// Where it is.
        status: Status,
    },
    /// A record that a crash left.
    #[error("the record {path} is incomplete: {source}; `delete --force` removes what is left")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The system refused.
    #[error("cannot {doing} {path}: {errno}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system answered.
        errno: Errno,
    },
}

impl ContainerError {
    /// What a caller may decide by.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Exists(_) => Kind::AlreadyExists,
            Self::Status {
                status: Status::Stopped,
                ..
            } => Kind::NotRunning,
            _ => Kind::Other,
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// Its init waits for `start`.
    Created,
    /// Its process runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The one table of what may be done when. `delete` stands for the command without --force.
    pub fn allows(self, verb: &str) -> bool {
        match verb {
            "start" => self == Self::Created,
            "kill" | "update" | "ps" => {
                matches!(self, Self::Created | Self::Running | Self::Paused)
            }
            "exec" => matches!(self, Self::Created | Self::Running),
            "pause" => matches!(self, Self::Created | Self::Running),
            "resume" => self == Self::Paused,
            "delete" => self == Self::Stopped,
            _ => true,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What is kept of a container (`state.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the specification.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// Who made it.
    pub owner: u32,
    /// Init's id on the host; 0 before there is one.
    pub pid: i32,
    /// When init began, in clock ticks since boot: with the id it names one process only.
    pub start_time: u64,
    /// Its cgroup.
    pub cgroup: Option<CgroupRecord>,
    /// The spec's annotations.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

/// What `state` prints, and hooks get on their standard input.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument<'a> {
    /// The version of the specification.
    pub oci_version: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Init's id on the host; 0 when it has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle's directory.
    pub bundle: &'a Path,
    /// The root file system's directory.
    pub rootfs: &'a Path,
    /// When it was made.
    pub created: &'a str,
    /// The spec's annotations.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: &'a HashMap<String, String>,
    /// Who made it.
    pub owner: &'a str,
}

impl Record {
    /// The document for a status. `owner` is a name.
    pub fn document<'a>(&'a self, status: Status, owner: &'a str) -> StateDocument<'a> {
        StateDocument {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner,
        }
    }

    /// The state as hooks get it.
    pub fn hook_state(&self, status: Status) -> String {
        serde_json::to_string(&self.document(status, "")).unwrap_or_default()
    }

    /// The container's cgroup.
    pub fn cgroup(&self) -> Option<Cgroup> {
        self.cgroup
            .as_ref()
            .and_then(|record| Cgroup::open(record).ok())
    }
}

/// Whether `id` may be a container's.
///
/// # Errors
/// When it may not.
pub fn check_id(id: &str) -> Result<(), ContainerError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let begins_well = id.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins_well && id.len() <= 1024 && id.chars().all(good) {
        return Ok(());
    }
    Err(ContainerError::InvalidId(id.to_owned()))
}

/// A container's directory.
#[derive(Debug)]
pub struct ContainerDir {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
}

impl ContainerDir {
    /// Makes the directory of a new container, locked.
    ///
    /// # Errors
    /// When there is one already.
    pub fn create(root: &Path, id: &str) -> Result<Self, ContainerError> {
        check_id(id)?;
        let path = root.join(id);
        let system = |doing, path: &Path, errno| ContainerError::System {
            doing,
            path: path.to_owned(),
            errno,
        };
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdir(&path, mode) {
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(root).map_err(|error| {
                    system(
                        "make",
                        root,
                        Errno::from_io_error(&error).unwrap_or(Errno::IO),
                    )
                })?;
                rustix::fs::chmod(root, Mode::from_raw_mode(0o711))
                    .map_err(|errno| system("make", root, errno))?;
                rustix::fs::mkdir(&path, mode)
            }
            answer => answer,
        }
        .map_err(|errno| match errno {
            Errno::EXIST => ContainerError::Exists(id.to_owned()),
            errno => system("make", &path, errno),
        })?;
        let dir = Self::open(root, id)?;
        dir.lock()?;
        Ok(dir)
    }

    /// The directory of a container that is there.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path, id: &str) -> Result<Self, ContainerError> {
        check_id(id)?;
        let path = root.join(id);
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self {
                id: id.to_owned(),
                path,
                fd,
            }),
            Err(Errno::NOENT) => Err(ContainerError::NotFound(id.to_owned())),
            Err(errno) => Err(ContainerError::System {
                doing: "open",
                path,
                errno,
            }),
        }
    }

    fn system(&self, doing: &'static str, name: &str, errno: Errno) -> ContainerError {
        ContainerError::System {
            doing,
            path: self.path.join(name),
            errno,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The open directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for the lock, which lasts as long as this value.
    ///
    /// # Errors
    /// Not found when the container was deleted in the meantime.
    pub fn lock(&self) -> Result<(), ContainerError> {
        rustix::fs::flock(&self.fd, FlockOperation::LockExclusive)
            .map_err(|errno| self.system("lock", "", errno))?;
        // Whoever had the lock before may have removed the directory; one of the same name would be another container.
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| self.system("lock", "", errno))?;
        match stat.st_nlink {
            0 => Err(ContainerError::NotFound(self.id.clone())),
            _ => Ok(()),
        }
    }

    /// Takes the lock if it is free; whether it was.
    pub fn try_lock(&self) -> bool {
        rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// Lets the lock go before this value ends.
    pub fn unlock(&self) {
        // The lock is ours; giving it back cannot fail.
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
    }

    /// Replaces a file whole.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), ContainerError> {
        let new = format!(".{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let write = || -> rustix::io::Result<()> {
            let file = rustix::fs::openat(&self.fd, &*new, flags, Mode::from_raw_mode(0o600))?;
            let mut left = content;
            while !left.is_empty() {
                left = &left[rustix::io::write(&file, left)?..];
            }
            rustix::fs::renameat(&self.fd, &*new, &self.fd, name)
        };
        write().map_err(|errno| self.system("write", name, errno))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Not found when it is not there.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ContainerError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(ContainerError::NotFound(self.id.clone())),
            Err(errno) => return Err(self.system("read", name, errno)),
        };
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut content).map_err(
            |error| {
                self.system(
                    "read",
                    name,
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                )
            },
        )?;
        Ok(content)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The system's.
    pub fn write_record(&self, record: &Record) -> Result<(), ContainerError> {
        let text = serde_json::to_vec(record).map_err(|source| ContainerError::Broken {
            path: self.path.join("state.json"),
            source,
        })?;
        self.write("state.json", &text)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn record(&self) -> Result<Record, ContainerError> {
        let text = self.read("state.json")?;
        serde_json::from_slice(&text).map_err(|source| ContainerError::Broken {
            path: self.path.join("state.json"),
            source,
        })
    }

    /// The configuration that the container was made from.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn spec(&self) -> Result<Spec, ContainerError> {
        let text = self.read("config.json")?;
        serde_json::from_slice(&text).map_err(|source| ContainerError::Broken {
            path: self.path.join("config.json"),
            source,
        })
    }

    /// Whether init waits for `start`.
    pub fn waits_for_start(&self) -> bool {
        rustix::fs::statat(&self.fd, START_SOCKET, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Init has been let go.
    pub fn remove_start_socket(&self) {
        // It may be gone already.
        let _ = rustix::fs::unlinkat(&self.fd, START_SOCKET, AtFlags::empty());
    }

    /// Where a container is in its life.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            // Whoever makes it holds the lock; without one it was given up.
            return if self.try_lock() {
                self.unlock();
                Status::Stopped
            } else {
                Status::Creating
            };
        }
        if !is_alive(record.pid, record.start_time) {
            return Status::Stopped;
        }
        if self.waits_for_start() {
            return Status::Created;
        }
        let frozen = record
            .cgroup()
            .is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false));
        if frozen {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// The record and the status, for a command that the status must allow.
    ///
    /// # Errors
    /// When it does not.
    pub fn require(&self, verb: &'static str) -> Result<(Record, Status), ContainerError> {
        let record = self.record()?;
        let status = self.status(&record);
        if status.allows(verb) {
            return Ok((record, status));
        }
        Err(ContainerError::Status {
            verb,
            id: self.id.clone(),
            status,
        })
    }

    /// Removes the directory and all in it.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(self) -> Result<(), ContainerError> {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.system(
                "remove",
                "",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )),
        }
    }
}

/// The socket on which init waits.
pub const START_SOCKET: &str = "start.sock";

/// Whether a process is there and has not ended: of this id, begun at this time.
pub fn is_alive(pid: i32, start_time: u64) -> bool {
    matches!(process_stat(pid), Some((state, began)) if began == start_time && state != b'Z' && state != b'X')
}

/// A process's state letter and when it began, in clock ticks since boot.
pub fn process_stat(pid: i32) -> Option<(u8, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything, brackets too.
    let after = text.iter().rposition(|byte| *byte == b')')? + 2;
    let rest = std::str::from_utf8(text.get(after..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.bytes().next()?;
    let began = fields.nth(18)?.parse().ok()?;
    Some((state, began))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_one_directory() {
        for good in ["a", "web-1", "_x", "a.b+c"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "-x", ".calls", "a b", "ä"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn this_process_is_alive() {
        let pid = std::process::id() as i32;
        let (_, began) = process_stat(pid).unwrap();
        assert!(is_alive(pid, began));
        assert!(!is_alive(pid, began + 1));
    }

    #[test]
    fn only_a_created_container_starts() {
        assert!(Status::Created.allows("start"));
        for status in [
            Status::Creating,
            Status::Running,
            Status::Paused,
            Status::Stopped,
        ] {
            assert!(!status.allows("start"));
        }
        assert!(!Status::Stopped.allows("kill"));
        assert!(!Status::Running.allows("delete"));
    }
}
