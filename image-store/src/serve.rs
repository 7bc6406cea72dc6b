//! Blobs of an image for who serves them: as they lie there, or made from the trees while they are read.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use dhow_image::{
    BlobBody, Compression, Descriptor, DiffId, Digest, Hasher, TransferError, TransferErrorKind,
};

use crate::blobs::digest_of;
use crate::distribute::gzip;
use crate::layers::TAR_FORM;
use crate::pipe::pipe;
use crate::{Image, Store, StoreError};

/// Where a blob's bytes come from.
enum Origin {
    /// There is a file of it, or it is a layer's tar form.
    Kept,
    /// It is compressed from the tree of this layer.
    Compressed(DiffId),
}

impl Image {
    /// The size of a blob that the manifest names, if its bytes can be had here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let Some((blob, layer)) = self.blob_named(digest)? else {
            return Ok(None);
        };
        Ok(self.origin(blob, layer)?.map(|_| blob.size()))
    }

    /// Opens a blob that the manifest names, from `offset` on where that can be; what has no file is made while it is read, with
    /// the same bytes every time, which a wrong digest at the end turns into an error. A lease should hold the image meanwhile.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn open_blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobBody<'static>>, TransferError> {
        let Some((blob, layer)) = self.blob_named(digest)? else {
            return Ok(None);
        };
        match self.origin(blob, layer)? {
            None => Ok(None),
            Some(Origin::Compressed(layer)) => Ok(Some(self.store.open_compressed(digest, layer))),
            Some(Origin::Kept) => match self.store.open_blob(blob, offset) {
                Err(error) if error.kind() == TransferErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            },
        }
    }

    /// The config or layer of this digest.
    fn blob_named(
        &self,
        digest: &Digest,
    ) -> Result<Option<(&Descriptor, Option<&DiffId>)>, StoreError> {
        if *digest == self.id {
            return Ok(Some((self.manifest.config(), None)));
        }
        for (blob, layer) in self.manifest.layers().iter().zip(&self.diff_ids) {
            if digest_of(blob)? == *digest {
                return Ok(Some((blob, Some(layer))));
            }
        }
        Ok(None)
    }

    fn origin(
        &self,
        blob: &Descriptor,
        layer: Option<&DiffId>,
    ) -> Result<Option<Origin>, StoreError> {
        let digest = digest_of(blob)?;
        if self.store.has_blob(&digest) {
            return Ok(Some(Origin::Kept));
        }
        let Some(layer) = layer else {
            return Ok(None);
        };
        let record = self.store.layer(layer, None)?;
        if record.is_none_or(|record| record.tar_form != Some(TAR_FORM)) {
            return Ok(None);
        }
        Ok(match Compression::of_layer(blob.media_type()) {
            Some(Compression::None) => Some(Origin::Kept),
            Some(Compression::Gzip) if self.store.compresses_to(layer, &digest)? => {
                Some(Origin::Compressed(layer.clone()))
            }
            // Another program compressed it, whose bytes are not ours.
            _ => None,
        })
    }
}

impl Store {
    /// Whether our compression of the layer has this digest; found out once in a process's life.
    fn compresses_to(&self, layer: &DiffId, digest: &Digest) -> Result<bool, StoreError> {
        static KNOWN: Mutex<Option<HashSet<(DiffId, Digest)>>> = Mutex::new(None);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (layer.clone(), digest.clone());
        if known().as_ref().is_some_and(|known| known.contains(&pair)) {
            return Ok(true);
        }
        let mut hashing = Hashing(Hasher::new(digest.algorithm()));
        self.write_compressed(layer, &mut hashing)?;
        let found = hashing.0.finish() == *digest;
        if found {
            known().get_or_insert_default().insert(pair);
        }
        Ok(found)
    }

    fn write_compressed(&self, layer: &DiffId, out: &mut dyn io::Write) -> Result<(), StoreError> {
        let mut gzip = gzip(out);
        self.write_tar(layer, &mut gzip)?;
        let written = gzip.finish().and_then(|out| out.flush());
        written.map_err(|source| StoreError::Io {
            doing: "compressing",
            path: layer.to_string().into(),
            source,
        })
    }

    fn open_compressed(&self, digest: &Digest, layer: DiffId) -> BlobBody<'static> {
        let (store, expected) = (self.clone(), digest.clone());
        let (writer, reader) = pipe();
        std::thread::spawn(move || {
            let mut out = Checked {
                out: writer,
                hasher: Hasher::new(expected.algorithm()),
            };
            let written = store.write_compressed(&layer, &mut out);
            let found = out.hasher.finish();
            match written {
                Ok(()) if found == expected => drop(out.out.finish()),
                Ok(()) => {
                    let changed = format!("the tree of layer {layer} was changed");
                    out.out.fail(io::Error::other(changed));
                }
                Err(error) => out.out.fail(io::Error::other(error)),
            }
        });
        BlobBody {
            reader: Box::new(reader),
            offset: 0,
        }
    }
}

/// Digests what is written, and keeps nothing.
struct Hashing(Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digests what goes through.
struct Checked<W> {
    out: W,
    hasher: Hasher,
}

impl<W: io::Write> io::Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
