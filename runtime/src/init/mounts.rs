//! The mounts of a container: each is built detached, then put at a place that was resolved inside the root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::mask::attach;
use super::{Doing, Init, StepError};
use crate::cgroup::PlaceRecord;
use crate::plan::MountSource;
use crate::plan::mount_options::MountOptions;
use crate::root_dir::{TargetKind, file_type};

mod copy_up;

impl Init {
    pub(super) fn mount(
        &mut self,
        destination: &Path,
        source: &MountSource,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        match source {
            MountSource::Bind(path) => self.mount_bind(destination, path, options),
            MountSource::Filesystem { fstype, source } => {
                self.mount_filesystem(destination, fstype, source, options)
            }
            MountSource::Cgroup { namespaced } => {
                self.mount_cgroup(destination, *namespaced, options)
            }
        }
    }

    fn mount_bind(
        &mut self,
        destination: &Path,
        source: &Path,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        let what = || format!("mount {} at {}", source.display(), destination.display());
        let mount = clone_path(source, options.recursive).doing(what)?;
        set_attributes(&mount, options).doing(what)?;
        let kind = match file_type(mount.as_fd()).doing(what)? {
            FileType::Directory => TargetKind::Directory,
            _ => TargetKind::File,
        };
        let target = self
            .root()?
            .resolve_or_make(destination, kind)
            .doing(what)?;
        attach(&mount, &target).doing(what)?;
        self.spend([mount, target]);
        Ok(())
    }

    fn mount_filesystem(
        &mut self,
        destination: &Path,
        fstype: &str,
        source: &str,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        let what = || format!("mount a {fstype} at {}", destination.display());
        let root = self.root()?;
        let target = if matches!(fstype, "proc" | "sysfs") {
            // What others write to below /proc must be what is mounted here, so no link may lead elsewhere.
            let found = match root.resolve_without_links(destination) {
                Err(Errno::NOENT) => {
                    root.make_directories(destination).doing(what)?;
                    root.resolve_without_links(destination)
                }
                answer => answer,
            };
            found.doing(|| format!("{}: links are not followed here", what()))?
        } else {
            root.resolve_or_make(destination, TargetKind::Directory)
                .doing(what)?
        };
        let mut data = options.data.clone();
        for flag in &options.filesystem_flags {
            data.push((flag.clone(), None));
        }
        let read_only = options.attributes.set & attr::ATTR_RDONLY != 0;
        if read_only && !is_shared_or_virtual(fstype) {
            // A device's own file system: read-only to the medium too.
            data.push(("ro".to_owned(), None));
        }
        // What is to be copied into it must be writable first.
        let attributes = match options.copy_up {
            true => 0,
            false => options.attributes.set,
        };
        let (mount, context) = new_filesystem(fstype, source, &data, attributes)
            .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
        if options.copy_up {
            copy_up::copy(&target, &mount)
                .doing(|| format!("copy what is at the place: {}", what()))?;
            attr::set_attributes(mount.as_fd(), &options.attributes, false).doing(what)?;
        }
        set_more_attributes(&mount, options).doing(what)?;
        attach(&mount, &target).doing(what)?;
        self.spend([mount, target, context]);
        Ok(())
    }

    /// The cgroup file systems as the container sees them: one in a tree of v2, a directory of hierarchies else.
    fn mount_cgroup(
        &mut self,
        destination: &Path,
        namespaced: bool,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        let what = || format!("mount the cgroups at {}", destination.display());
        let record = self.resources.cgroup.clone().unwrap_or_default();
        let root = self.root()?;
        let target = root
            .resolve_or_make(destination, TargetKind::Directory)
            .doing(what)?;
        if let [place] = &*record.places
            && place.controllers.is_empty()
        {
            let mount = hierarchy(place, namespaced, options)
                .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
            attr::set_attributes(mount.as_fd(), &options.attributes, true).doing(what)?;
            return attach(&mount, &target).doing(what);
        }
        let data = [("mode".to_owned(), Some("755".to_owned()))];
        let (top, context) = new_filesystem("tmpfs", "tmpfs", &data, 0)
            .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
        attach(&top, &target).doing(what)?;
        for place in &record.places {
            let mount = mount_hierarchy(&top, place, namespaced, options)
                .map_err(|error| StepError::other(format!("{}: {}", what(), error.message)))?;
            self.spend([mount]);
        }
        // Last, and for all of them: directories and links had to be made in it.
        attr::set_attributes(top.as_fd(), &options.attributes, true).doing(what)?;
        self.spend([top, target, context]);
        Ok(())
    }
}

/// The directory of a hierarchy in that of all.
pub(crate) fn hierarchy_name(place: &PlaceRecord) -> String {
    match &*place.controllers {
        [] => "unified".to_owned(),
        [named] if named.starts_with("name=") => named["name=".len()..].to_owned(),
        controllers => controllers.join(","),
    }
}

/// Mounts one hierarchy in the directory of all, with a link for each controller that it has in common with others.
fn mount_hierarchy(
    top: &OwnedFd,
    place: &PlaceRecord,
    namespaced: bool,
    options: &MountOptions,
) -> Result<OwnedFd, StepError> {
    let name = hierarchy_name(place);
    let what = || format!("hierarchy {name}");
    // The directory of all is new and nobody else's yet, so plain names do in it.
    rustix::fs::mkdirat(top, &*name, Mode::from_raw_mode(0o755)).doing(what)?;
    let mount = hierarchy(place, namespaced, options)
        .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&mount, "", top, &*name, flags).doing(what)?;
    if place.controllers.len() > 1 {
        for controller in &place.controllers {
            rustix::fs::symlinkat(&*name, top, &**controller).doing(what)?;
        }
    }
    Ok(mount)
}

/// One hierarchy, without the attributes that all of them get: in a cgroup namespace the kernel shows the container's cgroup as its root, else that cgroup's directory
/// is all that is shown.
fn hierarchy(
    place: &PlaceRecord,
    namespaced: bool,
    options: &MountOptions,
) -> Result<OwnedFd, String> {
    if !namespaced {
        let error = |errno| format!("{}: {errno}", place.directory.display());
        let mount = clone_path(&place.directory, true).map_err(error)?;
        set_more_attributes(&mount, options).map_err(error)?;
        return Ok(mount);
    }
    if place.controllers.is_empty() {
        return Ok(new_filesystem("cgroup2", "cgroup2", &[], options.attributes.set)?.0);
    }
    let mut data = Vec::new();
    for controller in &place.controllers {
        match controller.strip_prefix("name=") {
            Some(name) => {
                data.push(("none".to_owned(), None));
                data.push(("name".to_owned(), Some(name.to_owned())));
            }
            None => data.push((controller.clone(), None)),
        }
    }
    Ok(new_filesystem("cgroup", "cgroup", &data, options.attributes.set)?.0)
}

/// File systems whose superblock others share, or for which read-only is only a matter of the mount.
fn is_shared_or_virtual(fstype: &str) -> bool {
    matches!(
        fstype,
        "proc"
            | "sysfs"
            | "tmpfs"
            | "devpts"
            | "mqueue"
            | "cgroup"
            | "cgroup2"
            | "ramfs"
            | "devtmpfs"
    )
}

/// A copy of the mount at a path of the host, from there down.
fn clone_path(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags)
}

/// A new file system, not mounted anywhere yet, whose mount has these attributes from the start, and the descriptor that it was
/// made by. An error is in the kernel's own words where it has some.
fn new_filesystem(
    fstype: &str,
    source: &str,
    data: &[(String, Option<String>)],
    attributes: u64,
) -> Result<(OwnedFd, OwnedFd), String> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| errno.to_string())?;
    let explain = |part: &str, errno: Errno| format!("{part}: {}", explain(&context, errno));
    rustix::mount::fsconfig_set_string(&context, "source", source)
        .map_err(|errno| explain("source", errno))?;
    for (key, value) in data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, &**key, &**value),
            None => rustix::mount::fsconfig_set_flag(&context, &**key),
        }
        .map_err(|errno| explain(key, errno))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|errno| explain("create", errno))?;
    let mount = rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes as u32),
    )
    .map_err(|errno| explain("mount", errno))?;
    Ok((mount, context))
}

/// The kernel's last message on a file system that is being made, or the bare errno.
fn explain(context: &OwnedFd, errno: Errno) -> String {
    let mut buffer = [0u8; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(read) if read > 2 => {
            let text = String::from_utf8_lossy(&buffer[2..read]);
            format!("{} ({errno})", text.trim())
        }
        _ => errno.to_string(),
    }
}

/// Gives a detached mount what its options ask for.
fn set_attributes(mount: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    if !options.attributes.is_empty() {
        attr::set_attributes(mount.as_fd(), &options.attributes, false)?;
    }
    set_more_attributes(mount, options)
}

/// The same without the mount's own attributes.
fn set_more_attributes(mount: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    if !options.recursive_attributes.is_empty() {
        attr::set_attributes(mount.as_fd(), &options.recursive_attributes, true)?;
    }
    for (propagation, recursive) in &options.propagation {
        let change = Attributes {
            propagation: *propagation,
            ..Attributes::default()
        };
        attr::set_attributes(mount.as_fd(), &change, *recursive)?;
    }
    Ok(())
}

/// The permission bits of a stat's mode.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
