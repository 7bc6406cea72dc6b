//! Gets an image ready for the way out: every layer as a compressed blob.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dhow_image::{Algorithm, Compression, Descriptor, DiffId, Digest, Hasher, Progress, Reported};

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::gzip::Gzip;
use crate::layers::{LayerRecord, TAR_FORM};
use crate::lease::descriptor;
use crate::store::sync_directory;
use crate::{Image, Lease, Store, StoreError};

/// Nearly as small as at 6, and faster. Part of what makes the blob of a layer the same everywhere: another level is other bytes.
const LEVEL: u32 = 5;
/// More threads than this compress nothing faster that comes from one disk, and each takes two megabytes.
const MOST_THREADS: usize = 12;

impl Store {
    /// Makes a gzip blob of every layer that has no blob yet, and a manifest that names them; references move to it.
    /// The image's id stays. An image that has all its blobs is given back as it is.
    ///
    /// # Errors
    /// When a layer cannot be packed or a blob not be written.
    pub fn distributable(
        &self,
        lease: &Lease,
        image: &Image,
        progress: &dyn Progress,
    ) -> Result<Image, StoreError> {
        lease.hold(image)?;
        let mut layers = image.manifest.layers().clone();
        let mut missing = Vec::new();
        for (index, layer) in layers.iter_mut().enumerate() {
            let digest = digest_of(layer)?;
            // What a registry gave uncompressed goes on as it came; what an archive gave so is compressed like a layer built here.
            let as_it_came = is_compressed(layer) || self.locations().are_known(&digest);
            // What a registry is known to hold need not be here.
            if as_it_came && (self.has_blob(&digest) || self.is_dropped(&digest)) {
                continue;
            }
            match self.known_blob(lease, &image.diff_ids[index])? {
                Some(blob) => *layer = blob,
                None => missing.push(index),
            }
        }
        for (index, made) in self.compress_all(lease, image, &missing, progress)? {
            layers[index] = made;
        }
        if layers == *image.manifest.layers() {
            return Ok(image.clone());
        }
        let mut manifest = image.manifest.clone();
        manifest.set_layers(layers);
        let moved = lease.put_manifest(&manifest)?;
        self.move_tags(&digest_of(&image.descriptor)?, &moved)?;
        let mut distributable = Image::read(self, &moved)?;
        distributable.references.clone_from(&image.references);
        Ok(distributable)
    }

    /// A blob that was made or pulled for the layer before, where it is still there or can be had again.
    fn known_blob(
        &self,
        lease: &Lease,
        diff_id: &DiffId,
    ) -> Result<Option<Descriptor>, StoreError> {
        let Some(blob) = self.compressed(diff_id)?.filter(is_compressed) else {
            return Ok(None);
        };
        let digest = digest_of(&blob)?;
        lease.hold_blobs([&digest])?;
        Ok((self.has_blob(&digest) || self.is_dropped(&digest)).then_some(blob))
    }

    /// Compresses the layers with these indices, as many at a time as there are cores; where there are fewer, each has several.
    fn compress_all(
        &self,
        lease: &Lease,
        image: &Image,
        missing: &[usize],
        progress: &dyn Progress,
    ) -> Result<Vec<(usize, Descriptor)>, StoreError> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let cores = cores();
        let at_a_time = cores.min(missing.len()).max(1);
        let threads = cores / at_a_time;
        let work = || {
            while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let made = self.compress_layer(lease, &image.diff_ids[*index], threads, progress);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push(made.map(|made| (*index, made)));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..at_a_time {
                scope.spawn(work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().collect()
    }

    fn compress_layer(
        &self,
        lease: &Lease,
        diff_id: &DiffId,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Descriptor, StoreError> {
        let part = diff_id.0.short();
        let size = match self.blob_size(&diff_id.0)? {
            Some(size) => size,
            None => self.packable(diff_id)?.tar_size,
        };
        progress.begin(part, "compressing", Some(size));
        let made = self.compress_tar(lease, diff_id, threads, progress);
        let outcome = if made.is_ok() {
            "compressed"
        } else {
            "not compressed"
        };
        progress.end(part, outcome);
        made
    }

    /// The record of a tree that packs to its DiffId.
    fn packable(&self, diff_id: &DiffId) -> Result<LayerRecord, StoreError> {
        let record = self.layer(diff_id, None)?;
        record
            .filter(|record| record.tar_form == Some(TAR_FORM))
            .ok_or_else(|| damaged(format!("the blob of layer {diff_id}"), "it is gone"))
    }

    /// Writes a layer's tar: the blob that is not compressed, or what the tree packs to.
    pub(crate) fn write_tar(
        &self,
        diff_id: &DiffId,
        mut out: impl Write,
    ) -> Result<(), StoreError> {
        let blob = self.blob_path(&diff_id.0);
        let found = match File::open(&blob) {
            Ok(mut file) => {
                let mut counting = Counting {
                    out,
                    hasher: Hasher::new(diff_id.0.algorithm()),
                    size: 0,
                };
                io::copy(&mut file, &mut counting).map_err(io("reading", &blob))?;
                DiffId(counting.hasher.finish())
            }
            Err(_) => {
                let tree = self.open_tree(&self.packable(diff_id)?.tree)?;
                let packed = dhow_layer::pack(tree.as_fd(), &mut out, &self.packing());
                let packed = packed.map_err(|source| StoreError::Pack {
                    layer: diff_id.0.short().to_owned(),
                    source,
                })?;
                packed.diff_id
            }
        };
        if found == *diff_id {
            return Ok(());
        }
        Err(StoreError::Digest {
            what: format!("layer {} (it was changed)", diff_id.0.short()),
            expected: diff_id.to_string(),
            found: found.to_string(),
        })
    }

    fn compress_tar(
        &self,
        lease: &Lease,
        diff_id: &DiffId,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Descriptor, StoreError> {
        let (path, file) = self.temporary()?;
        let made = (|| {
            let out = Counting {
                out: &file,
                hasher: Hasher::new(Algorithm::Sha256),
                size: 0,
            };
            // While fewer layers than cores are in work, each has several; the bytes are the same.
            let mut gzip = Gzip::new(out, LEVEL, threads);
            let reported = Reported::new(&mut gzip, diff_id.0.short(), progress);
            self.write_tar(diff_id, reported)?;
            let out = gzip.finish().map_err(io("writing", &path))?;
            file.sync_all().map_err(io("syncing", &path))?;
            Ok((out.hasher.finish(), out.size))
        })();
        let published = made.and_then(|(digest, size)| {
            lease.hold_blobs([&digest])?;
            let blob = self.blob_path(&digest);
            fs::rename(&path, &blob).map_err(io("writing", &blob))?;
            blob.parent().map_or(Ok(()), sync_directory)?;
            Ok(gzip_descriptor(&digest, size))
        });
        match published {
            Ok(descriptor) => {
                self.note_compressed(diff_id, &descriptor)?;
                Ok(descriptor)
            }
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

/// Compresses what is written as every layer's blob is.
pub(crate) fn gzip<W: Write>(out: W) -> Gzip<W> {
    Gzip::new(out, LEVEL, cores())
}

/// How many threads compress.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
}

fn is_compressed(layer: &Descriptor) -> bool {
    Compression::of_layer(layer.media_type()) != Some(Compression::None)
}

fn gzip_descriptor(digest: &Digest, size: u64) -> Descriptor {
    descriptor(Compression::Gzip.layer_media_type(), size, digest)
}

/// Digests and counts what is written.
struct Counting<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
