//! Tar to tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::attributes::{DEFAULT_ACL, is_kept, set_opaque, times};
use crate::options::{ExtractOptions, Extracted, UnpackOptions, Unpacked, XattrFlavour};
use crate::place::{
    Places, Room, below, is_whiteout, lossy, open_made, refused, split, stat, wrote,
};
use crate::stream::{Entry, Kind, Sparse, TarStream};
use crate::{OPAQUE, UnpackError, WHITEOUT};

/// Zeros of this length at a multiple of it are left out of the file.
const HOLE: usize = 4096;

/// Unpacks a layer's tar stream into the empty directory `into`: whiteouts become the overlay's (image-spec, layer.md).
/// Reads `tar` to its very end, so that a digest of all its bytes can be taken on the way.
///
/// # Errors
/// When the stream is no tar, names places outside of its root, or the file system refuses.
pub fn unpack(
    tar: impl Read,
    into: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker {
        places: Places::new(into, Vec::new(), Some(options.flavour)),
        flavour: Some(options.flavour),
        owner: None,
        mode: None,
        times: BTreeMap::new(),
        default_acls: BTreeMap::new(),
        has_root: false,
        has_whiteouts: false,
    };
    let (entries, tar_size) = unpacker.run(tar)?;
    let mut implied = unpacker.places.implied;
    if !unpacker.has_root {
        implied.insert(Vec::new());
    }
    let path = |bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes));
    Ok(Unpacked {
        entries,
        tar_size,
        implied: implied.into_iter().map(path).collect(),
    })
}

/// Extracts a plain tar stream into the live root `root`, at the directory that the options name; what is there is replaced,
/// directories are merged, but the destination itself keeps owner and mode. Links are followed inside the root only.
///
/// # Errors
/// As [`unpack`].
pub fn extract(
    tar: impl Read,
    root: BorrowedFd<'_>,
    options: &ExtractOptions,
) -> Result<Extracted, UnpackError> {
    let base = inner_path(options.destination.as_os_str().as_bytes())?;
    let mut unpacker = Unpacker {
        places: Places::new(root, base, None),
        flavour: None,
        owner: options.owner,
        mode: options.mode,
        times: BTreeMap::new(),
        default_acls: BTreeMap::new(),
        has_root: false,
        has_whiteouts: false,
    };
    unpacker.places.directory(b"")?;
    let (entries, _) = unpacker.run(tar)?;
    Ok(Extracted { entries })
}

struct Unpacker<'a> {
    places: Places<'a>,
    /// With a flavour the tar is a layer, and whiteouts have their meaning.
    flavour: Option<XattrFlavour>,
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
    /// What lies in a directory changes its time, so directories get theirs at the end.
    times: BTreeMap<Vec<u8>, (i64, u32)>,
    /// What is made in a directory takes its default ACL over, so that directories get these at the end, too.
    default_acls: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The tar has an entry for the root itself.
    has_root: bool,
    /// There are whiteouts in the tree.
    has_whiteouts: bool,
}

impl Unpacker<'_> {
    fn run(&mut self, tar: impl Read) -> Result<(u64, u64), UnpackError> {
        let mut stream = TarStream::new(tar);
        let mut entries = 0;
        while let Some(mut entry) = stream.next()? {
            entries += 1;
            if let Some((uid, gid)) = self.owner {
                (entry.uid, entry.gid) = (uid, gid);
            }
            if let Some(mode) = self.mode {
                entry.mode = mode;
            }
            self.entry(&entry, &mut stream)?;
        }
        stream.drain()?;
        for (path, acl) in std::mem::take(&mut self.default_acls) {
            if let Some(directory) = self.places.existing(&path)? {
                set_attribute(directory.as_fd(), DEFAULT_ACL, &acl, &path)?;
            }
        }
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Some(directory) = self.places.existing(&path)? {
                rustix::fs::futimens(&*directory, &times(mtime))
                    .map_err(wrote(&path, "set the directory's time"))?;
            }
        }
        Ok((entries, stream.position()))
    }

    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        stream: &mut TarStream<R>,
    ) -> Result<(), UnpackError> {
        let path = inner_path(&entry.name)?;
        if path.is_empty() {
            if entry.kind != Kind::Directory {
                return Err(refused(&entry.name, "the root can only be a directory"));
            }
            let root = self.places.directory(b"")?;
            self.times.insert(path, entry.mtime);
            self.has_root = true;
            if self.flavour.is_none() {
                // A live directory stays whose it is: what the tar was made in may have been for its maker alone.
                return Ok(());
            }
            self.keep_default_acl(entry, b"")?;
            return finish(root.as_fd(), entry);
        }
        let (above, name) = split(&path);
        if self.flavour.is_some() {
            if let Some(mark) = above
                .split(|b| *b == b'/')
                .find(|n| n.starts_with(WHITEOUT))
            {
                return in_whiteout(&path, mark);
            }
            if name.starts_with(WHITEOUT) {
                return self.whiteout(&path, above, name);
            }
        }
        let parent = self.places.directory(above)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, &path, &parent, name),
            Kind::Regular => self.regular(entry, stream, &path, &parent, name),
            Kind::HardLink => self.hard_link(entry, &path, &parent, name),
            Kind::CharDevice(0, 0) if self.flavour.is_some() => self.hide(&path, &parent, name),
            _ => self.special(entry, &path, &parent, name),
        }
    }

    /// `.wh.NAME` and the mark of an opaque directory.
    fn whiteout(&mut self, path: &[u8], above: &[u8], name: &[u8]) -> Result<(), UnpackError> {
        let Some(flavour) = self.flavour else {
            return Ok(());
        };
        if name == OPAQUE {
            let parent = self.places.directory(above)?;
            return set_opaque(parent.as_fd(), flavour)
                .map_err(wrote(path, "mark its directory as opaque"));
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.starts_with(WHITEOUT) {
            // AUFS kept its own files under such names; they mean nothing in a layer.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(path, "a whiteout of nothing"));
        }
        let parent = self.places.directory(above)?;
        self.hide(path, &parent, hidden)
    }

    /// Hides `name` of the layers below. What this layer itself has there stays, and hides what is below by being there.
    fn hide(&mut self, path: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<(), UnpackError> {
        let Some(flavour) = self.flavour else {
            return Ok(());
        };
        self.has_whiteouts = true;
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let found = stat(parent, name).map_err(wrote(path, "look at what is there"))?;
                let is_directory = found.is_some_and(|found| {
                    FileType::from_raw_mode(found.st_mode) == FileType::Directory
                });
                if is_directory {
                    let directory =
                        open_made(parent, name).map_err(wrote(path, "open the directory"))?;
                    set_opaque(directory.as_fd(), flavour)
                        .map_err(wrote(path, "mark a directory as opaque"))?;
                }
                Ok(())
            }
            Err(error) => Err(wrote(path, "make a whiteout")(error)),
        }
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(parent, name, Mode::RWXU);
        let mut opaque = false;
        let mut made = make();
        if made == Err(Errno::EXIST) {
            made = match self.make_room(parent, name, path, true)? {
                Room::Directory => Ok(()),
                Room::Free { whiteout, .. } => {
                    opaque = whiteout;
                    make()
                }
            };
        }
        made.map_err(wrote(path, "make the directory"))?;
        let directory = open_made(parent, name).map_err(wrote(path, "open the directory"))?;
        if let (true, Some(flavour)) = (opaque, self.flavour) {
            set_opaque(directory.as_fd(), flavour).map_err(wrote(path, "mark it as opaque"))?;
        }
        finish(directory.as_fd(), entry)?;
        self.keep_default_acl(entry, path)?;
        // Whoever comes back to the same one takes no more.
        if !self.places.implied.remove(path) && !self.times.contains_key(path) {
            self.places.remember(path, path.len())?;
        }
        self.times.insert(path.to_vec(), entry.mtime);
        self.places.keep(path, directory);
        Ok(())
    }

    /// Remembers the default ACL of a directory until all of its content is there.
    fn keep_default_acl(&mut self, entry: &Entry, path: &[u8]) -> Result<(), UnpackError> {
        for (_, value) in entry.xattrs.iter().filter(|(name, _)| name == DEFAULT_ACL) {
            let length = path.len() + value.len();
            self.places.remember(path, length)?;
            self.default_acls.insert(path.to_vec(), value.clone());
        }
        Ok(())
    }

    fn regular<R: Read>(
        &mut self,
        entry: &Entry,
        stream: &mut TarStream<R>,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let made = self.make_at(parent, name, path, make)?;
        let file = made.map_err(wrote(path, "make the file"))?;
        write_content(stream, &entry.content, &file, path)?;
        finish(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(wrote(path, "set its time"))
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let target = inner_path(&entry.link)?;
        if target == path {
            return Err(refused(path, "it is a hard link to itself"));
        }
        let missing = || {
            let what = lossy(&entry.link);
            refused(
                path,
                format!("it is a hard link to {what:?}, which is not there"),
            )
        };
        let (above, target_name) = split(&target);
        let target_parent = self.places.existing(above)?.ok_or_else(missing)?;
        if self.has_whiteouts {
            let found = stat(&*target_parent, target_name)
                .map_err(wrote(path, "look at what it links to"))?;
            if found.is_some_and(|found| is_whiteout(&found)) {
                return Err(missing());
            }
        }
        let link =
            || rustix::fs::linkat(&*target_parent, target_name, parent, name, AtFlags::empty());
        match self.make_at(parent, name, path, link)? {
            Err(Errno::NOENT) => Err(missing()),
            Err(Errno::PERM) if target.is_empty() => Err(missing()),
            other => other.map_err(wrote(path, "make the hard link")),
        }
    }

    /// Symbolic links, devices and fifos: what is made by one call and never opened.
    fn special(
        &mut self,
        entry: &Entry,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let node = |kind, major, minor| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
        };
        let make = || match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name),
            Kind::CharDevice(major, minor) => node(FileType::CharacterDevice, major, minor),
            Kind::BlockDevice(major, minor) => node(FileType::BlockDevice, major, minor),
            _ => node(FileType::Fifo, 0, 0),
        };
        let made = self.make_at(parent, name, path, make)?;
        let is_device = matches!(entry.kind, Kind::CharDevice(..) | Kind::BlockDevice(..));
        if is_device && made == Err(Errno::PERM) {
            let reason = "only root of the machine can make a device; take this image as root";
            return Err(refused(path, reason));
        }
        made.map_err(wrote(path, "make the link or device"))?;
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(owner.0), Some(owner.1), flags)
            .map_err(wrote(path, "set its owner"))?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .map_err(wrote(path, "set its mode"))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), flags)
            .map_err(wrote(path, "set its time"))
    }

    /// Makes something that is no directory at `name`; where the name is taken, what has it goes first.
    fn make_at<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<rustix::io::Result<T>, UnpackError> {
        match make() {
            Err(Errno::EXIST) => {
                self.make_room(parent, name, path, false)?;
                Ok(make())
            }
            made => Ok(made),
        }
    }

    fn make_room(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        for_directory: bool,
    ) -> Result<Room, UnpackError> {
        let room = self
            .places
            .make_room(parent.as_fd(), name, path, for_directory)?;
        if matches!(
            room,
            Room::Free {
                directory: true,
                ..
            }
        ) {
            for range in below(path) {
                let acls = self.default_acls.extract_if(range.clone(), |_, _| true);
                acls.for_each(drop);
                self.times.extract_if(range, |_, _| true).for_each(drop);
            }
        }
        Ok(room)
    }
}

/// An entry below something that is named as whiteouts are. AUFS kept its own files so; nothing else can be there.
fn in_whiteout(path: &[u8], mark: &[u8]) -> Result<(), UnpackError> {
    match mark[WHITEOUT.len()..].starts_with(WHITEOUT) {
        true => Ok(()),
        false => Err(refused(
            path,
            "it lies in a whiteout, which is no directory",
        )),
    }
}

/// Owner, then mode (a change of owner clears the suid bits), then extended attributes (it also clears capabilities), but for what a
/// directory gets at the end.
fn finish(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(wrote(&entry.name, "set its owner"))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
        .map_err(wrote(&entry.name, "set its mode"))?;
    for (name, value) in &entry.xattrs {
        if is_kept(name) && name != DEFAULT_ACL {
            set_attribute(file, name, value, &entry.name)?;
        }
    }
    Ok(())
}

fn set_attribute(
    file: BorrowedFd<'_>,
    name: &[u8],
    value: &[u8],
    path: &[u8],
) -> Result<(), UnpackError> {
    match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
        // A file system without them; what needs them says so when it runs.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(wrote(path, "set an extended attribute")(error)),
    }
}

fn write_content<R: Read>(
    stream: &mut TarStream<R>,
    content: &Sparse,
    file: &OwnedFd,
    path: &[u8],
) -> Result<(), UnpackError> {
    let mut written: u64 = 0;
    for segment in &content.segments {
        let mut position = segment.offset;
        let end = segment.offset + segment.length;
        while position < end {
            let mut rest = stream.content_at_most(end - position)?;
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let data = data_length(rest);
                let mut at = position;
                let mut pending = &rest[..data];
                while !pending.is_empty() {
                    let count = rustix::io::pwrite(file, pending, at)
                        .map_err(wrote(path, "write its content"))?;
                    pending = &pending[count..];
                    at += count as u64;
                    written = at;
                }
                let zeros = zero_length(&rest[data..]);
                position += (data + zeros) as u64;
                rest = &rest[data + zeros..];
            }
        }
    }
    if written < content.size {
        rustix::fs::ftruncate(file, content.size).map_err(wrote(path, "set its size"))?;
    }
    Ok(())
}

/// How many bytes to write until a hole begins.
fn data_length(bytes: &[u8]) -> usize {
    bytes
        .chunks_exact(HOLE)
        .position(is_zero)
        .map_or(bytes.len(), |count| count * HOLE)
}

fn zero_length(bytes: &[u8]) -> usize {
    bytes.chunks_exact(HOLE).take_while(|c| is_zero(c)).count() * HOLE
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes[0] == 0 && bytes[bytes.len() - 1] == 0 && bytes.iter().all(|b| *b == 0)
}

/// A name of the tar as a path below the root, without empty parts and dots. A leading slash means that root.
fn inner_path(name: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(name, "'..' would lead out of the root")),
            part if part.contains(&0) => {
                return Err(refused(name, "it has a NUL character"));
            }
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    Ok(path)
}
