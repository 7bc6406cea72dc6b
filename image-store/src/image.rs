//! An image as the store knows it.

#![allow(clippy::todo)]

use dhow_image::{Descriptor, DiffId, Digest, ImageConfiguration, ImageManifest, ImageReference};

use crate::Store;

/// One image: its manifest, its config, and the references that name it.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) store: Store,
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: ImageManifest,
    pub(crate) config: ImageConfiguration,
    pub(crate) id: Digest,
    pub(crate) diff_ids: Vec<DiffId>,
    pub(crate) references: Vec<ImageReference>,
}

impl Image {
    /// The descriptor of the manifest.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The manifest.
    pub fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The config.
    pub fn config(&self) -> &ImageConfiguration {
        &self.config
    }

    /// The image's id: the digest of its config.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Its layers, lowest first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// The references that name it. An image that was found by a reference knows only that one.
    pub fn references(&self) -> &[ImageReference] {
        &self.references
    }

    /// The bytes of its layers, uncompressed where that is known.
    pub fn size(&self) -> u64 {
        let _ = &self.store;
        todo!()
    }

    /// When it was made, in RFC 3339, where the config says.
    pub fn created(&self) -> Option<&str> {
        self.config.created().as_deref()
    }
}
