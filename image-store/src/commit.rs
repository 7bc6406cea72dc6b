//! A config and layers become an image.

use dhow_image::{ChainId, Compression, Descriptor, DiffId, ImageConfiguration, ImageManifest};
use oci_spec::image::{ImageManifestBuilder, MediaType, RootFsBuilder, SCHEMA_VERSION};
use serde::Serialize;

use crate::blobs::digest_of;
use crate::error::damaged;
use crate::lease::descriptor;
use crate::{Image, Lease, Store, StoreError};

impl Lease {
    /// Makes an image of `layers`, lowest first. The config's own list of layers is replaced by them; a layer that has no
    /// compressed blob yet is named in its tar form. The image is gone with the lease unless it is tagged or kept.
    ///
    /// # Errors
    /// When a layer is missing or the documents cannot be written.
    pub fn commit_image(
        &self,
        config: &ImageConfiguration,
        layers: &[DiffId],
    ) -> Result<Image, StoreError> {
        self.settling().settle()?;
        let mut config = config.clone();
        let diff_ids: Vec<String> = layers.iter().map(ToString::to_string).collect();
        let rootfs = RootFsBuilder::default()
            .typ("layers")
            .diff_ids(diff_ids)
            .build()
            .map_err(|error| damaged("a config", error))?;
        config.set_rootfs(rootfs);
        // A layer that the build cache knew is not held yet.
        let _ = self.hold_layers(layers)?;
        let descriptors = self.store().layer_descriptors(layers)?;
        for layer in &descriptors {
            self.hold_blobs([&digest_of(layer)?])?;
        }
        let manifest = self.put_image(&document(&config)?, descriptors)?;
        Image::read(self.store(), &manifest)
    }

    /// Keeps a config, and a manifest of it and these layers.
    pub(crate) fn put_image(
        &self,
        config: &[u8],
        layers: Vec<Descriptor>,
    ) -> Result<Descriptor, StoreError> {
        let id = self.put(config)?;
        let config = descriptor(MediaType::ImageConfig, config.len() as u64, &id);
        self.put_manifest(&manifest_of(config, layers)?)
    }

    pub(crate) fn put_manifest(&self, manifest: &ImageManifest) -> Result<Descriptor, StoreError> {
        let bytes = document(manifest)?;
        let digest = self.put(&bytes)?;
        let media_type = manifest
            .media_type()
            .clone()
            .unwrap_or(MediaType::ImageManifest);
        Ok(descriptor(media_type, bytes.len() as u64, &digest))
    }
}

impl Store {
    /// How a manifest names these layers: by the blobs that are known for them, or in their tar form.
    fn layer_descriptors(&self, layers: &[DiffId]) -> Result<Vec<Descriptor>, StoreError> {
        let mut parent: Option<ChainId> = None;
        let mut descriptors = Vec::new();
        for diff_id in layers {
            let record = self.layer(diff_id, parent.as_ref())?;
            let known = match self.compressed(diff_id)? {
                Some(blob) => {
                    let digest = digest_of(&blob)?;
                    let is_known =
                        self.has_blob(&digest) || record.is_some() && self.is_dropped(&digest);
                    is_known.then_some(blob)
                }
                None => None,
            };
            descriptors.push(match (known, record) {
                (Some(blob), _) => blob,
                (None, Some(record)) => descriptor(
                    Compression::None.layer_media_type(),
                    record.tar_size,
                    &diff_id.0,
                ),
                (None, None) => {
                    return Err(damaged(
                        format!("layer {diff_id}"),
                        "it is not in the store",
                    ));
                }
            });
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        Ok(descriptors)
    }
}

/// The manifest of an image.
pub(crate) fn manifest_of(
    config: Descriptor,
    layers: Vec<Descriptor>,
) -> Result<ImageManifest, StoreError> {
    ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|error| damaged("a manifest", error))
}

/// A document's bytes: the same for the same content, so maps (labels, volumes) are put in order.
pub(crate) fn document(content: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let failed = |error| damaged("a document", error);
    let mut value = serde_json::to_value(content).map_err(failed)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(failed)
}
