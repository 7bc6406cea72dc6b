//! The runtime's file, held so that no container can write to it.
//!
//! The runtime refuses to enter a container from a file that could be written to through `/proc/PID/exe`, and executes itself anew from a
//! read-only mount that is in no namespace. Started from such a mount it need not, which saves an execution of every container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use dhow_sys::mount::{ATTR_RDONLY, Attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

/// A program, and where it is to be started from while this lives.
pub(crate) struct Handle {
    path: PathBuf,
    _mount: Option<OwnedFd>,
}

impl Handle {
    /// A handle of the program; the program's own path where the kernel gives no such mount (the runtime protects itself then).
    pub(crate) fn new(program: &Path) -> Self {
        match read_only_mount(program) {
            Ok(mount) => Self {
                // Closed by the execution, but only after it has been looked up.
                path: PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())),
                _mount: Some(mount),
            },
            Err(_) => Self {
                path: program.to_owned(),
                _mount: None,
            },
        }
    }

    /// What to start.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn read_only_mount(program: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, program, flags)?;
    let change = Attributes {
        set: ATTR_RDONLY,
        ..Attributes::default()
    };
    dhow_sys::mount::set_attributes(mount.as_fd(), &change, false)?;
    // While the descriptor that made it is open, the mount is in a namespace of its own, and whoever comes by a path on it could
    // make it writable again. A plain reference holds the file and not that.
    let own = format!("/proc/self/fd/{}", mount.as_raw_fd());
    rustix::fs::open(own, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
