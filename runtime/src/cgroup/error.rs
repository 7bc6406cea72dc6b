//! What can go wrong with a cgroup.

use std::io;
use std::path::PathBuf;

/// A cgroup that cannot be made, limited, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Where controllers are mounted, or where this process stands, cannot be found out.
    #[error("cannot find the cgroup hierarchies from {file}: {source}")]
    Discover {
        /// The file in /proc.
        file: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A path that leaves the tree.
    #[error("the cgroup path {} must not contain '..'", .0.display())]
    Path(PathBuf),
    /// A directory cannot be made.
    #[error("cannot make the cgroup {}: {source}", .directory.display())]
    Make {
        /// The directory.
        directory: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Someone else's cgroup.
    #[error(
        "the cgroup {} is already there and has processes in it; remove them or choose another cgroupsPath",
        .0.display()
    )]
    Occupied(PathBuf),
    /// A limit that this host cannot give.
    #[error(
        "{limit} needs the cgroup controller {controller}, which this host does not offer; enable it or leave the limit away"
    )]
    MissingController {
        /// The controller's name.
        controller: &'static str,
        /// What was asked for.
        limit: &'static str,
    },
    /// A limit for a container that this user may not make a cgroup for.
    #[error(
        "{limit} needs a cgroup, and this user may not make one in {}; have a cgroup delegated (a directory of this user's own, named by linux.cgroupsPath or the one that it is in), or leave the limit away",
        .directory.display()
    )]
    NotDelegated {
        /// Where it would have been made.
        directory: PathBuf,
        /// What was asked for.
        limit: &'static str,
    },
    /// A v2 cgroup cannot give controllers to its children while processes are in it.
    #[error(
        "the cgroup {} has processes in it and so cannot give the controller {controller} to cgroups below it; choose a cgroupsPath beside it",
        .directory.display()
    )]
    InternalProcesses {
        /// The cgroup with processes.
        directory: PathBuf,
        /// The controller.
        controller: String,
    },
    /// A v2 cgroup that is divided among threads.
    #[error(
        "the cgroup {} is in threaded mode, in which cgroups below it cannot have the controller {controller}; choose a cgroupsPath beside it",
        .directory.display()
    )]
    Threaded {
        /// The cgroup with threads.
        directory: PathBuf,
        /// The controller.
        controller: String,
    },
    /// A value that cannot be.
    #[error("{limit}: {reason}")]
    Value {
        /// What was asked for.
        limit: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that the kernel refuses.
    #[error("the kernel refused {value:?} for {}: {source}", .file.display())]
    Write {
        /// The file in the cgroup.
        file: PathBuf,
        /// The value.
        value: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A file that cannot be read or opened.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file or directory.
        file: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The program that decides about devices was refused.
    #[error("cannot set the device rules of the cgroup {}: {source}", .directory.display())]
    Devices {
        /// The cgroup.
        directory: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A process that cannot be sent a signal.
    #[error("cannot send signal {signal} to process {process}: {source}")]
    Signal {
        /// The process.
        process: i32,
        /// The signal's number.
        signal: i32,
        /// What the system answered.
        source: io::Error,
    },
    /// Processes that do not stop.
    #[error("the processes of the cgroup {} were not frozen within {seconds} s", .directory.display())]
    Freeze {
        /// The cgroup.
        directory: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// --systemd-cgroup on a host without it.
    #[error(
        "--systemd-cgroup: this host was not booted with systemd (there is no /run/systemd/system); leave it out (podman: --cgroup-manager=cgroupfs)"
    )]
    NoSystemd,
    /// systemd, or its bus, cannot be reached.
    #[error(
        "cannot reach systemd through {address}: {source}; without root a user's own session is needed (package dbus-user-session)"
    )]
    Bus {
        /// The socket.
        address: String,
        /// What the system answered.
        source: io::Error,
    },
    /// systemd does not do what it is asked for.
    #[error("systemd did not {doing}: {answer}")]
    Systemd {
        /// What was asked for.
        doing: String,
        /// What it answered.
        answer: String,
    },
    /// A cgroup that is still in use.
    #[error("cannot remove the cgroup {}: {source}", .directory.display())]
    Remove {
        /// The cgroup.
        directory: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}
