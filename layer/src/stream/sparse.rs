//! Files that a tar holds without their holes: GNU's own header and the three versions of its pax records
//! (GNU tar's manual, "Storing Sparse Files").

use std::io::Read;

use tar::Header;

use super::{BLOCK, EXTENSION_LIMIT, TarStream};
use crate::UnpackError;

/// A file's pieces, in order, and its size with all holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) size: u64,
    pub(crate) segments: Vec<Segment>,
}

/// Bytes of the file that the tar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// More pieces than this no file may have.
const SEGMENTS: usize = 1 << 16;
/// How long a segment is in GNU's header.
const PAIR: usize = 24;

impl Sparse {
    /// The whole of a file without holes.
    pub(crate) fn dense(size: u64) -> Self {
        let segment = Segment {
            offset: 0,
            length: size,
        };
        Self {
            size,
            segments: vec![segment],
        }
    }

    /// Adds the next piece; pieces neither overlap nor go back, and lie in the file.
    pub(crate) fn add(&mut self, offset: u64, length: u64) -> Result<(), &'static str> {
        let last = self.segments.last();
        let end = last.map_or(0, |last| last.offset + last.length);
        if offset < end || offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err("the pieces of a sparse file overlap or lie outside of it");
        }
        if self.segments.len() >= SEGMENTS {
            return Err("a sparse file of too many pieces");
        }
        self.segments.push(Segment { offset, length });
        Ok(())
    }

    /// The bytes that the tar has.
    pub(crate) fn stored(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }
}

/// What pax records tell of a sparse file, as they come.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// `GNU.sparse.major`: 1 where the map stands before the content.
    pub(crate) major: u64,
    /// The real size.
    pub(crate) size: Option<u64>,
    /// The real name.
    pub(crate) name: Option<Vec<u8>>,
    /// Offsets and lengths in turn (versions 0.0 and 0.1).
    pub(crate) numbers: Vec<u64>,
}

impl Records {
    /// Takes a record whose key begins with `GNU.sparse.`; none where its value makes no sense.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = number(value)?,
            b"minor" | b"numblocks" => {}
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"offset" | b"numbytes" => self.numbers.push(number(value)?),
            b"map" => {
                for text in value.split(|byte| *byte == b',').filter(|t| !t.is_empty()) {
                    self.numbers.push(number(text)?);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// The map of versions 0.0 and 0.1.
    pub(crate) fn sparse(&self) -> Result<Sparse, &'static str> {
        let mut sparse = Sparse {
            size: self.size.ok_or("a sparse file without its size")?,
            segments: Vec::new(),
        };
        let pairs = self.numbers.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err("a sparse file whose map lacks a number");
        }
        for pair in pairs {
            sparse.add(pair[0], pair[1])?;
        }
        Ok(sparse)
    }
}

impl<R: Read> TarStream<R> {
    /// GNU's form: the first segments stand in the header, more of them in blocks behind it.
    pub(super) fn gnu_sparse(&mut self, header: &Header, size: u64) -> Result<Sparse, UnpackError> {
        /// Where the header has its segments, whether more follow, and the real size.
        const SEGMENTS: std::ops::Range<usize> = 386..482;
        const MORE: usize = 482;
        const SIZE: std::ops::Range<usize> = 483..495;
        /// The same in a block behind it.
        const MORE_SEGMENTS: usize = 504;

        let bytes = header.as_bytes();
        let real = self.number(&bytes[SIZE], "real size")?;
        let mut sparse = Sparse {
            size: u64::try_from(real).map_err(|_| self.malformed("negative size"))?,
            segments: Vec::new(),
        };
        self.gnu_segments(&bytes[SEGMENTS], &mut sparse)?;
        let mut more = bytes[MORE] != 0;
        while more {
            let mut block = [0; BLOCK];
            if !self.exact(&mut block)? {
                return Err(self.malformed("the stream ends in the middle of a header"));
            }
            self.gnu_segments(&block[..MORE_SEGMENTS], &mut sparse)?;
            more = block[MORE_SEGMENTS] != 0;
        }
        self.set_content(size);
        Ok(sparse)
    }

    fn gnu_segments(&self, block: &[u8], sparse: &mut Sparse) -> Result<(), UnpackError> {
        for (offset, length) in gnu_fields(block) {
            let number = |field, what| {
                u64::try_from(self.number(field, what)?)
                    .map_err(|_| self.malformed("a sparse file's piece before its beginning"))
            };
            let (offset, length) = (number(offset, "offset")?, number(length, "length")?);
            sparse
                .add(offset, length)
                .map_err(|reason| self.malformed(reason))?;
        }
        Ok(())
    }

    /// The forms of pax: the map stands in the records, or (version 1) in the first blocks of the content, a number a line.
    pub(super) fn pax_sparse(
        &mut self,
        records: &Records,
        size: u64,
    ) -> Result<Sparse, UnpackError> {
        self.set_content(size);
        if records.major == 0 {
            return records.sparse().map_err(|reason| self.malformed(reason));
        }
        let mut sparse = Sparse {
            size: records
                .size
                .ok_or_else(|| self.malformed("a sparse file without its size"))?,
            segments: Vec::new(),
        };
        let before = self.left;
        let count = self.map_number(before)?;
        for _ in 0..count {
            let (offset, length) = (self.map_number(before)?, self.map_number(before)?);
            sparse
                .add(offset, length)
                .map_err(|reason| self.malformed(reason))?;
        }
        // The map fills whole blocks.
        let block = BLOCK as u64;
        let mut rest = (block - (before - self.left) % block) % block;
        while rest > 0 {
            let skipped = self.content_at_most(rest)?.len() as u64;
            if skipped == 0 {
                return Err(self.malformed("a sparse file whose map is cut off"));
            }
            rest -= skipped;
        }
        Ok(sparse)
    }

    fn map_number(&mut self, before: u64) -> Result<u64, UnpackError> {
        let mut digits = Vec::new();
        loop {
            let byte = self.content_at_most(1)?.first().copied();
            match byte {
                Some(b'\n') => break,
                Some(digit) if digits.len() < 20 && before - self.left <= EXTENSION_LIMIT => {
                    digits.push(digit);
                }
                _ => return Err(self.malformed("a sparse file's map is damaged or too long")),
            }
        }
        number(&digits).ok_or_else(|| self.malformed("a sparse file's map is damaged"))
    }
}

/// The number fields of one of GNU's blocks of segments: offset and length, twelve bytes each, up to the first empty one.
pub(crate) fn gnu_fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block
        .chunks_exact(PAIR)
        .take_while(|pair| pair[0] != 0)
        .map(|pair| pair.split_at(PAIR / 2))
}

/// A decimal number.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_in_order_and_in_the_file() {
        let mut sparse = Sparse {
            size: 100,
            segments: Vec::new(),
        };
        assert_eq!(sparse.add(10, 20), Ok(()));
        assert_eq!(sparse.add(30, 0), Ok(()));
        assert!(sparse.add(29, 1).is_err());
        assert!(sparse.add(90, 11).is_err());
        assert!(sparse.add(u64::MAX, 2).is_err());
        assert_eq!(sparse.stored(), 20);
    }

    #[test]
    fn maps_of_pax_records() {
        let mut records = Records::default();
        assert_eq!(records.take(b"size", b"10"), Some(()));
        assert_eq!(records.take(b"map", b"0,1,4,2"), Some(()));
        assert_eq!(records.sparse().map(|sparse| sparse.stored()), Ok(3));
        assert_eq!(records.take(b"offset", b"9"), Some(()));
        assert!(records.sparse().is_err());
        assert_eq!(records.take(b"numbytes", b"-1"), None);
        assert_eq!(records.take(b"colour", b"red"), None);
    }
}
