//! The mounts of a container: each is built detached, then put at a place that was resolved inside the root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::FsPickFlags;

use super::tree::{self, Tree};
use super::{Doing, Init, StepError};
use crate::cgroup::PlaceRecord;
use crate::plan::MountSource;
use crate::plan::mount_options::MountOptions;
use crate::root_dir::{RootDir, TargetKind};

mod copy_up;

impl Init {
    pub(super) fn mount(
        &mut self,
        destination: &Path,
        source: &MountSource,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        if !matches!(source, MountSource::Filesystem { .. }) {
            // It may be put over what was new.
            self.forget_new_directory();
        }
        match source {
            MountSource::Bind(path) => {
                let tree = match Tree::at(path, options.recursive) {
                    Err(Errno::ACCESS) => {
                        let source = self.opened_by_parent(path);
                        source.and_then(|source| Tree::of(&source, options.recursive))
                    }
                    answer => answer,
                };
                let tree = tree
                    .doing(|| format!("mount {} at {}", path.display(), destination.display()))?;
                self.mount_bind(destination, path, tree, options)
            }
            MountSource::IdMapped { path, number } => {
                let made = self.resources.id_mapped.get_mut(*number);
                let made = made
                    .and_then(Option::take)
                    .ok_or_else(|| StepError::other("the id-mapped mount was not made"))?;
                self.mount_bind(destination, path, Tree::detached(made), options)
            }
            MountSource::Remount => self.remount(destination, options),
            MountSource::Filesystem { fstype, source } => {
                self.mount_filesystem(destination, fstype, source, options)
            }
            MountSource::Cgroup {
                namespaced,
                unified,
            } => self.mount_cgroup(destination, *namespaced, *unified, options),
        }
    }

    fn mount_bind(
        &mut self,
        destination: &Path,
        source: &Path,
        mut tree: Tree,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        let what = || {
            let hint = match options.recursive_attributes.is_empty() {
                true => "",
                false => " (recursive options take Linux 5.12)",
            };
            format!(
                "mount {} at {}{hint}",
                source.display(),
                destination.display()
            )
        };
        change_all(&mut tree, options).doing(what)?;
        let kind = match tree.file_type().doing(what)? {
            FileType::Directory => TargetKind::Directory,
            _ => TargetKind::File,
        };
        let root = self.root()?;
        let target = root.resolve_or_make(destination, kind).doing(what)?;
        let placed = tree
            .attach(&target, || root.resolve(destination))
            .doing(|| mismatch(what(), kind, &target))?;
        self.spend([target]);
        self.keep(destination, placed.mount);
        Ok(())
    }

    /// Keeps the mount at a place in which something may have to be hidden; others have served.
    fn keep(&mut self, destination: &Path, mount: OwnedFd) {
        // What is mounted over others hides them.
        let covered = self
            .held
            .extract_if(.., |(at, _)| at.starts_with(destination));
        let covered: Vec<_> = covered.map(|(_, mount)| mount.into_fd()).collect();
        self.spent.extend(covered);
        if [Path::new("/proc"), Path::new("/sys")].contains(&destination) {
            let held = (destination.to_owned(), RootDir::new(mount));
            self.held.push(held);
        } else {
            self.spend([mount]);
        }
    }

    /// Changes what is mounted at a place: attributes of that mount, and options of its file system.
    fn remount(&mut self, destination: &Path, options: &MountOptions) -> Result<(), StepError> {
        let what = || format!("remount {}", destination.display());
        let mount = self.root()?.resolve(destination).doing(what)?;
        if !options.bind {
            reconfigure(&mount, options).doing(what)?;
        }
        tree::change(mount.as_fd(), &options.attributes, false).doing(what)?;
        tree::change(mount.as_fd(), &options.recursive_attributes, true).doing(what)?;
        for (propagation, recursive) in &options.propagation {
            let change = Attributes {
                propagation: *propagation,
                ..Attributes::default()
            };
            tree::change(mount.as_fd(), &change, *recursive).doing(what)?;
        }
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
        let new = self.directory_in_new(destination);
        let root = self.root()?;
        // What is there lends a tmpfs its permissions where its options do not say: /root stays closed to others.
        let borrows = fstype == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode");
        let borrowed = match new.is_none() && borrows {
            true => permissions_at(root, destination),
            false => None,
        };
        let target = if let Some(new) = new {
            new
        } else if matches!(fstype, "proc" | "sysfs") {
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
        let data = filesystem_data(fstype, options, borrowed);
        // What is to be copied into it must be writable first.
        let attributes = match options.copy_up {
            true => 0,
            false => options.attributes.set,
        };
        let mut tree = Tree::filesystem(fstype, source, &data, attributes)
            .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
        change_more(&mut tree, options).doing(what)?;
        let placed = tree
            .attach(&target, || root.resolve(destination))
            .doing(|| mismatch(what(), TargetKind::Directory, &target))?;
        if options.copy_up {
            copy_up::copy(&target, &placed.mount)
                .doing(|| format!("copy what is at the place: {}", what()))?;
            tree::change(placed.mount.as_fd(), &options.attributes, false).doing(what)?;
        }
        self.spend([target]);
        self.spent.extend(placed.context);
        if fstype == "tmpfs" && !options.copy_up && self.new_directory.is_none() {
            self.new_directory = Some((destination.to_owned(), placed.mount));
        } else {
            self.keep(destination, placed.mount);
        }
        Ok(())
    }

    /// Makes and opens the place of a mount right below the file system that was mounted last but for such ones: that is
    /// empty and nobody else's, so nothing needs to be looked up from the root. None where it is another place, or one that
    /// is there already; then plain ways are taken from here on.
    fn directory_in_new(&mut self, destination: &Path) -> Option<OwnedFd> {
        let (path, mount) = self.new_directory.as_ref()?;
        let name = destination.file_name()?;
        let made = (destination.parent() == Some(path))
            .then(|| rustix::fs::mkdirat(mount, name, Mode::from_raw_mode(0o755)).ok())
            .flatten()
            .and_then(|()| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(mount, name, flags, Mode::empty()).ok()
            });
        if made.is_none() {
            self.forget_new_directory();
        }
        made
    }

    fn forget_new_directory(&mut self) {
        if let Some((_, mount)) = self.new_directory.take() {
            self.spend([mount]);
        }
    }

    /// The cgroup file systems as the container sees them: one in a tree of v2, a directory of hierarchies else.
    fn mount_cgroup(
        &mut self,
        destination: &Path,
        namespaced: bool,
        unified: bool,
        options: &MountOptions,
    ) -> Result<(), StepError> {
        let what = || format!("mount the cgroups at {}", destination.display());
        let mut record = self.resources.cgroup.clone().unwrap_or_default();
        if unified && !record.places.is_empty() {
            record.places.retain(|place| place.controllers.is_empty());
            if record.places.is_empty() {
                return Err(StepError::other(format!(
                    "{}: the container has no cgroup of v2 on this host; mount the type cgroup",
                    what()
                )));
            }
        }
        let root = self.root()?;
        let target = root
            .resolve_or_make(destination, TargetKind::Directory)
            .doing(what)?;
        if let [place] = &*record.places
            && place.controllers.is_empty()
        {
            let mut tree = hierarchy(place, namespaced, options)
                .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
            tree.change(&options.attributes, false).doing(what)?;
            return tree
                .attach(&target, || root.resolve(destination))
                .map(drop)
                .doing(what);
        }
        let data = [("mode".to_owned(), Some("755".to_owned()))];
        let top = Tree::filesystem("tmpfs", "tmpfs", &data, 0)
            .map_err(|error| StepError::other(format!("{}: {error}", what())))?
            .attach(&target, || root.resolve(destination))
            .doing(what)?;
        let mut mounts = Vec::with_capacity(record.places.len());
        for place in &record.places {
            let mount = mount_hierarchy(&top.mount, place, namespaced, options)
                .map_err(|error| StepError::other(format!("{}: {}", what(), error.message)))?;
            mounts.push(mount);
        }
        mounts.push(top.mount);
        // Last, and for all of them: directories and links had to be made in it.
        change_together(&mounts, &options.attributes).doing(what)?;
        self.spent.extend(mounts.into_iter().chain(top.context));
        self.spend([target]);
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
    let tree = hierarchy(place, namespaced, options)
        .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
    let placed = tree.attach_in(top, &name).doing(what)?;
    if place.controllers.len() > 1 {
        for controller in &place.controllers {
            rustix::fs::symlinkat(&*name, top, &**controller).doing(what)?;
        }
    }
    Ok(placed.mount)
}

/// Changes mounts of which the last has all others below it.
fn change_together(mounts: &[OwnedFd], change: &Attributes) -> rustix::io::Result<()> {
    let Some(top) = mounts.last() else {
        return Ok(());
    };
    match tree::change(top.as_fd(), change, true) {
        // An older kernel can change one mount only.
        Err(Errno::NOSYS) => mounts
            .iter()
            .try_for_each(|mount| tree::change(mount.as_fd(), change, false)),
        answer => answer,
    }
}

/// One hierarchy, without the attributes that all of them get: in a cgroup namespace the kernel shows the container's cgroup as its root, else that cgroup's directory
/// is all that is shown.
fn hierarchy(
    place: &PlaceRecord,
    namespaced: bool,
    options: &MountOptions,
) -> Result<Tree, String> {
    if !namespaced {
        let error = |errno| format!("{}: {errno}", place.directory.display());
        let mut tree = Tree::at(&place.directory, true).map_err(error)?;
        change_more(&mut tree, options).map_err(error)?;
        return Ok(tree);
    }
    if place.controllers.is_empty() {
        return Tree::filesystem("cgroup2", "cgroup2", &[], options.attributes.set);
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
    Tree::filesystem("cgroup", "cgroup", &data, options.attributes.set)
}

/// What a file system is told: its own options, those that come from a mount's, and the permissions of its root where they are given.
fn filesystem_data(
    fstype: &str,
    options: &MountOptions,
    mode: Option<u32>,
) -> Vec<(String, Option<String>)> {
    let mut data = options.data.clone();
    data.extend(mode.map(|mode| ("mode".to_owned(), Some(format!("{mode:o}")))));
    let flags = options.filesystem_flags.iter();
    data.extend(flags.map(|flag| (flag.clone(), None)));
    let read_only = options.attributes.set & attr::ATTR_RDONLY != 0;
    if read_only && !is_shared_or_virtual(fstype) {
        // A device's own file system: read-only to the medium too.
        data.push(("ro".to_owned(), None));
    }
    data
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

/// Options of a file system that is mounted already. An older kernel than Linux 5.2 can set its flags only together with
/// those of the mount, so there they are not changed.
fn reconfigure(mount: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    if options.data.is_empty() && options.filesystem_flags.is_empty() {
        return Ok(());
    }
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = rustix::mount::fspick(mount, "", flags)?;
    for flag in &options.filesystem_flags {
        rustix::mount::fsconfig_set_flag(&context, &**flag)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, &**key, &**value)?,
            None => rustix::mount::fsconfig_set_flag(&context, &**key)?,
        }
    }
    rustix::mount::fsconfig_reconfigure(&context)
}

/// Gives a mount what its options ask for.
fn change_all(tree: &mut Tree, options: &MountOptions) -> rustix::io::Result<()> {
    tree.change(&options.attributes, false)?;
    change_more(tree, options)
}

/// The same without the mount's own attributes.
fn change_more(tree: &mut Tree, options: &MountOptions) -> rustix::io::Result<()> {
    tree.change(&options.recursive_attributes, true)?;
    for (propagation, recursive) in &options.propagation {
        let change = Attributes {
            propagation: *propagation,
            ..Attributes::default()
        };
        tree.change(&change, *recursive)?;
    }
    Ok(())
}

/// What was being done, with why the kernel will not have it where a directory and a file meet.
fn mismatch(what: String, kind: TargetKind, target: &OwnedFd) -> String {
    let Ok(stat) = rustix::fs::fstat(target) else {
        return what;
    };
    let on_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (kind, on_directory) {
        (TargetKind::Directory, false) => {
            format!("{what}, which is a file (a directory goes over a directory only)")
        }
        (TargetKind::File, true) => {
            format!("{what}, which is a directory (a file goes over a file only)")
        }
        _ => what,
    }
}

/// The permission bits of what is at a place, if anything is.
fn permissions_at(root: &RootDir, destination: &Path) -> Option<u32> {
    let there = root.resolve(destination).ok()?;
    let stat = rustix::fs::fstat(there).ok()?;
    Some(permissions(stat.st_mode).bits())
}

/// The permission bits of a stat's mode.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
