//! Steps on the root directory as a whole.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

use super::tree::{self, Tree};
use super::{Doing, StepError};
use crate::root_dir::RootDir;

/// Cuts this mount namespace off from the one that it was copied from.
pub(super) fn isolate(propagation: u64) -> Result<(), StepError> {
    let change = Attributes {
        propagation,
        ..Attributes::default()
    };
    tree::propagate(c"/", &change, true).doing(|| "cut the mounts off from the host's".to_owned())
}

/// Makes the root directory, which `open` opens, a mount, with all mounts below it, and opens that mount.
pub(super) fn bind(
    path: &Path,
    open: impl Fn() -> rustix::io::Result<OwnedFd>,
) -> Result<RootDir, StepError> {
    let what = || format!("make {} a mount", path.display());
    let target = open().doing(what)?;
    let tree = Tree::of(&target, true).doing(what)?;
    Ok(RootDir::new(tree.attach(&target, open).doing(what)?.mount))
}

pub(super) fn make_read_only(root: &RootDir) -> Result<(), StepError> {
    let change = Attributes {
        set: attr::ATTR_RDONLY,
        ..Attributes::default()
    };
    tree::change(root.fd(), &change, false).doing(|| "make the root read-only".to_owned())
}

/// Puts the root over the host's and lets that go: both stand at "." for a moment, so no place for the old one is needed.
pub(super) fn pivot(root: &RootDir) -> Result<(), StepError> {
    rustix::process::fchdir(root.fd()).doing(|| "enter the root".to_owned())?;
    rustix::process::pivot_root(".", ".").doing(|| {
        "pivot_root (with --no-pivot it works on an initial ramdisk too, less safely)".to_owned()
    })?;
    // The old root lies over the new one now, which this process stays in.
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "let the host's root go".to_owned())
}

/// Moves the root's mount over the host's root. That one stays below, so first its proc and sysfs go: while they are in the
/// namespace, the kernel lets a user namespace of the container's mount new ones, with nothing hidden in them.
pub(super) fn move_over(root: &RootDir) -> Result<(), StepError> {
    hide_kernel_mounts(root)?;
    rustix::process::fchdir(root.fd()).doing(|| "enter the root".to_owned())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match rustix::mount::move_mount(root.fd(), "", CWD, "/", flags) {
        Err(Errno::NOSYS) => rustix::mount::mount_move(".", "/"),
        answer => answer,
    }
    .doing(|| "move the root's mount to /".to_owned())?;
    rustix::process::chroot(".").doing(|| "chroot".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter the new root".to_owned())
}

/// Takes the mounts of proc and sysfs outside the root away, or where others keep them in place, puts something over them.
fn hide_kernel_mounts(root: &RootDir) -> Result<(), StepError> {
    let what = || "hide the host's proc and sysfs".to_owned();
    let own = format!("/proc/self/fd/{}", root.fd().as_raw_fd());
    let own = rustix::fs::readlink(own, Vec::new()).doing(what)?;
    let own = Path::new(OsStr::from_bytes(own.to_bytes()));
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
    let mut places: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(kernel_mount)
        .filter(|place| !place.starts_with(own))
        .collect();
    // What lies deeper goes first, and /proc itself last.
    places.reverse();
    for place in places {
        match rustix::mount::unmount(&place, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::NOENT) => continue,
            // A mount that came with a user namespace's is held in place.
            Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(StepError::system(what(), errno)),
        }
        let none: Option<&std::ffi::CStr> = None;
        rustix::mount::mount("tmpfs", &place, "tmpfs", MountFlags::RDONLY, none).doing(what)?;
    }
    Ok(())
}

/// The place of a line of mountinfo, if it is a mount of proc or sysfs.
fn kernel_mount(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    if !matches!(*fields.get(separator + 1)?, b"proc" | b"sysfs") {
        return None;
    }
    // White space and backslashes stand there in octal.
    let mut place = Vec::new();
    let mut rest = *fields.get(4)?;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        place.push(octal.unwrap_or(*first));
        rest = octal.map_or(after, |_| &after[3..]);
    }
    Some(PathBuf::from(OsStr::from_bytes(&place)))
}

pub(super) fn propagate(propagation: u64, recursive: bool) -> Result<(), StepError> {
    let change = Attributes {
        propagation,
        ..Attributes::default()
    };
    tree::propagate(c"/", &change, recursive).doing(|| "give the root its propagation".to_owned())
}

/// Whether there is something at a path of the container; what it is, the step that enters it will say.
pub(super) fn is_there(path: &Path) -> bool {
    path == Path::new("/")
        || rustix::fs::access(path, rustix::fs::Access::EXISTS) != Err(rustix::io::Errno::NOENT)
}

/// Makes a directory of the container.
pub(super) fn make_directory(root: &RootDir, path: &Path) -> Result<(), StepError> {
    root.make_directories(path)
        .map(drop)
        .doing(|| format!("make the working directory {}", path.display()))
}
