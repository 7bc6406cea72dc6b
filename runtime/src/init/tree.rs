//! Mounts on their way to their places.
//!
//! Where the kernel has the calls for it (Linux 5.2 and 5.12), a mount is built detached, gets its attributes and is put
//! at its place from descriptor to descriptor. Where they are missing (an older kernel, or a filter of system calls that
//! answers ENOSYS), mount(2) does the same through /proc/self/fd, and what it made is opened again and looked at before
//! anything more is done with it.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};

use crate::root_dir::file_type;

/// The options of a file system, as words with or without a value.
pub(super) type Data = [(String, Option<String>)];

/// A mount, or what will be one.
#[derive(Debug)]
pub(super) struct Tree {
    form: Form,
    /// Changes that the kernel can only make when it is at its place; `true` for all mounts below it too.
    later: Vec<(Attributes, bool)>,
    /// What the file system was made by; closed by who puts it at its place.
    context: Option<OwnedFd>,
}

/// A mount at its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// The mount.
    pub(super) mount: OwnedFd,
    /// What it was made by, which has served.
    pub(super) context: Option<OwnedFd>,
}

#[derive(Debug)]
enum Form {
    /// A mount that belongs to no namespace yet.
    Detached(OwnedFd),
    /// A file or directory to bind.
    Bind { source: OwnedFd, recursive: bool },
    /// A file system to mount.
    Filesystem {
        fstype: String,
        source: String,
        flags: MountFlags,
        data: CString,
    },
}

impl Tree {
    /// A mount that was built elsewhere.
    pub(super) fn detached(mount: OwnedFd) -> Self {
        Self {
            form: Form::Detached(mount),
            later: Vec::new(),
            context: None,
        }
    }

    /// A copy of the mount of an open file or directory, from there down; `recursive` with all mounts below it.
    pub(super) fn of(open: &OwnedFd, recursive: bool) -> Result<Self> {
        match clone(open.as_fd(), Path::new(""), recursive) {
            Ok(mount) => Ok(Self::detached(mount)),
            Err(Errno::NOSYS) => {
                let source = rustix::io::fcntl_dupfd_cloexec(open, 3)?;
                Ok(Self::bind(source, recursive))
            }
            Err(errno) => Err(errno),
        }
    }

    /// The same, changed from the start, in one call where the kernel has it.
    pub(super) fn changed(open: &OwnedFd, change: &Attributes) -> Result<Self> {
        if let Ok(mount) = attr::clone_with_attributes(open.as_fd(), change, true) {
            return Ok(Self::detached(mount));
        }
        let mut tree = Self::of(open, true)?;
        // An older kernel can change one mount only, as runc does.
        tree.change_with_all_below(change)?;
        Ok(tree)
    }

    /// The same of a path of the host.
    pub(super) fn at(path: &Path, recursive: bool) -> Result<Self> {
        match clone(CWD, path, recursive) {
            Ok(mount) => Ok(Self::detached(mount)),
            Err(Errno::NOSYS) => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                Ok(Self::bind(
                    rustix::fs::open(path, flags, Mode::empty())?,
                    recursive,
                ))
            }
            Err(errno) => Err(errno),
        }
    }

    fn bind(source: OwnedFd, recursive: bool) -> Self {
        Self {
            form: Form::Bind { source, recursive },
            later: Vec::new(),
            context: None,
        }
    }

    /// A new file system whose mount has these attributes from the start. An error is in the kernel's own words where it
    /// has some.
    pub(super) fn filesystem(
        fstype: &str,
        source: &str,
        data: &Data,
        attributes: u64,
    ) -> std::result::Result<Self, String> {
        let context = match rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NOSYS) => return Self::filesystem_later(fstype, source, data, attributes),
            answer => answer.map_err(|errno| format!("{errno}{}", needed(fstype, errno)))?,
        };
        let refused = |part: &str, errno: Errno| {
            format!(
                "{part}: {}{}",
                explain(&context, errno),
                needed(fstype, errno)
            )
        };
        let explain = |part: &str, errno: Errno| format!("{part}: {}", explain(&context, errno));
        rustix::mount::fsconfig_set_string(&context, "source", source)
            .map_err(|errno| explain("source", errno))?;
        for (key, value) in data {
            if fstype == "devpts" && key == "newinstance" {
                // Every one has been new since before there were these calls.
                continue;
            }
            match value {
                Some(value) => {
                    rustix::mount::fsconfig_set_string(&context, &**key, unquoted(key, value))
                }
                None => rustix::mount::fsconfig_set_flag(&context, &**key),
            }
            .map_err(|errno| explain(key, errno))?;
        }
        rustix::mount::fsconfig_create(&context).map_err(|errno| refused("create", errno))?;
        let mount = rustix::mount::fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attributes as u32),
        )
        .map_err(|errno| refused("mount", errno))?;
        Ok(Self {
            context: Some(context),
            ..Self::detached(mount)
        })
    }

    fn filesystem_later(
        fstype: &str,
        source: &str,
        data: &Data,
        attributes: u64,
    ) -> std::result::Result<Self, String> {
        let (mut words, mut flags) = (Vec::new(), old_flags(attributes));
        for (key, value) in data {
            match (&**key, value) {
                ("ro", None) => flags |= MountFlags::RDONLY,
                ("sync", None) => flags |= MountFlags::SYNCHRONOUS,
                ("dirsync", None) => flags |= MountFlags::DIRSYNC,
                ("lazytime", None) => flags |= MountFlags::LAZYTIME,
                ("mand", None) => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
                // Without the flag that they take back they say what is so anyway.
                ("async" | "nolazytime" | "nomand", None) => {}
                // Its commas separate nothing.
                (_, Some(value)) if is_label(key) => {
                    words.push(format!("{key}=\"{}\"", unquoted(key, value)));
                }
                (_, Some(value)) => words.push(format!("{key}={value}")),
                (_, None) => words.push(key.clone()),
            }
        }
        let data = CString::new(words.join(",")).map_err(|_| "an option holds a zero byte")?;
        Ok(Self {
            form: Form::Filesystem {
                fstype: fstype.to_owned(),
                source: source.to_owned(),
                flags,
                data,
            },
            later: Vec::new(),
            context: None,
        })
    }

    /// What it is the mount of.
    pub(super) fn file_type(&self) -> Result<FileType> {
        match &self.form {
            Form::Detached(fd) | Form::Bind { source: fd, .. } => file_type(fd.as_fd()),
            Form::Filesystem { .. } => Ok(FileType::Directory),
        }
    }

    /// Changes its attributes or propagation, now or when it is at its place.
    pub(super) fn change(&mut self, change: &Attributes, recursive: bool) -> Result<()> {
        if change.is_empty() {
            return Ok(());
        }
        if let Form::Detached(fd) = &self.form {
            match attr::set_attributes(fd.as_fd(), change, recursive) {
                Err(Errno::NOSYS) => {}
                answer => return answer,
            }
        }
        self.later.push((*change, recursive));
        Ok(())
    }

    /// Changes attributes of it and all mounts below it; where the kernel has no way to, of it alone.
    pub(super) fn change_with_all_below(&mut self, change: &Attributes) -> Result<()> {
        if let Form::Detached(fd) = &self.form {
            match attr::set_attributes(fd.as_fd(), change, true) {
                Err(Errno::NOSYS) => {}
                answer => return answer,
            }
        }
        self.later.push((*change, false));
        Ok(())
    }

    /// Puts it over a directory that this process has just made in a place where nobody else is.
    pub(super) fn attach_in(self, dir: &OwnedFd, name: &str) -> Result<Placed> {
        if let (Form::Detached(mount), []) = (&self.form, &*self.later) {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(mount, "", dir, name, flags)?;
            let Form::Detached(mount) = self.form else {
                return Err(Errno::INVAL);
            };
            return Ok(Placed {
                mount,
                context: self.context,
            });
        }
        let open = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        };
        self.attach(&open()?, open)
    }

    /// Puts it over an open file or directory, and gives the mount. `reopen` opens what is at that place then; only the
    /// older way needs it, and trusts it only when it is what was put there.
    pub(super) fn attach(
        self,
        target: &OwnedFd,
        reopen: impl Fn() -> Result<OwnedFd>,
    ) -> Result<Placed> {
        let mount = match self.form {
            Form::Detached(mount) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                    | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(&mount, "", target, "", flags)?;
                mount
            }
            Form::Bind { source, recursive } => {
                let (from, to) = (of_descriptor(&source), of_descriptor(target));
                match recursive {
                    true => rustix::mount::mount_bind_recursive(from, to)?,
                    false => rustix::mount::mount_bind(from, to)?,
                }
                let mount = reopen_mount(target, reopen)?;
                let (put, found) = (rustix::fs::fstat(&source)?, rustix::fs::fstat(&mount)?);
                if (put.st_dev, put.st_ino) != (found.st_dev, found.st_ino) {
                    return Err(Errno::STALE);
                }
                mount
            }
            Form::Filesystem {
                fstype,
                source,
                flags,
                data,
            } => {
                rustix::mount::mount(source, of_descriptor(target), fstype, flags, &*data)?;
                reopen_mount(target, reopen)?
            }
        };
        for (change, recursive) in &self.later {
            change_by_mount(mount.as_fd(), change, *recursive)?;
        }
        Ok(Placed {
            mount,
            context: self.context,
        })
    }
}

fn clone(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags)
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

/// What it takes to mount a file system that shows a namespace, where that is not all of the host's root's.
fn needed(fstype: &str, errno: Errno) -> &'static str {
    if errno != Errno::PERM {
        return "";
    }
    match fstype {
        "sysfs" => {
            "; in a user namespace it takes a new network namespace (or a bind mount of /sys) and a host's /sys that is not covered in parts"
        }
        "proc" => {
            "; in a user namespace it takes a new pid namespace (or a bind mount of /proc) and a host's /proc that is not covered in parts"
        }
        "mqueue" => {
            "; in a user namespace it takes a new ipc namespace (or a bind mount of /dev/mqueue)"
        }
        "cgroup" | "cgroup2" => "; in a user namespace it takes a cgroup namespace",
        _ => "",
    }
}

/// Changes a mount that is at its place, in the way that the kernel has.
pub(super) fn change(mount: BorrowedFd<'_>, change: &Attributes, recursive: bool) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    match attr::set_attributes(mount, change, recursive) {
        Err(Errno::NOSYS) => change_by_mount(mount, change, recursive),
        answer => answer,
    }
}

/// The path of an open file or directory: the kernel goes from it to the very mount that is open.
fn of_descriptor(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens the mount that was just put over `target`.
fn reopen_mount(target: &OwnedFd, reopen: impl Fn() -> Result<OwnedFd>) -> Result<OwnedFd> {
    let mount = reopen()?;
    let stat = |fd: &OwnedFd| rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    let (under, over) = (stat(target)?, stat(&mount)?);
    let knows_ids = over.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let knows_roots = over
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT);
    let is_root = over.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    if (knows_ids && under.stx_mnt_id == over.stx_mnt_id) || (knows_roots && !is_root) {
        // Somebody else has changed the way to it meanwhile.
        return Err(Errno::STALE);
    }
    Ok(mount)
}

/// mount_setattr(2) by mount(2). It has no way to change attributes of all mounts below one.
fn change_by_mount(mount: BorrowedFd<'_>, change: &Attributes, recursive: bool) -> Result<()> {
    let path = of_descriptor(mount);
    if change.propagation != 0 {
        let mut flags = MountPropagationFlags::from_bits_retain(change.propagation as u32);
        if recursive {
            flags |= MountPropagationFlags::REC;
        }
        rustix::mount::mount_change(&*path, flags)?;
    }
    if (change.set, change.clear) == (0, 0) {
        return Ok(());
    }
    if recursive {
        return Err(Errno::NOSYS);
    }
    // It sets all flags at once, so those that are there are kept.
    let now = rustix::fs::fstatvfs(mount)?.f_flag;
    let kept = attributes_of(now) & !change.clear;
    let flags = old_flags(kept | change.set) | MountFlags::BIND;
    rustix::mount::mount_remount(&*path, flags, "")
}

/// The propagation of the mount at a path of this namespace.
pub(super) fn propagate(path: &std::ffi::CStr, change: &Attributes, recursive: bool) -> Result<()> {
    match attr::set_attributes_at(CWD, path, change, recursive) {
        Err(Errno::NOSYS) => {
            let mut flags = MountPropagationFlags::from_bits_retain(change.propagation as u32);
            if recursive {
                flags |= MountPropagationFlags::REC;
            }
            rustix::mount::mount_change(path, flags)
        }
        answer => answer,
    }
}

/// The bits of an attribute, in statvfs(2), and the flag of mount(2).
const FLAGS: [(u64, StatVfsMountFlags, MountFlags); 5] = [
    (
        attr::ATTR_RDONLY,
        StatVfsMountFlags::RDONLY,
        MountFlags::RDONLY,
    ),
    (
        attr::ATTR_NOSUID,
        StatVfsMountFlags::NOSUID,
        MountFlags::NOSUID,
    ),
    (
        attr::ATTR_NODEV,
        StatVfsMountFlags::NODEV,
        MountFlags::NODEV,
    ),
    (
        attr::ATTR_NOEXEC,
        StatVfsMountFlags::NOEXEC,
        MountFlags::NOEXEC,
    ),
    (
        attr::ATTR_NODIRATIME,
        StatVfsMountFlags::NODIRATIME,
        MountFlags::NODIRATIME,
    ),
];
const NOSYMFOLLOW: (u64, u64, u32) = (attr::ATTR_NOSYMFOLLOW, 8192, 256);

fn old_flags(attributes: u64) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (bit, _, flag) in FLAGS {
        if attributes & bit != 0 {
            flags |= flag;
        }
    }
    if attributes & NOSYMFOLLOW.0 != 0 {
        flags |= MountFlags::from_bits_retain(NOSYMFOLLOW.2);
    }
    flags
        | match attributes & attr::ATTR_ATIME {
            attr::ATTR_NOATIME => MountFlags::NOATIME,
            attr::ATTR_STRICTATIME => MountFlags::STRICTATIME,
            _ => MountFlags::RELATIME,
        }
}

fn attributes_of(flags: StatVfsMountFlags) -> u64 {
    let mut attributes = FLAGS
        .iter()
        .filter(|(_, there, _)| flags.contains(*there))
        .fold(0, |all, (bit, _, _)| all | bit);
    if flags.bits() & NOSYMFOLLOW.1 != 0 {
        attributes |= NOSYMFOLLOW.0;
    }
    attributes
        | if flags.contains(StatVfsMountFlags::NOATIME) {
            attr::ATTR_NOATIME
        } else if flags.contains(StatVfsMountFlags::RELATIME) {
            attr::ATTR_RELATIME
        } else {
            attr::ATTR_STRICTATIME
        }
}

/// Whether an option's value is an SELinux label, which a security module takes before the file system sees the options.
fn is_label(key: &str) -> bool {
    matches!(key, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// A label without the quotes that mount(2) needs around one with commas, and fsconfig(2) takes for a part of it.
fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inside.filter(|_| is_label(key)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_commas_are_one_option_in_the_older_words() {
        let label = "u:r:t:s0:c1,c2";
        for given in [label.to_owned(), format!("\"{label}\"")] {
            assert_eq!(unquoted("context", &given), label);
            let data = [
                ("context".to_owned(), Some(given)),
                ("mode".to_owned(), Some("755".to_owned())),
            ];
            let tree = Tree::filesystem_later("tmpfs", "tmpfs", &data, 0).unwrap();
            let Form::Filesystem { data, .. } = tree.form else {
                panic!("another form");
            };
            assert_eq!(
                data.to_str().unwrap(),
                format!("context=\"{label}\",mode=755")
            );
        }
        assert_eq!(unquoted("mode", "\"755\""), "\"755\"");
    }

    #[test]
    fn attributes_are_the_same_in_the_older_words() {
        let all = attr::ATTR_RDONLY | attr::ATTR_NOSUID | attr::ATTR_NOSYMFOLLOW;
        let flags = old_flags(all | attr::ATTR_NOATIME);
        assert_eq!(flags.bits(), 1 | 2 | 256 | 1024);
        assert_eq!(old_flags(0), MountFlags::RELATIME);
        let there = StatVfsMountFlags::from_bits_retain(1 | 2 | 8192 | 1024);
        assert_eq!(attributes_of(there), all | attr::ATTR_NOATIME);
    }
}
