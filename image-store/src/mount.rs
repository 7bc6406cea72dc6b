//! Overlay mounts, with every option that the kernel might default otherwise.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use dhow_layer::XattrFlavour;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::error::io;
use crate::id_mapped::{Attached, MappedIds, copy_of};
use crate::{Store, StoreError};

/// What mount(2) takes as options, less the terminating NUL.
const OPTIONS: usize = 4095;
/// How long somebody may still have a file of a tree open that is to be unmounted.
const BUSY: Duration = Duration::from_secs(10);
/// How many layers the kernel stacks (OVL_MAX_STACK).
pub(crate) const DEEPEST: usize = 500;
/// Where the store is seen with mapped owners, in the mount namespace of who mounts an overlay.
const MAPPED: &str = "mapped";

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
    /// Whose files are mapped.
    pub(crate) ids: Option<&'a MappedIds>,
}

impl Store {
    /// Mounts an overlay in the calling thread's mount namespace.
    pub(crate) fn mount_overlay(&self, overlay: &Overlay<'_>) -> Result<(), StoreError> {
        check_depth(overlay.lowers.len())?;
        let path = self.path("trees");
        let Some(ids) = overlay.ids else {
            let trees = File::open(&path).map_err(io("opening", &path))?;
            return self.mount_parts(overlay, &trees);
        };
        let copy = copy_of(self.root(), ids)?;
        let attached = Attached::new(copy, self.path(MAPPED))?;
        self.mount_parts(overlay, &attached.open("trees")?)?;
        attached.detach()
    }

    /// Mounts an overlay whose parts are named from `trees`.
    fn mount_parts(&self, overlay: &Overlay<'_>, trees: &File) -> Result<(), StoreError> {
        let ids = overlay.ids;
        let lowers = self.seen(&overlay.lowers)?.into_iter();
        let lowers = lowers.map(|lower| format!("{lower}/fs"));
        let named = Parts {
            lowers: lowers.collect(),
            upper: overlay.upper.clone(),
            work: overlay.work.clone(),
        };
        let options = self.options(&named, overlay.volatile);
        if options.len() <= OPTIONS {
            return mount_from(trees, &options, overlay.target, ids);
        }
        // Names of so many layers are too long for the page; those of descriptors are not, so they are named by those.
        let mut opened = Vec::new();
        let mut open = |part: &String| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opening = rustix::fs::openat(trees, part.as_str(), flags, Mode::empty());
            let descriptor = opening.map_err(io("opening", self.path("trees").join(part)))?;
            let name = descriptor.as_raw_fd().to_string();
            opened.push(descriptor);
            Ok(name)
        };
        let short = Parts {
            lowers: named
                .lowers
                .iter()
                .map(&mut open)
                .collect::<Result<_, _>>()?,
            upper: open(&named.upper)?,
            work: open(&named.work)?,
        };
        let descriptors = Path::new("/proc/self/fd");
        let directory = File::open(descriptors).map_err(io("opening", descriptors))?;
        mount_from(
            &directory,
            &self.options(&short, overlay.volatile),
            overlay.target,
            ids,
        )
    }

    /// The layers that can be seen, topmost first. Each comes once: the kernel refuses a directory that is stacked twice (ELOOP), and
    /// further down a layer has nothing that it does not show at the top. Steps that change nothing make the same layer again and again.
    /// It ends with one whose root hides all that is below: the kernel heeds the mark of an opaque directory anywhere but there.
    fn seen<'a>(&self, lowers: &[&'a str]) -> Result<Vec<&'a str>, StoreError> {
        let mut known = HashSet::new();
        let mut seen: Vec<&str> = lowers.to_vec();
        seen.retain(|tree| known.insert(*tree));
        let above = seen.len().saturating_sub(1);
        for at in 0..above {
            let root = self.open_tree(seen[at])?;
            let opaque = dhow_layer::is_opaque(root.as_fd(), self.flavour());
            if opaque.map_err(io("looking at the root of the layer", seen[at]))? {
                seen.truncate(at + 1);
                break;
            }
        }
        Ok(seen)
    }

    /// The options of a mount of these parts.
    fn options(&self, parts: &Parts, volatile: bool) -> String {
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={},metacopy=off,index=off",
            parts.lowers.join(":"),
            parts.upper,
            parts.work
        );
        options.push_str(match self.flavour() {
            XattrFlavour::Trusted => ",redirect_dir=off",
            // The only mode that the kernel takes together with userxattr.
            XattrFlavour::User => ",userxattr,redirect_dir=nofollow",
        });
        if volatile {
            options.push_str(",volatile");
        }
        options
    }
}

/// The names by which the options call an overlay's parts.
struct Parts {
    lowers: Vec<String>,
    upper: String,
    work: String,
}

/// Refuses a root file system of more layers than the kernel stacks.
pub(crate) fn check_depth(layers: usize) -> Result<(), StoreError> {
    if layers <= DEEPEST {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "{layers} layers are too many for a root file system: the kernel stacks at most {DEEPEST}; \
         make an image of fewer (each RUN, COPY and ADD makes one)"
    )))
}

/// Mounts by a thread that has `base` as a working directory of its own, in the caller's mount namespace.
fn mount_from(
    base: &File,
    options: &str,
    target: &Path,
    ids: Option<&MappedIds>,
) -> Result<(), StoreError> {
    let options = CString::new(options)
        .map_err(|_| StoreError::Invalid("a name with a NUL character".to_owned()))?;
    let mounted = std::thread::scope(|scope| {
        let mount = || {
            unshare(CloneFlags::CLONE_FS).map_err(|e| Errno::from_raw_os_error(e as i32))?;
            rustix::process::fchdir(base)?;
            if let Some(ids) = ids {
                ids.become_root()?;
            }
            let flags = MountFlags::empty();
            rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
        };
        scope.spawn(mount).join()
    });
    mounted
        .unwrap_or(Err(Errno::CANCELED))
        .map_err(io("mounting an overlay on", target))
}

/// Unmounts, after which nothing can write to it any more. Who only looks at it for a moment (through /proc, say) is waited for.
pub(crate) fn unmount(target: &Path) -> Result<(), StoreError> {
    let end = Instant::now() + BUSY;
    loop {
        match rustix::mount::unmount(target, UnmountFlags::empty()) {
            Err(Errno::BUSY) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done.map_err(io("unmounting", target)),
        }
    }
}

/// An empty work directory, as every mount needs.
pub(crate) fn fresh_directory(path: &Path) -> Result<(), StoreError> {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        use std::os::unix::ffi::OsStrExt as _;
        let parent = File::open(parent).map_err(io("opening", parent))?;
        dhow_layer::remove_tree(parent.as_fd(), name.as_bytes()).map_err(io("emptying", path))?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(io("making", path))
}
