//! Overlay mounts, with every option that the kernel might default otherwise.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use dhow_layer::XattrFlavour;
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::error::io;
use crate::{Store, StoreError};

/// What mount(2) takes as options, less the terminating NUL.
const OPTIONS: usize = 4095;

/// Puts the calling thread into a mount namespace of its own, from which no mount gets out; done once, before other threads
/// start. What is mounted afterwards is gone with the process and whatever it started.
///
/// # Errors
/// Without the privilege to do so.
pub fn enter_private_mounts() -> Result<(), StoreError> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(io("entering a mount namespace of its own above", "/"))?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).map_err(io("keeping mounts from leaving", "/"))
}

/// The parts of an overlay; paths are relative to the store's trees, so that the names of many layers fit.
pub(crate) struct Overlay<'a> {
    /// Topmost first.
    pub(crate) lowers: Vec<&'a str>,
    pub(crate) upper: String,
    pub(crate) work: String,
    pub(crate) target: &'a Path,
    /// Nothing of it has to outlive a crash of the machine, so that unmounting need not wait for the disk.
    pub(crate) volatile: bool,
}

impl Store {
    /// Mounts an overlay in the calling thread's mount namespace.
    pub(crate) fn mount_overlay(&self, overlay: &Overlay<'_>) -> Result<(), StoreError> {
        let lowers: Vec<String> = overlay.lowers.iter().map(|l| format!("{l}/fs")).collect();
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={},metacopy=off,index=off",
            lowers.join(":"),
            overlay.upper,
            overlay.work
        );
        options.push_str(match self.flavour() {
            XattrFlavour::Trusted => ",redirect_dir=off",
            // The only mode that the kernel takes together with userxattr.
            XattrFlavour::User => ",userxattr,redirect_dir=nofollow",
        });
        if overlay.volatile {
            options.push_str(",volatile");
        }
        if options.len() > OPTIONS {
            return Err(StoreError::Invalid(format!(
                "an image of {} layers cannot be mounted; the limit is about 380",
                lowers.len()
            )));
        }
        let trees = self.path("trees");
        let trees = File::open(&trees).map_err(io("opening", &trees))?;
        let target = overlay.target;
        let options = CString::new(options)
            .map_err(|_| StoreError::Invalid("a name with a NUL character".to_owned()))?;
        // A thread with a working directory of its own, in the caller's mount namespace.
        let mounted = std::thread::scope(|scope| {
            let mount = || {
                unshare(CloneFlags::CLONE_FS).map_err(|e| Errno::from_raw_os_error(e as i32))?;
                rustix::process::fchdir(&trees)?;
                let flags = MountFlags::empty();
                rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
            };
            scope.spawn(mount).join()
        });
        mounted
            .unwrap_or(Err(Errno::CANCELED))
            .map_err(io("mounting an overlay on", target))
    }
}

/// Unmounts, after which nothing can write to it any more.
pub(crate) fn unmount(target: &Path) -> Result<(), StoreError> {
    rustix::mount::unmount(target, UnmountFlags::empty()).map_err(io("unmounting", target))
}

/// An empty work directory, as every mount needs.
pub(crate) fn fresh_directory(path: &Path) -> Result<(), StoreError> {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        use std::os::fd::AsFd as _;
        use std::os::unix::ffi::OsStrExt as _;
        let parent = File::open(parent).map_err(io("opening", parent))?;
        dhow_layer::remove_tree(parent.as_fd(), name.as_bytes()).map_err(io("emptying", path))?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(io("making", path))
}
