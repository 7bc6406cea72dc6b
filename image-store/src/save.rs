//! Images into one file: the OCI image layout in a tar (image-spec, image-layout.md), which Docker reads too.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};

use dhow_image::{
    BlobSource as _, Descriptor, Digest, ImageReference, ImageTree, Progress, Reported, Silent,
};
use oci_spec::image::{ImageIndexBuilder, MediaType, SCHEMA_VERSION};
use serde_json::json;

use crate::blobs::digest_of;
use crate::commit::document;
use crate::error::damaged;
use crate::index::plain;
use crate::{Image, Store, StoreError};

/// The annotation for the name, of the image specification.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation for the whole name, of containerd and Docker.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// The forms of archives of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveForm {
    /// The OCI image layout, with a `manifest.json` for Docker beside it; layers as they are, compressed or not.
    #[default]
    Oci,
    /// Docker's own, for what reads nothing else; layers are not compressed.
    Docker,
}

impl Store {
    /// Writes images with their references into an archive of this form.
    ///
    /// # Errors
    /// When a blob cannot be read or `out` not be written.
    pub fn save(
        &self,
        images: &[Image],
        form: ArchiveForm,
        out: impl Write,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        match form {
            ArchiveForm::Oci => self.save_oci(images, out, progress),
            ArchiveForm::Docker => self.save_docker(images, out, progress),
        }
    }

    /// A layer that has no blob is written in its tar form.
    fn save_oci(
        &self,
        images: &[Image],
        out: impl Write,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let lease = self.lease()?;
        let mut trees = Vec::new();
        for image in images {
            lease.hold(image)?;
            for (_, index) in &image.indexes {
                lease.hold_index(index)?;
                trees.push(self.tree(index)?);
            }
        }
        let mut tar = tar::Builder::new(out);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "index.json", &index(images)?)?;
        append(&mut tar, "manifest.json", &docker_manifest(images)?)?;
        let mut written = HashSet::new();
        // Documents first, so that who reads the archive as a stream knows what the layers are.
        for image in images {
            for blob in [&image.descriptor, image.manifest.config()] {
                self.append_blob(&mut tar, blob, &mut written, &Silent)?;
            }
        }
        for document in trees.iter().flat_map(ImageTree::documents) {
            self.append_blob(&mut tar, &document.descriptor, &mut written, &Silent)?;
        }
        let layers = images.iter().flat_map(|image| image.manifest.layers());
        for layer in layers.chain(trees.iter().flat_map(ImageTree::blobs)) {
            self.append_blob(&mut tar, layer, &mut written, progress)?;
        }
        let mut out = tar.into_inner().map_err(writing)?;
        out.flush().map_err(writing)
    }

    fn append_blob<W: Write>(
        &self,
        tar: &mut tar::Builder<W>,
        blob: &Descriptor,
        written: &mut HashSet<Digest>,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let digest = digest_of(blob)?;
        if !written.insert(digest.clone()) {
            return Ok(());
        }
        let body = self
            .open(blob, 0)
            .map_err(|error| damaged(&digest, error))?;
        let name = blob_path(&digest);
        append_whole(tar, &name, &digest, blob.size(), body.reader, progress)
    }
}

/// Appends a file of exactly `size` bytes: the reader must give what the header promises, or all that follows is garbage.
pub(crate) fn append_whole<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    digest: &Digest,
    size: u64,
    content: impl Read,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let part = digest.short();
    progress.begin(part, "saving", Some(size));
    let mut header = header(size);
    let mut content = Reported::new(content, part, progress).take(size);
    tar.append_data(&mut header, name, &mut content)
        .map_err(writing)?;
    if content.limit() > 0 {
        return Err(damaged(digest, "it is shorter than it should be"));
    }
    // Only at the end is it known whether what was packed is what it should be.
    match content.into_inner().read(&mut [0]) {
        Ok(0) => {
            progress.end(part, "saved");
            Ok(())
        }
        Ok(_) => Err(damaged(digest, "it is longer than it should be")),
        Err(error) => Err(damaged(digest, error)),
    }
}

fn index(images: &[Image]) -> Result<Vec<u8>, StoreError> {
    let mut manifests = Vec::new();
    for image in images {
        if image.references.is_empty() {
            let index = image.index_under(None);
            manifests.push(plain(index.unwrap_or(&image.descriptor)));
        }
        for reference in &image.references {
            let index = image.index_under(Some(reference));
            let mut named = plain(index.unwrap_or(&image.descriptor));
            let tag = reference.tag().unwrap_or("latest").to_owned();
            let annotations = [(REF_NAME, tag), (IMAGE_NAME, reference.to_string())];
            let annotations = annotations.map(|(key, value)| (key.to_owned(), value));
            named.set_annotations(Some(annotations.into_iter().collect()));
            manifests.push(named);
        }
    }
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(|error| damaged("an index", error))?;
    document(&index)
}

/// What `docker load` looks for where it does not know the OCI layout.
fn docker_manifest(images: &[Image]) -> Result<Vec<u8>, StoreError> {
    list(images, blob_path, |image| {
        let layers = image.manifest.layers().iter();
        layers
            .map(|layer| Ok(blob_path(&digest_of(layer)?)))
            .collect()
    })
}

/// The content of a `manifest.json`, given how configs and layers are called.
pub(crate) fn list(
    images: &[Image],
    config: impl Fn(&Digest) -> String,
    layers: impl Fn(&Image) -> Result<Vec<String>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let mut names: BTreeMap<&Digest, Vec<String>> = BTreeMap::new();
    for image in images {
        let own = names.entry(&image.id).or_default();
        own.extend(image.references.iter().map(ImageReference::familiar));
    }
    let mut entries = Vec::new();
    for image in images {
        let Some(names) = names.remove(&image.id) else {
            continue;
        };
        let layers = layers(image)?;
        entries.push(json!({ "Config": config(&image.id), "RepoTags": names, "Layers": layers }));
    }
    document(&entries)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

pub(crate) fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
) -> Result<(), StoreError> {
    let mut header = header(content.len() as u64);
    tar.append_data(&mut header, name, content).map_err(writing)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

pub(crate) fn writing(source: io::Error) -> StoreError {
    StoreError::Io {
        doing: "writing",
        path: "the archive".into(),
        source,
    }
}
