//! Images out of one file: the OCI image layout in a tar (image-spec, image-layout.md), taken in while it passes. The other
//! form, Docker's, is in docker_archive.rs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek as _};

use dhow_image::{
    Begun, BlobSink as _, ChainId, Compression, Descriptor, Digest, DocumentKind,
    ImageConfiguration, ImageIndex, ImageManifest, ImageReference, Platform, Progress,
    TransferError, TransferErrorKind, Want,
};
use dhow_layer::{Archive, ArchiveKind, UnpackError};
use oci_spec::image::MediaType;

use crate::blobs::digest_of;
use crate::docker_archive::Members;
use crate::error::{damaged, io as io_error};
use crate::index::plain;
use crate::lease::descriptor;
use crate::save::{IMAGE_NAME, REF_NAME};
use crate::{Image, Lease, Store, StoreError};

/// A document (index, manifest, config) larger than this is none.
const DOCUMENT: u64 = 4 << 20;

/// An image of an archive, and the name that it has there.
pub(crate) type Loaded = (Option<ImageReference>, Image);

/// What an OCI archive's first entry is named. Any other archive has to be looked through before anything of it is taken.
const OCI_STARTS: [&str; 3] = ["oci-layout", "index.json", "blobs"];
/// After so many documents, or layers in them, it is not looked any more after each what it announces: layers that pass then are
/// unpacked at the end.
const ANNOUNCED: u32 = 1000;
const ANNOUNCED_LAYERS: usize = 100_000;
/// A tar's block.
const BLOCK: u64 = 512;

impl Store {
    /// Takes the images of an archive (OCI's or Docker's; plain, gzip or zstd) into the store, and tags those that it names.
    /// An OCI archive is taken in while it passes; Docker's tells only at its end what is in it, so what cannot be read twice
    /// is kept in a temporary file meanwhile.
    ///
    /// # Errors
    /// When it is no archive of images, or a part of it is damaged.
    pub fn load(
        &self,
        mut input: File,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        if input.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(StoreError::Invalid(
                "this is a directory; `dhow image copy oci:DIRECTORY store:NAME` takes an image from an OCI layout".to_owned(),
            ));
        }
        let start = beginning(&mut input, 4)?;
        if let Some(program) = Compression::unread_of_bytes(&start) {
            return Err(StoreError::Invalid(format!(
                "it is compressed by {program}, which is not read here; decompress it first (`{program} -d`)"
            )));
        }
        match Compression::of_bytes(&start) {
            Compression::None if input.metadata().is_ok_and(|found| found.is_file()) => {
                let back = i64::try_from(start.len()).unwrap_or(0);
                input.seek(io::SeekFrom::Current(-back)).map_err(reading)?;
                self.load_file(&input, progress)
            }
            Compression::None => self.load_stream(Cursor::new(start).chain(input), progress),
            Compression::Gzip => {
                let input = Cursor::new(start).chain(input);
                self.load_stream(flate2::read::MultiGzDecoder::new(input), progress)
            }
            Compression::Zstd => {
                let input = Cursor::new(start).chain(input);
                self.load_stream(zstd::Decoder::new(input).map_err(reading)?, progress)
            }
        }
    }

    /// From what can be read once.
    fn load_stream(
        &self,
        mut input: impl Read,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        let start = beginning(&mut input, BLOCK)?;
        let oci = starts_as_oci(&start);
        let mut input = Cursor::new(start).chain(input);
        if oci {
            return self.load_tar(input, progress);
        }
        let (path, mut file) = self.temporary()?;
        // Its end is the end of this process, whichever way.
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
        io::copy(&mut input, &mut file).map_err(reading)?;
        file.rewind().map_err(reading)?;
        self.load_file(&file, progress)
    }

    /// From what can be read again, from where it stands.
    fn load_file(
        &self,
        mut file: &File,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        let from = file.stream_position().map_err(reading)?;
        let oci = starts_as_oci(&beginning(&mut file, BLOCK)?);
        file.seek(io::SeekFrom::Start(from)).map_err(reading)?;
        if oci {
            return self.load_tar(file, progress);
        }
        let members = Members::read(file)?;
        if members.has("index.json") {
            file.seek(io::SeekFrom::Start(from)).map_err(reading)?;
            return self.load_tar(file, progress);
        }
        self.load_docker(&members, progress)
    }

    fn load_tar(
        &self,
        input: impl Read,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        let mut loader = Loader {
            store: self,
            lease: self.taking_lease()?,
            progress,
            index: None,
            documents: 0,
            layers: HashMap::new(),
        };
        let mut archive = Archive::new(input);
        while let Some(entry) = archive.next_entry().map_err(no_archive)? {
            let path = String::from_utf8_lossy(&entry.name);
            if let ArchiveKind::File(size) = entry.kind {
                loader.entry(path.trim_start_matches("./"), size, &mut archive)?;
            }
        }
        loader.finish()
    }
}

fn beginning(input: &mut impl Read, length: u64) -> Result<Vec<u8>, StoreError> {
    let mut start = Vec::new();
    input
        .by_ref()
        .take(length)
        .read_to_end(&mut start)
        .map_err(reading)?;
    Ok(start)
}

fn starts_as_oci(block: &[u8]) -> bool {
    let name = block.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let name = name.trim_start_matches("./");
    let first = name.split('/').next().unwrap_or_default();
    OCI_STARTS.contains(&first)
}

struct Loader<'a> {
    store: &'a Store,
    lease: Lease,
    progress: &'a dyn Progress,
    index: Option<ImageIndex>,
    /// How many small blobs have passed that may be manifests and configs. They are in the store.
    documents: u32,
    /// Layers that the documents so far announce, so that they can be unpacked while they pass.
    layers: HashMap<Digest, (Descriptor, Want)>,
}

/// An entry of an archive's index.
struct Named {
    name: Option<ImageReference>,
    /// The image for this machine.
    manifest: Option<Descriptor>,
    /// Where the entry is for several platforms, all of them.
    index: Option<Descriptor>,
}

impl Loader<'_> {
    fn entry(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), StoreError> {
        if path == "index.json" {
            let bytes = small(content, size, path)?;
            let index = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
            self.index = Some(index);
            return self.announce();
        }
        let Some((algorithm, hex)) = path
            .strip_prefix("blobs/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return Ok(());
        };
        let digest: Digest = format!("{algorithm}:{hex}")
            .parse()
            .map_err(|error| damaged(path, error))?;
        if size > DOCUMENT || self.layers.contains_key(&digest) {
            return self.layer(&digest, size, content);
        }
        let bytes = small(content, size, path)?;
        if bytes.first() == Some(&b'{') && Digest::of(&bytes) == digest {
            self.lease.put(&bytes)?;
            self.documents += 1;
            return self.announce();
        }
        self.layer(&digest, size, &mut bytes.as_slice())
    }

    /// Notes the layers of all images whose documents are known by now.
    fn announce(&mut self) -> Result<(), StoreError> {
        if self.documents > ANNOUNCED {
            return Ok(());
        }
        for manifest in self.images().into_iter().filter_map(|named| named.manifest) {
            if self.layers.len() > ANNOUNCED_LAYERS {
                return Ok(());
            }
            let Some(document) = self.document::<ImageManifest>(&manifest)? else {
                continue;
            };
            let Some(config) = self.document::<ImageConfiguration>(document.config())? else {
                continue;
            };
            let mut parent: Option<ChainId> = None;
            for (layer, text) in document.layers().iter().zip(config.rootfs().diff_ids()) {
                let diff_id = text.parse().map_err(|error| damaged(text, error))?;
                let chain = ChainId::above(parent.as_ref(), &diff_id);
                let want = Want::Layer { diff_id, parent };
                self.layers.insert(digest_of(layer)?, (layer.clone(), want));
                parent = Some(chain);
            }
        }
        Ok(())
    }

    fn layer(
        &mut self,
        digest: &Digest,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let (blob, want) = match self.layers.get(digest) {
            // In another order than from below, what is left out of a layer could not be known yet.
            Some((blob, Want::Layer { diff_id, parent }))
                if self.lease.has_chain(parent.as_ref()) =>
            {
                let want = Want::Layer {
                    diff_id: diff_id.clone(),
                    parent: parent.clone(),
                };
                (blob.clone(), want)
            }
            Some((blob, _)) => (blob.clone(), Want::Blob),
            None => (descriptor(MediaType::ImageLayer, size, digest), Want::Blob),
        };
        if blob.size() != size {
            return Err(damaged(digest, "its size is not what its manifest says"));
        }
        take(&self.lease, &blob, &want, content, self.progress)
    }

    fn finish(self) -> Result<Vec<Loaded>, StoreError> {
        if self.index.is_none() {
            return Err(StoreError::Invalid(
                "this is no archive of images: it has neither index.json nor manifest.json"
                    .to_owned(),
            ));
        }
        let mut loaded = Vec::new();
        for named in self.images() {
            // Docker writes indexes of which it has only some images.
            let index = match named.index {
                Some(index)
                    if self.lease.hold_index(&index).is_ok() && self.store.is_whole(&index)? =>
                {
                    Some(index)
                }
                _ => None,
            };
            let image = match (&named.manifest, &index) {
                (Some(manifest), _) => Image::read(self.store, manifest)?,
                (None, Some(index)) => self.store.image_of_index(index, &Platform::host())?,
                (None, None) => continue,
            };
            self.lease
                .ensure_layers(&image.diff_ids, image.manifest.layers())?;
            let (name, index) = (named.name, index.as_ref());
            match &name {
                Some(name) => self.store.tag_whole(name, &image.descriptor, index)?,
                None => self.store.keep_whole(&image.descriptor, index)?,
            }
            loaded.push((name, image));
        }
        if loaded.is_empty() {
            return Err(StoreError::Invalid(format!(
                "the archive has no image for {}",
                Platform::host()
            )));
        }
        Ok(loaded)
    }

    /// What the archive's index names.
    fn images(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for entry in self.index.iter().flat_map(ImageIndex::manifests) {
            let name = name_of(entry);
            match DocumentKind::of(entry.media_type()) {
                Some(DocumentKind::Manifest) => found.push(Named {
                    name,
                    manifest: Some(plain(entry)),
                    index: None,
                }),
                Some(DocumentKind::Index) => {
                    let inner = self.document::<ImageIndex>(entry).ok().flatten();
                    let inner = inner.as_ref().map(ImageIndex::manifests);
                    let chosen = inner.and_then(|inner| Platform::host().choose(inner));
                    found.push(Named {
                        name,
                        manifest: chosen.map(plain),
                        index: Some(plain(entry)),
                    });
                }
                None => {}
            }
        }
        found
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        blob: &Descriptor,
    ) -> Result<Option<T>, StoreError> {
        let digest = digest_of(blob)?;
        if !self.store.has_blob(&digest) {
            return Ok(None);
        }
        serde_json::from_slice(&self.store.read_blob(&digest)?)
            .map(Some)
            .map_err(|error| damaged(blob.digest(), error))
    }
}

/// Takes one blob of an archive into the store.
pub(crate) fn take(
    lease: &Lease,
    blob: &Descriptor,
    want: &Want,
    content: &mut dyn Read,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let digest = digest_of(blob)?;
    let failed = |error: TransferError| match error.kind() {
        TransferErrorKind::Corrupt => damaged(&digest, error),
        // The disk, mostly: the archive is not to blame.
        _ => StoreError::Take {
            what: digest.to_string(),
            source: error,
        },
    };
    match lease.begin(blob, want).map_err(failed)? {
        Begun::Present => progress.end(digest.short(), "already there"),
        Begun::Write(mut writer) => {
            progress.begin(digest.short(), "loading", Some(blob.size()));
            // A part that an earlier attempt left needs only the rest.
            let skipped = content.take(writer.offset());
            let skipped = io::copy(&mut { skipped }, &mut io::sink()).map_err(reading)?;
            progress.resumed(digest.short(), skipped);
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let count = content.read(&mut buffer).map_err(reading)?;
                if count == 0 {
                    break;
                }
                io::Write::write_all(&mut writer, &buffer[..count])
                    .map_err(io_error("keeping", digest.to_string()))?;
                progress.advance(digest.short(), count as u64);
            }
            writer.commit().map_err(failed)?;
            progress.end(digest.short(), "loaded");
        }
    }
    Ok(())
}

fn name_of(named: &Descriptor) -> Option<ImageReference> {
    let annotations = named.annotations().as_ref()?;
    let whole = annotations.get(IMAGE_NAME);
    let name = whole.or_else(|| annotations.get(REF_NAME))?;
    name.parse().ok()
}

pub(crate) fn small(content: &mut dyn Read, size: u64, path: &str) -> Result<Vec<u8>, StoreError> {
    if size > DOCUMENT {
        return Err(damaged(path, "it is larger than any such document"));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(reading)?;
    Ok(bytes)
}

/// An archive that is no tar, or a damaged one.
pub(crate) fn no_archive(error: UnpackError) -> StoreError {
    match error {
        UnpackError::Read(source) => reading(source),
        other => reading(io::Error::other(other)),
    }
}

pub(crate) fn reading(source: io::Error) -> StoreError {
    StoreError::Io {
        doing: "reading",
        path: "the archive".into(),
        source,
    }
}
