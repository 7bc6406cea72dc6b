//! Tree to tar, form version 1: the same tree gives the same bytes.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_image::{Algorithm, DiffId, Hasher};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::EntryType;

use crate::attributes::{Xattr, is_kept, is_overlay, list, portable_capability, times, value};
use crate::header::{self, Fields};
use crate::options::{PackOptions, Packed};
use crate::place::{is_whiteout, lossy, open_inside};
use crate::{OPAQUE, PackError, WHITEOUT};

const CHUNK: usize = 256 * 1024;
/// So many directories are open at once.
const KEPT: usize = 64;

/// Packs a tree into a tar stream of form version 1 (docs/tar-form.md): the same tree gives the same bytes.
///
/// # Errors
/// When the tree cannot be read or `out` not be written.
pub fn pack(
    tree: BorrowedFd<'_>,
    out: impl Write,
    options: &PackOptions<'_>,
) -> Result<Packed, PackError> {
    let mut packer = Packer {
        out: HashingWriter {
            out,
            hasher: Hasher::new(Algorithm::Sha256),
            buffer: Vec::with_capacity(2 * CHUNK),
            size: 0,
        },
        options,
        links: HashMap::new(),
        entries: 0,
        path: Vec::new(),
        names: vec![0; 4096],
    };
    let root = tree
        .try_clone_to_owned()
        .map_err(|source| packer.failed("open the root", source))?;
    packer.tree(root)?;
    packer.finish()
}

struct Packer<'a, W> {
    out: HashingWriter<W>,
    options: &'a PackOptions<'a>,
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
    /// The path that is being packed, without a slash at either end.
    path: Vec<u8>,
    /// Room for names of extended attributes.
    names: Vec<u8>,
}

/// A directory whose content is being packed.
struct Begun {
    /// None where so many lie below it that it has to be opened again.
    directory: Option<OwnedFd>,
    stat: Stat,
    /// What is still to be packed, in order.
    children: std::vec::IntoIter<(Vec<u8>, FileType)>,
    /// A socket in it is removed, which changes its time.
    loses: bool,
    /// The length of its path.
    length: usize,
}

impl<W: Write> Packer<'_, W> {
    /// Walks through the tree. However deep it is, only [`KEPT`] directories are open.
    fn tree(&mut self, root: OwnedFd) -> Result<(), PackError> {
        let mut begun = vec![self.directory(root)?];
        while let Some(top) = begun.last_mut() {
            self.path.truncate(top.length);
            let Some(directory) = &top.directory else {
                return Err(self.changed());
            };
            if let Some((name, kind)) = top.children.next() {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&name);
                let inner = self.entry(directory, &name, kind)?;
                // Many entries without content are much in all.
                self.out.flush_if_full().map_err(PackError::Write)?;
                if let Some(inner) = inner {
                    let inner = self.directory(inner)?;
                    begun.push(inner);
                    if let Some(above) = begun.len().checked_sub(KEPT + 1) {
                        begun[above].directory = None;
                    }
                }
                continue;
            }
            if self.options.normalise && (top.stat.st_mtime_nsec != 0 || top.loses) {
                rustix::fs::futimens(directory, &times((top.stat.st_mtime, 0)))
                    .map_err(self.cannot("set its time to whole seconds"))?;
            }
            self.out.flush_if_full().map_err(PackError::Write)?;
            let done = begun.pop();
            if let (Some(done), Some(above)) = (done, begun.last_mut()) {
                self.reopen(above, &done)?;
            }
        }
        Ok(())
    }

    /// Opens the directory above one that is done, where it was closed meanwhile.
    fn reopen(&self, above: &mut Begun, done: &Begun) -> Result<(), PackError> {
        if above.directory.is_some() {
            return Ok(());
        }
        let below = done.directory.as_ref().ok_or_else(|| self.changed())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(below, "..", flags, Mode::empty())
            .map_err(self.cannot("open the directory above it"))?;
        let stat = rustix::fs::fstat(&directory).map_err(self.cannot("read its attributes"))?;
        // Where something was moved, this would be a place outside of the tree.
        if (stat.st_dev, stat.st_ino) != (above.stat.st_dev, above.stat.st_ino) {
            return Err(self.changed());
        }
        above.directory = Some(directory);
        Ok(())
    }

    /// Writes a directory's own entry, and lists it.
    fn directory(&mut self, directory: OwnedFd) -> Result<Begun, PackError> {
        let stat = rustix::fs::fstat(&directory).map_err(self.cannot("read its attributes"))?;
        let (xattrs, opaque) = self.xattrs(&directory, true)?;
        let name = match self.path.as_slice() {
            b"" => b"./".to_vec(),
            path => [path, b"/"].concat(),
        };
        self.header(&Fields {
            name: &name,
            xattrs: &xattrs,
            ..fields(EntryType::Directory, &stat)
        });
        if opaque {
            let prefix = if self.path.is_empty() {
                &b""[..]
            } else {
                &name
            };
            self.mark(&[prefix, OPAQUE].concat());
        }
        let mut children = Vec::new();
        for entry in Dir::read_from(&directory).map_err(self.cannot("list it"))? {
            let entry = entry.map_err(self.cannot("list it"))?;
            let child = entry.file_name().to_bytes();
            if child != b"." && child != b".." {
                children.push((child.to_vec(), entry.file_type()));
            }
        }
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Begun {
            directory: Some(directory),
            stat,
            loses: children
                .iter()
                .any(|child| matches!(child.1, FileType::Socket | FileType::Unknown)),
            children: children.into_iter(),
            length: self.path.len(),
        })
    }

    /// Packs what is no directory; gives back the open directory where it is one.
    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
    ) -> Result<Option<OwnedFd>, PackError> {
        let open = |flags: OFlags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        };
        if name.starts_with(WHITEOUT) {
            return Err(PackError::Refused {
                path: lossy(&self.path),
                reason: "in a layer, a name that begins with .wh. means that something is deleted",
            });
        }
        match kind {
            FileType::Directory => open(OFlags::RDONLY | OFlags::DIRECTORY)
                .map(Some)
                .map_err(self.cannot("open it")),
            FileType::RegularFile => {
                let file = open(OFlags::RDONLY).map_err(self.cannot("open it"))?;
                let stat = rustix::fs::fstat(&file).map_err(self.cannot("read its attributes"))?;
                if !self.is_linked(&stat) {
                    self.regular(&file, &stat)?;
                }
                Ok(None)
            }
            _ => self.special(parent, name),
        }
    }

    fn regular(&mut self, file: &OwnedFd, stat: &Stat) -> Result<(), PackError> {
        let (xattrs, _) = self.xattrs(file, false)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let path = std::mem::take(&mut self.path);
        self.header(&Fields {
            name: &path,
            size,
            xattrs: &xattrs,
            ..fields(EntryType::Regular, stat)
        });
        self.path = path;
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let count = self
                .out
                .fill_from(file, wanted)
                .map_err(self.cannot("read its content"))?;
            if count == 0 {
                return Err(self.changed());
            }
            left -= count as u64;
            self.out.flush_if_full().map_err(PackError::Write)?;
        }
        self.out.pad();
        if self.options.normalise && stat.st_mtime_nsec != 0 {
            rustix::fs::futimens(file, &times((stat.st_mtime, 0)))
                .map_err(self.cannot("set its time to whole seconds"))?;
        }
        Ok(())
    }

    /// Links, devices, fifos, whiteouts and sockets: what is never opened.
    fn special(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>, PackError> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.cannot("read its attributes"))?;
        if is_whiteout(&stat) {
            let above = self.path.len() - name.len();
            let mark = [&self.path[..above], WHITEOUT, name].concat();
            self.mark(&mark);
            return Ok(None);
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // A socket means nothing without the process that listened on it.
            FileType::Socket if self.options.normalise => {
                return rustix::fs::unlinkat(parent, name, AtFlags::empty())
                    .map(|()| None)
                    .map_err(self.cannot("remove the socket"));
            }
            FileType::Socket => return Ok(None),
            // The directory's listing did not say the type.
            FileType::Directory | FileType::RegularFile => {
                return self.entry(parent, name, FileType::from_raw_mode(stat.st_mode));
            }
            FileType::Unknown => {
                return Err(self.failed(
                    "find out what it is",
                    io::Error::from(io::ErrorKind::InvalidData),
                ));
            }
        };
        if self.is_linked(&stat) {
            return Ok(None);
        }
        let link = match kind {
            EntryType::Symlink => rustix::fs::readlinkat(parent, name, Vec::new())
                .map_err(self.cannot("read the link"))?
                .into_bytes(),
            _ => Vec::new(),
        };
        let device = match kind {
            EntryType::Char | EntryType::Block => (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            _ => (0, 0),
        };
        let path = std::mem::take(&mut self.path);
        self.header(&Fields {
            name: &path,
            link: &link,
            device,
            ..fields(kind, &stat)
        });
        self.path = path;
        if self.options.normalise && stat.st_mtime_nsec != 0 {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(parent, name, &times((stat.st_mtime, 0)), flags)
                .map_err(self.cannot("set its time to whole seconds"))?;
        }
        Ok(None)
    }

    /// Writes a hard link where another path of the same file was packed already.
    fn is_linked(&mut self, stat: &Stat) -> bool {
        if stat.st_nlink < 2 {
            return false;
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&key).cloned() else {
            self.links.insert(key, self.path.clone());
            return false;
        };
        let path = std::mem::take(&mut self.path);
        self.header(&Fields {
            name: &path,
            link: &first,
            ..fields(EntryType::Link, stat)
        });
        self.path = path;
        true
    }

    /// An empty file whose name is what matters.
    fn mark(&mut self, name: &[u8]) {
        self.header(&Fields {
            name,
            link: b"",
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            device: (0, 0),
            xattrs: &[],
        });
    }

    /// The attributes that a layer keeps, and whether the directory is opaque; the overlay's own go where the tree is normalised.
    fn xattrs(
        &mut self,
        file: &OwnedFd,
        is_directory: bool,
    ) -> Result<(Vec<Xattr>, bool), PackError> {
        let length =
            list(file, &mut self.names).map_err(self.cannot("list its extended attributes"))?;
        let mut kept = Vec::new();
        let mut opaque = false;
        if length == 0 {
            return Ok((kept, opaque));
        }
        let names = self.names[..length].to_vec();
        for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            if is_directory && name == self.options.flavour.opaque().as_bytes() {
                let value = self.xattr(file, name)?;
                opaque = value == b"y" && self.hides_something();
                if opaque {
                    continue;
                }
            }
            if is_overlay(name) {
                if self.options.normalise {
                    rustix::fs::fremovexattr(file, name)
                        .map_err(self.cannot("remove a mark of the overlay"))?;
                }
            } else if is_kept(name) {
                let mut value = self.xattr(file, name)?;
                if name == b"security.capability" {
                    value = portable_capability(value);
                }
                kept.push((name.to_vec(), value));
            }
        }
        kept.sort();
        Ok((kept, opaque))
    }

    fn xattr(&self, file: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, PackError> {
        value(file, name).map_err(self.cannot("read an extended attribute"))
    }

    /// Whether a layer below has the directory at the current path, so that hiding it means something.
    fn hides_something(&self) -> bool {
        if !self.options.normalise {
            return true;
        }
        let path = if self.path.is_empty() {
            b"."
        } else {
            self.path.as_slice()
        };
        // A path too long to be opened at once may hide something; a mark that hides nothing does no harm.
        let is_none = |error| matches!(error, Errno::NOENT | Errno::NOTDIR);
        let lowers = self.options.lowers;
        lowers
            .iter()
            .any(|lower| !open_inside(*lower, path).is_err_and(is_none))
    }

    fn header(&mut self, fields: &Fields<'_>) {
        self.entries += 1;
        header::write(fields, &mut self.out.buffer);
    }

    fn finish(mut self) -> Result<Packed, PackError> {
        self.out.buffer.resize(self.out.buffer.len() + 1024, 0);
        self.out.flush().map_err(PackError::Write)?;
        Ok(Packed {
            diff_id: DiffId(self.out.hasher.finish()),
            size: self.out.size,
            entries: self.entries,
        })
    }

    fn changed(&self) -> PackError {
        PackError::Changed {
            path: lossy(&self.path),
        }
    }

    fn cannot(&self, doing: &'static str) -> impl Fn(Errno) -> PackError + use<W> {
        let path = lossy(&self.path);
        move |error| PackError::Read {
            path: path.clone(),
            doing,
            source: error.into(),
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> PackError {
        PackError::Read {
            path: lossy(&self.path),
            doing,
            source,
        }
    }
}

fn fields<'a>(kind: EntryType, stat: &Stat) -> Fields<'a> {
    Fields {
        name: b"",
        link: b"",
        kind,
        mode: match kind {
            EntryType::Symlink => 0o777,
            _ => stat.st_mode & 0o7777,
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        size: 0,
        device: (0, 0),
        xattrs: &[],
    }
}

/// Gathers small pieces, and digests what goes out.
struct HashingWriter<W> {
    out: W,
    hasher: Hasher,
    buffer: Vec<u8>,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    fn fill_from(&mut self, file: impl AsFd, wanted: usize) -> Result<usize, Errno> {
        let length = self.buffer.len();
        self.buffer.resize(length + wanted, 0);
        let count = rustix::io::read(file, &mut self.buffer[length..]);
        self.buffer.truncate(length + *count.as_ref().unwrap_or(&0));
        count
    }

    fn pad(&mut self) {
        let total = self.size + self.buffer.len() as u64;
        let padding = usize::try_from(total.next_multiple_of(512) - total).unwrap_or(0);
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.size += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
