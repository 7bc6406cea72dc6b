//! Images out of one file: the OCI image layout in a tar (image-spec, image-layout.md).

use std::collections::HashMap;
use std::io::{self, Cursor, Read};

use dhow_image::{
    Begun, BlobSink as _, ChainId, Compression, Descriptor, Digest, DocumentKind,
    ImageConfiguration, ImageIndex, ImageManifest, ImageReference, Platform, Progress, Want,
};
use oci_spec::image::MediaType;

use crate::blobs::digest_of;
use crate::error::damaged;
use crate::lease::descriptor;
use crate::save::{IMAGE_NAME, REF_NAME};
use crate::{Image, Lease, Store, StoreError};

/// A document (index, manifest, config) larger than this is none.
const DOCUMENT: u64 = 4 << 20;

/// An image of an archive, and the name that it has there.
type Loaded = (Option<ImageReference>, Image);

impl Store {
    /// Takes the images of an OCI archive (plain, gzip or zstd) into the store, and tags those that it names.
    ///
    /// # Errors
    /// When it is no OCI archive, or a blob of it is damaged.
    pub fn load(
        &self,
        mut input: impl Read + Send,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        let mut start = Vec::new();
        let first = input.by_ref().take(4).read_to_end(&mut start);
        first.map_err(reading)?;
        let compression = Compression::of_bytes(&start);
        let input = Cursor::new(start).chain(input);
        match compression {
            Compression::None => self.load_tar(input, progress),
            Compression::Gzip => self.load_tar(flate2::read::MultiGzDecoder::new(input), progress),
            Compression::Zstd => {
                let decoder = zstd::Decoder::new(input).map_err(reading)?;
                self.load_tar(decoder, progress)
            }
        }
    }

    fn load_tar(
        &self,
        input: impl Read,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        let mut loader = Loader {
            store: self,
            lease: self.lease()?,
            progress,
            index: None,
            docker: false,
            documents: HashMap::new(),
            layers: HashMap::new(),
        };
        let mut tar = tar::Archive::new(input);
        for entry in tar.entries().map_err(reading)? {
            let mut entry = entry.map_err(reading)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = path.trim_start_matches("./");
            let size = entry.size();
            if entry.header().entry_type().is_file() {
                loader.entry(path, size, &mut entry)?;
            }
        }
        loader.finish()
    }
}

struct Loader<'a> {
    store: &'a Store,
    lease: Lease,
    progress: &'a dyn Progress,
    index: Option<ImageIndex>,
    /// There is a `manifest.json`, as in archives of Docker.
    docker: bool,
    /// Small blobs that have passed, which may be manifests and configs.
    documents: HashMap<Digest, Vec<u8>>,
    /// Layers that the documents so far announce, so that they can be unpacked while they pass.
    layers: HashMap<Digest, (Descriptor, Want)>,
}

impl Loader<'_> {
    fn entry(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), StoreError> {
        if path == "index.json" {
            let bytes = small(content, size, path)?;
            let index = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
            self.index = Some(index);
            return self.announce();
        }
        self.docker |= path == "manifest.json";
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
            self.documents.insert(digest, bytes);
            return self.announce();
        }
        self.layer(&digest, size, &mut bytes.as_slice())
    }

    /// Notes the layers of all images whose documents are known by now.
    fn announce(&mut self) -> Result<(), StoreError> {
        for (_, manifest) in self.images() {
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
        let failed = |error: dhow_image::TransferError| damaged(digest, error);
        match self.lease.begin(&blob, &want).map_err(failed)? {
            Begun::Present => self.progress.end(digest.short(), "already there"),
            Begun::Write(mut writer) => {
                self.progress.begin(digest.short(), "loading", Some(size));
                // A part that an earlier attempt left needs only the rest.
                let skipped = content.take(writer.offset());
                let skipped = io::copy(&mut { skipped }, &mut io::sink()).map_err(reading)?;
                self.progress.advance(digest.short(), skipped);
                let mut buffer = vec![0; 256 * 1024];
                loop {
                    let count = content.read(&mut buffer).map_err(reading)?;
                    if count == 0 {
                        break;
                    }
                    io::Write::write_all(&mut writer, &buffer[..count]).map_err(reading)?;
                    self.progress.advance(digest.short(), count as u64);
                }
                writer.commit().map_err(failed)?;
                self.progress.end(digest.short(), "loaded");
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Loaded>, StoreError> {
        if self.index.is_none() {
            return Err(StoreError::Invalid(if self.docker {
                "this is an archive of Docker's old form, which is not supported yet; \
                 turn it into an OCI archive (skopeo copy docker-archive:FILE oci-archive:NEW)"
                    .to_owned()
            } else {
                "this is no OCI archive: it has no index.json".to_owned()
            }));
        }
        let mut loaded = Vec::new();
        for (name, manifest) in self.images() {
            let image = Image::read(self.store, &manifest)?;
            self.lease
                .ensure_layers(&image.diff_ids, image.manifest.layers())?;
            match &name {
                Some(name) => self.store.tag(name, &manifest)?,
                None => self.store.keep(&manifest)?,
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

    /// The manifests that the index names, each with its name; of an image for several platforms, this machine's.
    fn images(&self) -> Vec<(Option<ImageReference>, Descriptor)> {
        let mut found = Vec::new();
        for named in self.index.iter().flat_map(ImageIndex::manifests) {
            let name = name_of(named);
            match DocumentKind::of(named.media_type()) {
                Some(DocumentKind::Manifest) => found.push((name, plain(named))),
                Some(DocumentKind::Index) => {
                    let inner = self.document::<ImageIndex>(named).ok().flatten();
                    let host = Platform::host();
                    let fits = |d: &&Descriptor| {
                        let platform = d.platform().as_ref();
                        platform.is_some_and(|platform| host.accepts(&platform.into()))
                    };
                    let inner = inner.as_ref().map(|i| i.manifests().iter().find(fits));
                    found.extend(inner.flatten().map(|manifest| (name, plain(manifest))));
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
        let Some(bytes) = self.documents.get(&digest_of(blob)?) else {
            return Ok(None);
        };
        serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|error| damaged(blob.digest(), error))
    }
}

/// The descriptor without the archive's annotations.
fn plain(named: &Descriptor) -> Descriptor {
    let mut plain = named.clone();
    plain.set_annotations(None);
    plain.set_platform(None);
    plain
}

fn name_of(named: &Descriptor) -> Option<ImageReference> {
    let annotations = named.annotations().as_ref()?;
    let whole = annotations.get(IMAGE_NAME);
    let name = whole.or_else(|| annotations.get(REF_NAME))?;
    name.parse().ok()
}

fn small(content: &mut dyn Read, size: u64, path: &str) -> Result<Vec<u8>, StoreError> {
    if size > DOCUMENT {
        return Err(damaged(path, "it is larger than any such document"));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(reading)?;
    Ok(bytes)
}

fn reading(source: io::Error) -> StoreError {
    StoreError::Io {
        doing: "reading",
        path: "the archive".into(),
        source,
    }
}
