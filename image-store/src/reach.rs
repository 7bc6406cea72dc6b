//! What documents reach: the one walk over names, indexes and manifests, for who marks, who drops and whoever asks what belongs to what.

use std::collections::HashSet;

use dhow_image::{ChainId, DiffId, Digest, ImageConfiguration, Links};

use crate::blobs::{DOCUMENT, digest_of};
use crate::layers::LayerRecord;
use crate::store::{names, read};
use crate::{Store, StoreError};

/// A walk that looks at each document once, however often it is come by.
pub(crate) struct Walk<'a> {
    store: &'a Store,
    seen: HashSet<Digest>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            seen: HashSet::new(),
        }
    }

    /// Tells `visit` of a document and of all below it that were not seen yet, with what each names: nothing, where it is not here or is
    /// no document.
    pub(crate) fn from(
        &mut self,
        document: Digest,
        visit: &mut impl FnMut(&Digest, Option<&Links>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut next = vec![document];
        while let Some(document) = next.pop() {
            if !self.seen.insert(document.clone()) {
                continue;
            }
            let links = self.store.links(&document)?;
            visit(&document, links.as_ref())?;
            let below = links.iter().flat_map(|links| &links.manifests);
            next.extend(below.filter_map(|named| digest_of(named).ok()));
        }
        Ok(())
    }
}

impl Store {
    /// The documents that names and containers stand for.
    pub(crate) fn roots(&self) -> Result<Vec<Digest>, StoreError> {
        let mut roots = Vec::new();
        for (_, tag) in self.every_tag()? {
            // What one that cannot be read keeps is not known, so nothing may go.
            let tag = tag?;
            for document in [Some(&tag.manifest), tag.index.as_ref()] {
                roots.extend(document.map(digest_of).transpose()?);
            }
        }
        for owner in names(&self.path("containers"))? {
            roots.extend(self.uses(&owner)?.map(|uses| uses.manifest));
        }
        Ok(roots)
    }

    /// What a document names.
    fn links(&self, document: &Digest) -> Result<Option<Links>, StoreError> {
        let bytes = self.read_document(document)?;
        Ok(bytes.and_then(|bytes| Links::guess(&bytes)))
    }

    /// The bytes of a document; none where it is not here, or is no document.
    fn read_document(&self, document: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let size = self.blob_size(document)?;
        // What is larger is no document, whatever names it so.
        if size.is_none_or(|size| size > DOCUMENT) {
            return Ok(None);
        }
        read(&self.blob_path(document))
    }

    /// The layers of a manifest as its config has them, lowest first, with their trees' records; none where it is no image's or its config
    /// is not here.
    pub(crate) fn layers_of(
        &self,
        links: &Links,
    ) -> Result<Vec<(DiffId, Option<LayerRecord>)>, StoreError> {
        let mut layers = Vec::new();
        let Some(config) = &links.config else {
            return Ok(layers);
        };
        let bytes = self.read_document(&digest_of(config)?)?;
        let bytes = bytes.unwrap_or_default();
        let Ok(config) = serde_json::from_slice::<ImageConfiguration>(&bytes) else {
            return Ok(layers);
        };
        let mut parent: Option<ChainId> = None;
        for text in config.rootfs().diff_ids() {
            let Ok(diff_id) = text.parse::<DiffId>() else {
                break;
            };
            let record = self.layer(&diff_id, parent.as_ref())?;
            parent = Some(ChainId::above(parent.as_ref(), &diff_id));
            layers.push((diff_id, record));
        }
        Ok(layers)
    }
}
