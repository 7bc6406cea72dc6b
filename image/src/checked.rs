//! Bytes that are checked while they pass.

use std::io::{self, Read};

use oci_spec::image::Descriptor;

use crate::{Digest, DigestError, Hasher};

/// Reads a whole blob and fails where its size or digest is not the descriptor's. The last bytes are given only after the check, so
/// that who has read as much as was announced has read what was announced.
pub struct CheckedReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    left: u64,
    /// None once the digest has been compared.
    hasher: Option<Hasher>,
}

impl<R: Read> CheckedReader<R> {
    /// Checks what `inner` gives from the blob's first byte on.
    ///
    /// # Errors
    /// When the descriptor's digest is of a kind that cannot be checked.
    pub fn new(inner: R, descriptor: &Descriptor) -> Result<Self, DigestError> {
        let digest = Digest::of_descriptor(descriptor)?;
        Ok(Self {
            inner,
            hasher: Some(Hasher::new(digest.algorithm())),
            digest,
            size: descriptor.size(),
            left: descriptor.size(),
        })
    }

    fn wrong(&self, reason: &str) -> io::Error {
        let message = format!("{} is damaged: {reason}", self.digest);
        io::Error::new(io::ErrorKind::InvalidData, message)
    }

    fn at_end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        if read_some(&mut self.inner, &mut [0])? > 0 {
            return Err(self.wrong(&format!("it is longer than {} bytes", self.size)));
        }
        let found = hasher.finish();
        match found == self.digest {
            true => Ok(()),
            false => Err(self.wrong(&format!("its bytes have the digest {found}"))),
        }
    }
}

impl<R: Read> Read for CheckedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let count = match most {
            0 => 0,
            most => read_some(&mut self.inner, &mut out[..most])?,
        };
        if count == 0 && most > 0 {
            let came = self.size - self.left;
            return Err(self.wrong(&format!("it ends after {came} of {} bytes", self.size)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&out[..count]);
        }
        self.left -= count as u64;
        if self.left == 0 {
            self.at_end()?;
        }
        Ok(count)
    }
}

fn read_some(from: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;

    use super::*;

    fn read(content: &[u8], described: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let descriptor = Descriptor::new(MediaType::ImageLayer, size, Digest::of(described));
        let mut out = Vec::new();
        CheckedReader::new(content, &descriptor)
            .unwrap()
            .read_to_end(&mut out)
            .map(|_| out)
    }

    #[test]
    fn only_the_whole_and_right_bytes_pass() {
        assert_eq!(read(b"abc", b"abc", 3).unwrap(), b"abc");
        assert_eq!(read(b"", b"", 0).unwrap(), b"");
        for (content, size, said) in [
            (&b"abd"[..], 3, "have the digest"),
            (b"ab", 3, "ends after 2 of 3"),
            (b"abcd", 3, "longer than 3"),
            (b"a", 0, "longer than 0"),
        ] {
            let error = read(content, b"abc", size).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn the_last_bytes_wait_for_the_check() {
        let descriptor = Descriptor::new(MediaType::ImageLayer, 4u64, Digest::of(b"good"));
        let mut reader = CheckedReader::new(&b"baad"[..], &descriptor).unwrap();
        let mut out = [0; 4];
        assert!(reader.read(&mut out[..2]).is_ok());
        assert!(reader.read(&mut out).is_err());
    }
}
