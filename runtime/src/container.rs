//! A container's record on disk: one directory under the runtime's root, locked by whoever changes it.
//!
//! ROOT/ID holds `state.json` (the record), `config.json` (the bundle's configuration as it was at creation) and, while
//! init waits, `start.sock`. Each file is replaced whole, so what a crash leaves is complete or not there.

mod dead_mount;
mod dir;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, CgroupRecord};
use crate::error::Kind;

pub use dir::{COMING_START_SOCKET, ContainerDir, START_SOCKET, check_root};

/// The version of the specification that this runtime follows.
pub const OCI_VERSION: &str = "1.3.0";

/// A record that is not as the command needs it.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The id is none.
    #[error(
        "invalid container ID format: {0:?} (letters, digits and _ + - . only, beginning with a letter, digit or _)"
    )]
    InvalidId(String),
    /// There is none.
    #[error("container does not exist: {0:?}")]
    NotFound(String),
    /// There is one.
    #[error("container with given ID already exists: {0:?}; delete it first or choose another id")]
    Exists(String),
    /// It is at another place of its life.
    #[error("{}", status_words(verb, id, *status))]
    Status {
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: String,
        /// Where it is.
        status: Status,
    },
    /// Somebody does not let it go.
    #[error(
        "container {0:?} is held by another command, perhaps one whose hook does not end; end that and try again, or use `delete --force`"
    )]
    Held(String),
    /// The containers' directory is on a mount whose server does not answer.
    #[error(
        "the state directory {} does not answer within {seconds} s: is it on a FUSE or network mount whose server is gone? unmount that (umount -l), or choose another with --root",
        path.display()
    )]
    Unanswered {
        /// The directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A killed process that does not end.
    #[error(
        "process {pid} of container {id:?} was killed and does not end: it waits in the kernel, mostly for a FUSE or network mount whose server is gone; unmount that by force (umount -f, or its abort file in /sys/fs/fuse/connections) and try again"
    )]
    Stuck {
        /// The container.
        id: String,
        /// Its process.
        pid: i32,
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

/// Why a command cannot be where a container is in its life, in the words of runc's that callers look for.
fn status_words(verb: &str, id: &str, status: Status) -> String {
    match (verb, status) {
        ("start", Status::Stopped) => format!("cannot start a container that has stopped: {id:?}"),
        ("start", Status::Running) => {
            format!("cannot start an already running container: {id:?}")
        }
        ("start", status) => format!("cannot start a container in the {status} state: {id:?}"),
        ("exec", Status::Paused) => {
            format!("cannot exec in a paused container (use --ignore-paused to override): {id:?}")
        }
        ("exec", status) => format!("cannot exec in a {status} container: {id:?}"),
        ("delete", status) => format!(
            "cannot delete container {id} that is not stopped: {status} (--force kills it first)"
        ),
        ("resume", Status::Stopped) => format!("container not running: {id:?} has stopped"),
        ("resume", status) => format!("container not paused: {id:?} is {status}"),
        ("checkpoint", status) => {
            format!("Container cannot be checkpointed in {status} state: {id:?}")
        }
        ("events", _) => format!("container with id {id} is not running"),
        (_, Status::Stopped) => format!("container not running: {id:?} has stopped"),
        (verb, status) => format!("cannot {verb} container {id:?} in the {status} state"),
    }
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
            // As in runc; the specification would have a created one killed first.
            "delete" => matches!(self, Self::Stopped | Self::Created),
            "checkpoint" => matches!(self, Self::Running | Self::Paused),
            "events" => self != Self::Stopped,
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
    /// The groups of resctrl that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resctrl: Vec<PathBuf>,
    /// Whether its processes keep the session keyrings of their callers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_keyring: bool,
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

/// Whether a process is there and has not ended: of this id, begun at this time.
pub fn is_alive(pid: i32, start_time: u64) -> bool {
    matches!(process_stat(pid), Some((state, began)) if began == start_time && state != b'Z' && state != b'X')
}

/// A process's state letter and when it began, in clock ticks since boot. One whose first thread has ended before others is
/// not told as a zombie.
pub fn process_stat(pid: i32) -> Option<(u8, u64)> {
    let text = crate::procfs::read_record(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    // The name stands in brackets and may hold anything, brackets too.
    let after = text.iter().rposition(|byte| *byte == b')')? + 2;
    let rest = std::str::from_utf8(text.get(after..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.bytes().next()?;
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let began = fields.nth(1)?.parse().ok()?;
    let state = if state == b'Z' && threads > 1 {
        b'S'
    } else {
        state
    };
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
