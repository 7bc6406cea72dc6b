//! Any tar, entry by entry: for who wants some of its files and no tree. Its headers are as hostile as a layer's, and bounded
//! in the same way.

use std::io::{self, Read, Seek};

use crate::UnpackError;
use crate::stream::{Kind, Sparse, TarStream};

/// A tar that is being read. What [`Read`] gives is the content of the current entry.
pub struct Archive<R> {
    stream: TarStream<R>,
}

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its name, as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: ArchiveKind,
    /// Where in the archive its content begins.
    pub offset: u64,
}

/// What an entry of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A file of so many bytes, all of which stand in the archive.
    File(u64),
    /// The same file as the archive has under another name.
    HardLink(Vec<u8>),
    /// Another name, seen from the entry's directory.
    Symlink(Vec<u8>),
    /// A directory, a device, or a file that was written without its holes.
    Other,
}

impl<R: Read> Archive<R> {
    /// Reads from where `input` stands.
    pub fn new(input: R) -> Self {
        Self {
            stream: TarStream::new(input),
        }
    }

    /// The same of what can seek: content that nobody asks for is not read.
    pub fn seeking(input: R) -> Self
    where
        R: Seek,
    {
        Self {
            stream: TarStream::seeking(input),
        }
    }

    /// The next entry; none at the archive's end.
    ///
    /// # Errors
    /// When the stream is no tar, or a damaged one.
    pub fn next_entry(&mut self) -> Result<Option<ArchiveEntry>, UnpackError> {
        let Some(entry) = self.stream.next()? else {
            return Ok(None);
        };
        let kind = match entry.kind {
            Kind::Regular if entry.content == Sparse::dense(entry.content.size) => {
                ArchiveKind::File(entry.content.size)
            }
            Kind::HardLink => ArchiveKind::HardLink(entry.link),
            Kind::Symlink => ArchiveKind::Symlink(entry.link),
            _ => ArchiveKind::Other,
        };
        Ok(Some(ArchiveEntry {
            name: entry.name,
            kind,
            offset: self.stream.position(),
        }))
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let content = self
            .stream
            .content_at_most(out.len() as u64)
            .map_err(io::Error::other)?;
        out[..content.len()].copy_from_slice(content);
        Ok(content.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let long = "d/".repeat(100) + "long";
        for (name, size) in [("first", 700_000_usize), (&long, 3)] {
            header.set_size(size as u64);
            tar.append_data(&mut header, name, vec![b'x'; size].as_slice())
                .unwrap();
        }
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, "link", "first").unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn what_is_not_read_is_passed_over_in_either_way() {
        let bytes = archive();
        let mut all = Vec::new();
        for mut archive in [
            Archive::new(Box::new(Cursor::new(&bytes)) as Box<dyn Read>),
            Archive::new(Box::new(bytes.as_slice()) as Box<dyn Read>),
        ] {
            let mut entries = Vec::new();
            while let Some(entry) = archive.next_entry().unwrap() {
                entries.push(entry);
            }
            all.push(entries);
        }
        let mut seeking = Archive::seeking(Cursor::new(&bytes));
        let mut entries = Vec::new();
        while let Some(entry) = seeking.next_entry().unwrap() {
            if entry.kind == ArchiveKind::File(3) {
                assert_eq!(bytes[entry.offset as usize..][..3], *b"xxx");
                let mut content = String::new();
                seeking.read_to_string(&mut content).unwrap();
                assert_eq!(content, "xxx");
            }
            entries.push(entry);
        }
        all.push(entries);
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        let kinds: Vec<&ArchiveKind> = all[0].iter().map(|entry| &entry.kind).collect();
        let link = ArchiveKind::Symlink(b"first".to_vec());
        assert_eq!(
            kinds,
            [&ArchiveKind::File(700_000), &ArchiveKind::File(3), &link]
        );
    }

    #[test]
    fn a_name_without_end_takes_no_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut archive = Archive::new(header.as_bytes().chain(io::repeat(b'x')));
        let error = archive.next_entry().unwrap_err().to_string();
        assert!(error.contains("1 MiB"), "{error}");
    }

    #[test]
    fn a_size_beyond_all_is_an_error() {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::MAX >> 1);
        header.set_cksum();
        let twice = [header.as_bytes().as_slice(), header.as_bytes()].concat();
        let mut archive = Archive::seeking(Cursor::new(twice));
        archive.next_entry().unwrap();
        // At the latest where it would go on.
        assert!(!matches!(archive.next_entry(), Ok(Some(_))));
    }
}
