//! A tar stream, entry by entry: ustar with the extensions of pax and GNU that layers in the field use.

use std::io::{self, Read, Seek};

use tar::{EntryType, Header};

use crate::UnpackError;

mod sparse;

use sparse::Records;
pub(crate) use sparse::Sparse;

/// More than this no extension header may hold.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// More extension headers than this no single entry may have.
const EXTENSIONS_PER_ENTRY: u32 = 16;
const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    Directory,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// One entry, with all that its extension headers say.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a file's content belongs.
    pub(crate) content: Sparse,
}

/// What extension headers say of the entry that follows them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Option<Records>,
}

/// A tar stream that is being read.
pub(crate) struct TarStream<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The position in the stream of `buffer[start]`.
    position: u64,
    /// Content of the current entry that nobody has read yet.
    left: u64,
    padding: u64,
    /// Goes forward by so many bytes, where the input can do it without reading them.
    skip: Option<fn(&mut R, i64) -> io::Result<()>>,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn seeking(input: R) -> Self
    where
        R: Seek,
    {
        Self {
            skip: Some(R::seek_relative),
            ..Self::new(input)
        }
    }

    pub(crate) fn new(input: R) -> Self {
        Self {
            skip: None,
            input,
            buffer: vec![0; 256 * 1024].into(),
            start: 0,
            end: 0,
            position: 0,
            left: 0,
            padding: 0,
        }
    }

    /// How many bytes have been taken from the stream.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; none at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extension = Extension::default();
        let mut extensions = 0;
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = self.number(&header.as_old().size, "size")?;
            let kind = header.entry_type();
            if !is_extension(kind) {
                return self.entry(&header, kind, size, extension).map(Some);
            }
            extensions += 1;
            if extensions > EXTENSIONS_PER_ENTRY {
                return Err(self.malformed("too many extension headers before one entry"));
            }
            let size = u64::try_from(size).map_err(|_| self.malformed("negative size"))?;
            self.set_content(size);
            if kind == EntryType::XGlobalHeader {
                continue;
            }
            let content = self.small_content(size)?;
            match kind {
                EntryType::GNULongName => extension.name = Some(up_to_nul(&content).to_vec()),
                EntryType::GNULongLink => extension.link = Some(up_to_nul(&content).to_vec()),
                _ => self.pax(&content, &mut extension)?,
            }
        }
    }

    /// The next bytes of the current entry's content, at least one; empty at its end.
    pub(crate) fn content(&mut self) -> Result<&[u8], UnpackError> {
        self.content_at_most(u64::MAX)
    }

    /// The same, and no more than `most`.
    pub(crate) fn content_at_most(&mut self, most: u64) -> Result<&[u8], UnpackError> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && self.fill()? == 0 {
            return Err(self.malformed("the stream ends in the middle of an entry"));
        }
        let have = (self.end - self.start).min(usize::try_from(most).unwrap_or(usize::MAX));
        let start = self.start;
        self.start += have;
        self.position += have as u64;
        self.left -= have as u64;
        Ok(&self.buffer[start..start + have])
    }

    /// Reads what comes after the archive's end, so that a digest of the stream covers all of it.
    pub(crate) fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            self.position += (self.end - self.start) as u64;
            self.start = self.end;
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: i64,
        mut extension: Extension,
    ) -> Result<Entry, UnpackError> {
        let old = header.as_old();
        let real = extension
            .sparse
            .as_mut()
            .and_then(|records| records.name.take());
        let name = match real.or(extension.name) {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        let size = match extension.size {
            Some(size) => size,
            None => u64::try_from(size).map_err(|_| self.malformed("negative size"))?,
        };
        let gnu_sparse = kind == EntryType::GNUSparse;
        let kind = self.kind(header, kind, &name)?;
        // Only a regular file has content; some writers give the size of a hard link's target.
        let size = if kind == Kind::Regular { size } else { 0 };
        let content = match (&extension.sparse, gnu_sparse) {
            _ if kind != Kind::Regular => Sparse::default(),
            (_, true) => self.gnu_sparse(header, size)?,
            (Some(records), _) => self.pax_sparse(records, size)?,
            (None, _) => {
                self.set_content(size);
                Sparse::dense(size)
            }
        };
        if content.stored() != self.left {
            return Err(self.malformed("a sparse file's pieces are not what the tar has of it"));
        }
        let id = |extended: Option<u32>, field: &[u8], what| match extended {
            Some(id) => Ok(id),
            None => u32::try_from(self.number(field, what)?)
                .map_err(|_| self.malformed("an owner or group out of range")),
        };
        Ok(Entry {
            link: match extension.link {
                Some(link) => link,
                None => header
                    .link_name_bytes()
                    .map_or_else(Vec::new, std::borrow::Cow::into_owned),
            },
            mode: u32::try_from(self.number(&old.mode, "mode")? & 0o7777).unwrap_or(0),
            uid: id(extension.uid, &old.uid, "owner")?,
            gid: id(extension.gid, &old.gid, "group")?,
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => (self.number(&old.mtime, "time")?, 0),
            },
            xattrs: extension.xattrs,
            content,
            name,
            kind,
        })
    }

    fn kind(&self, header: &Header, kind: EntryType, name: &[u8]) -> Result<Kind, UnpackError> {
        Ok(match kind {
            // Before POSIX a directory was a file whose name ends in a slash.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Regular,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Directory,
            EntryType::Char => {
                let (major, minor) = self.device(header)?;
                Kind::CharDevice(major, minor)
            }
            EntryType::Block => {
                let (major, minor) = self.device(header)?;
                Kind::BlockDevice(major, minor)
            }
            EntryType::Fifo => Kind::Fifo,
            other => {
                return Err(self.malformed(format!(
                    "an entry of the unknown type {:?}",
                    char::from(other.as_byte())
                )));
            }
        })
    }

    /// A device's numbers. Others than Linux has would come out of mknod(2) as another device, perhaps as a whiteout.
    fn device(&self, header: &Header) -> Result<(u32, u32), UnpackError> {
        const MAJOR: std::ops::Range<usize> = 329..337;
        const MINOR: std::ops::Range<usize> = 337..345;
        let part = |field, what, bits| {
            let number = self.number(&header.as_bytes()[field], what)?;
            u32::try_from(number)
                .ok()
                .filter(|number| *number < 1_u32 << bits)
                .ok_or_else(|| self.malformed(format!("a {what} that Linux does not have")))
        };
        Ok((
            part(MAJOR, "device's major number", 12)?,
            part(MINOR, "device's minor number", 20)?,
        ))
    }

    /// The next header block; none at the end.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut block = [0; BLOCK];
        if !self.exact(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let stored = self.number(&header.as_old().cksum, "checksum")?;
        let at_field = |i: usize| (148..156).contains(&i);
        let unsigned: i64 = (0..BLOCK)
            .map(|i| if at_field(i) { 32 } else { i64::from(block[i]) })
            .sum();
        let signed: i64 = (0..BLOCK)
            .map(|i| match block[i] {
                _ if at_field(i) => 32,
                byte => i64::from(byte.cast_signed()),
            })
            .sum();
        if stored != unsigned && stored != signed {
            return Err(self.malformed("the header's checksum is wrong"));
        }
        Ok(Some(header.clone()))
    }

    /// A pax header's records: `LENGTH KEY=VALUE\n`, the length in decimal and of the whole record.
    fn pax(&self, content: &[u8], extension: &mut Extension) -> Result<(), UnpackError> {
        let mut rest = content;
        while !rest.is_empty() {
            let bad = || self.malformed("a damaged pax record");
            let space = rest
                .iter()
                .take(20)
                .position(|b| *b == b' ')
                .ok_or_else(bad)?;
            let length: usize = text_number(&rest[..space]).ok_or_else(bad)?;
            if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &rest[space + 1..length - 1];
            rest = &rest[length..];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extension.name = given(value).map(<[u8]>::to_vec),
                b"linkpath" => extension.link = given(value).map(<[u8]>::to_vec),
                b"size" => extension.size = field(value, text_number).ok_or_else(bad)?,
                b"uid" => extension.uid = field(value, text_number).ok_or_else(bad)?,
                b"gid" => extension.gid = field(value, text_number).ok_or_else(bad)?,
                b"mtime" => extension.mtime = field(value, pax_time).ok_or_else(bad)?,
                _ => {
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        let records = extension.sparse.get_or_insert_default();
                        records.take(key, value).ok_or_else(bad)?;
                    }
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        extension.xattrs.push((xattr_name(name), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    /// A number field of a header: octal digits, or GNU's big-endian form with the first bit set.
    fn number(&self, field: &[u8], what: &str) -> Result<i64, UnpackError> {
        let bad = || self.malformed(format!("the {what} of a header is no number"));
        if field[0] & 0x80 != 0 {
            // Two's complement of 8 * length - 1 bits.
            let negative = field[0] & 0x40 != 0;
            let mut value: i64 = if negative { -1 } else { 0 };
            for (i, byte) in field.iter().enumerate() {
                let byte = match (i, negative) {
                    (0, false) => byte & 0x7f,
                    _ => *byte,
                };
                let shifted = value.checked_mul(256).ok_or_else(bad)?;
                value = shifted | i64::from(byte);
            }
            return Ok(value);
        }
        let digits = up_to_nul(field).trim_ascii();
        if digits.is_empty() {
            return Ok(0);
        }
        let text = std::str::from_utf8(digits).map_err(|_| bad())?;
        i64::from_str_radix(text, 8).map_err(|_| bad())
    }

    fn set_content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn small_content(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > EXTENSION_LIMIT {
            return Err(self.malformed("an extension header of more than 1 MiB"));
        }
        let mut content = Vec::new();
        while self.left > 0 {
            let piece = self.content()?;
            content.extend_from_slice(piece);
        }
        Ok(content)
    }

    fn skip_content(&mut self) -> Result<(), UnpackError> {
        let buffered = (self.end - self.start) as u64;
        if let (Some(skip), Some(ahead)) = (self.skip, self.left.checked_sub(buffered)) {
            let ahead = ahead.saturating_add(std::mem::take(&mut self.padding));
            let distance = i64::try_from(ahead).map_err(|_| self.malformed("a size too large"))?;
            skip(&mut self.input, distance).map_err(UnpackError::Read)?;
            self.start = self.end;
            self.left = 0;
            self.position = self.position.saturating_add(buffered + ahead);
            return Ok(());
        }
        while self.left > 0 {
            self.content()?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            // Some writers end the file without the last entry's padding.
            if self.start == self.end && self.fill()? == 0 {
                self.left = 0;
                break;
            }
            self.content()?;
        }
        Ok(())
    }

    /// Fills `out`; false when the stream ends before its first byte.
    fn exact(&mut self, out: &mut [u8]) -> Result<bool, UnpackError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.start == self.end && self.fill()? == 0 {
                if filled == 0 {
                    return Ok(false);
                }
                return Err(self.malformed("the stream ends in the middle of a header"));
            }
            let count = (self.end - self.start).min(out.len() - filled);
            out[filled..filled + count]
                .copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            self.position += count as u64;
            filled += count;
        }
        Ok(true)
    }

    fn fill(&mut self) -> Result<usize, UnpackError> {
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(count) => {
                    self.start = 0;
                    self.end = count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> UnpackError {
        UnpackError::Malformed {
            offset: self.position,
            reason: reason.into(),
        }
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

/// The name of an extended attribute out of a record's key, which GNU tar and we write with `=` as `%3D` and `%` as `%25`.
fn xattr_name(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// The value of a pax record; an empty one takes back what was said, so that the header's own field counts.
fn given(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

/// The same, read; none where it makes no sense.
fn field<T>(value: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match given(value) {
        Some(value) => read(value).map(Some),
        None => Some(None),
    }
}

fn up_to_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn text_number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with an optional fraction, perhaps negative, as whole seconds and nanoseconds counted upwards from them.
fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if text.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_pax_headers() {
        assert_eq!(pax_time(b"12"), Some((12, 0)));
        assert_eq!(pax_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"12.1234567891"), Some((12, 123_456_789)));
        assert_eq!(pax_time(b"x"), None);
    }

    #[test]
    fn names_of_extended_attributes() {
        for (key, name) in [
            ("user.a", "user.a"),
            ("user.a%3Db%253D", "user.a=b%3D"),
            ("user.100%", "user.100%"),
            ("%2%3D", "%2="),
        ] {
            assert_eq!(xattr_name(key.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn numbers_octal_and_binary() {
        let stream = TarStream::new(io::empty());
        assert_eq!(stream.number(b"0000644\0", "x").unwrap(), 0o644);
        assert_eq!(stream.number(b"   644 \0", "x").unwrap(), 0o644);
        assert_eq!(
            stream.number(&[0x80, 0, 0, 0, 0, 0, 1, 0], "x").unwrap(),
            256
        );
        assert_eq!(stream.number(&[0xff; 8], "x").unwrap(), -1);
        assert!(stream.number(b"12x4\0", "x").is_err());
        assert!(
            stream
                .number(
                    &[
                        0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
                    ],
                    "x"
                )
                .is_err()
        );
    }

    #[test]
    fn a_stream_of_noise_is_refused() {
        let mut stream = TarStream::new(&[7u8; 4096][..]);
        assert!(stream.next().is_err());
    }
}
