//! Asking security modules for the program's label.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::{Doing, StepError};
use crate::plan::LabelModule;

pub(super) fn set(module: LabelModule, label: &str) -> std::result::Result<(), StepError> {
    let (name, file, text) = match module {
        LabelModule::AppArmor => (
            "AppArmor profile",
            "self/attr/apparmor/exec",
            format!("exec {label}"),
        ),
        LabelModule::Selinux => ("SELinux label", "self/attr/exec", label.to_owned()),
    };
    if label == "unconfined" && !module.is_enabled() {
        return Ok(());
    }
    let what = || format!("ask for the {name} {label:?} (is it loaded?)");
    let fd = match open(file) {
        // Before Linux 5.8 the modules had one directory for all.
        Err(Errno::NOENT) => open("self/attr/exec"),
        answer => answer,
    };
    rustix::io::write(&fd.doing(what)?, text.as_bytes())
        .map(drop)
        .doing(what)
}

/// Asks for the SELinux label of the keyrings that this process makes; an empty one is the policy's choice.
pub(super) fn of_keyrings(label: &str) -> std::result::Result<(), StepError> {
    let what = || format!("ask for the SELinux label {label:?} of the session keyring");
    let fd = open("self/attr/keycreate").doing(what)?;
    rustix::io::write(&fd, label.as_bytes())
        .map(drop)
        .doing(what)
}

/// Opens a file of this process's below /proc. The container may have made what is there, so it is seen to be the root of
/// a procfs, and neither a mount over part of it nor a link of the kernel's is followed.
fn open(file: &str) -> Result<OwnedFd> {
    /// `PROC_SUPER_MAGIC`
    const PROCFS: i64 = 0x9fa0;
    /// The inode of a procfs's root.
    const ROOT: u64 = 1;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
    let is_procfs = rustix::fs::fstatfs(&root)?.f_type as i64 == PROCFS;
    if !is_procfs || rustix::fs::fstat(&root)?.st_ino != ROOT {
        return Err(Errno::NODEV);
    }
    rustix::fs::openat2(
        &root,
        file,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS,
    )
}
