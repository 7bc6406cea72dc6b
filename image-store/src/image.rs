//! An image as the store knows it.

use dhow_image::{
    ChainId, Descriptor, DiffId, Digest, DocumentKind, ImageConfiguration, ImageManifest,
    ImageReference,
};

use crate::blobs::digest_of;
use crate::error::damaged;
use crate::tags::Tag;
use crate::{Store, StoreError};

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
    /// The manifests that its names stand for, and under which name: several can have the same config.
    pub(crate) manifests: Vec<(Option<ImageReference>, Descriptor)>,
    /// The indexes that its names stand for, and under which name; none for an image that is kept without one.
    pub(crate) indexes: Vec<(Option<ImageReference>, Descriptor)>,
}

impl Image {
    /// Reads the image with this manifest.
    pub(crate) fn read(store: &Store, descriptor: &Descriptor) -> Result<Self, StoreError> {
        if DocumentKind::of(descriptor.media_type()) != Some(DocumentKind::Manifest) {
            return Err(StoreError::Invalid(format!(
                "{} is no image manifest but {}",
                descriptor.digest(),
                descriptor.media_type()
            )));
        }
        let bytes = store.read_blob(&digest_of(descriptor)?)?;
        let manifest: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| damaged(descriptor.digest(), error))?;
        let id = digest_of(manifest.config())?;
        let bytes = store.read_blob(&id)?;
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&id, error))?;
        let diff_ids = config.rootfs().diff_ids().iter();
        let diff_ids = diff_ids
            .map(|text| text.parse())
            .collect::<Result<Vec<DiffId>, _>>()
            .map_err(|error| damaged(&id, error))?;
        if diff_ids.len() != manifest.layers().len() {
            return Err(damaged(
                &id,
                "its config and its manifest disagree on its layers",
            ));
        }
        Ok(Self {
            store: store.clone(),
            descriptor: descriptor.clone(),
            manifest,
            config,
            id,
            diff_ids,
            references: Vec::new(),
            manifests: Vec::new(),
            indexes: Vec::new(),
        })
    }

    /// Notes a reference that names it.
    pub(crate) fn named(&mut self, tag: &Tag) {
        self.references.extend(tag.reference.clone());
        self.manifests
            .push((tag.reference.clone(), tag.manifest.clone()));
        if let Some(index) = &tag.index {
            self.indexes.push((tag.reference.clone(), index.clone()));
        }
    }

    /// The manifest that one of its names stands for, or that it has without a name. It need not be the image's own where another name
    /// stands for another manifest with the same config.
    pub fn manifest_under(&self, name: Option<&ImageReference>) -> &Descriptor {
        let mut manifests = self.manifests.iter();
        let found = manifests.find(|(under, _)| under.as_ref() == name);
        found.map_or(&self.descriptor, |(_, manifest)| manifest)
    }

    /// The image as it is under each of its manifests, its own first, with the names that stand for that one.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub fn apart(&self) -> Result<Vec<Self>, StoreError> {
        let mut own = self.clone();
        own.manifests.clear();
        own.references.clear();
        own.indexes.clear();
        let mut found = vec![own];
        let nameless = self.manifests.iter().any(|(name, _)| name.is_none());
        let names = self.references.iter().map(Some);
        for name in names.chain(nameless.then_some(None)) {
            let manifest = self.manifest_under(name);
            let known = found
                .iter()
                .position(|image| image.descriptor.digest() == manifest.digest());
            let at = match known {
                Some(at) => at,
                None => {
                    found.push(Self::read(&self.store, manifest)?);
                    found.len() - 1
                }
            };
            found[at].named(&Tag {
                reference: name.cloned(),
                manifest: manifest.clone(),
                index: self.index_under(name).cloned(),
            });
        }
        Ok(found)
    }

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

    /// The bytes of each layer, lowest first, uncompressed where that is known.
    pub fn layer_sizes(&self) -> Vec<u64> {
        let mut parent = None;
        let mut sizes = Vec::new();
        for (diff_id, layer) in self.diff_ids.iter().zip(self.manifest.layers()) {
            sizes.push(match self.store.layer(diff_id, parent.as_ref()) {
                Ok(Some(record)) => record.tar_size,
                _ => layer.size(),
            });
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        sizes
    }

    /// The bytes of its layers, uncompressed where that is known.
    pub fn size(&self) -> u64 {
        self.layer_sizes().iter().sum()
    }

    /// When it was made, in RFC 3339, where the config says.
    pub fn created(&self) -> Option<&str> {
        self.config.created().as_deref()
    }
}
