//! What a manifest or an index stands for: the documents below it and the blobs that they name.

use std::collections::HashSet;
use std::io::Read as _;

use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;

use crate::{
    BlobSource, CheckedReader, Digest, DocumentKind, TransferError, TransferErrorKind,
    is_nondistributable,
};

/// The largest document that is taken: distribution-spec wants at least 4 MB.
const LARGEST: u64 = 4 << 20;
/// All documents of one image together are not larger; they are held in memory.
const ALL_TOGETHER: u64 = 24 << 20;
/// So many documents are taken of one image.
const MOST: usize = 2000;
/// So deep can indexes lie in each other.
const DEEPEST: usize = 8;

/// What a document names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Links {
    /// The manifests and indexes of an index.
    pub manifests: Vec<Descriptor>,
    /// The config of a manifest.
    pub config: Option<Descriptor>,
    /// The layers of a manifest, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Links {
    /// Reads a document of whatever kind; none where it is none.
    pub fn guess(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Reads a document of the kind that its media type announces.
    ///
    /// # Errors
    /// When it is another kind of document, or could be taken for one, so that others would see another image in it.
    pub fn read(media_type: &MediaType, bytes: &[u8]) -> Result<Self, TransferError> {
        let corrupt = |text: &str| {
            let message = format!("a document of the type {media_type} {text}");
            TransferError::new(TransferErrorKind::Corrupt, message)
        };
        let links = serde_json::from_slice::<Self>(bytes)
            .map_err(|error| corrupt(&format!("cannot be read: {error}")))?;
        let is_index = !links.manifests.is_empty();
        let is_manifest = links.config.is_some() || !links.layers.is_empty();
        match DocumentKind::of(media_type) {
            Some(DocumentKind::Index) if is_manifest => {
                Err(corrupt("has a config or layers, as only a manifest has"))
            }
            Some(DocumentKind::Manifest) if is_index => {
                Err(corrupt("has manifests, as only an index has"))
            }
            Some(_) => Ok(links),
            None => Err(corrupt("is neither a manifest nor an index")),
        }
    }

    /// The layers and the config.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().chain(&self.config)
    }
}

/// A manifest or an index, with its bytes.
#[derive(Clone, Debug)]
pub struct Document {
    /// Names it.
    pub descriptor: Descriptor,
    /// Its bytes, which fit the descriptor.
    pub bytes: Vec<u8>,
    /// What it names.
    pub links: Links,
}

/// An image with all that belongs to it, for one platform or for many.
#[derive(Clone, Debug)]
pub struct ImageTree {
    documents: Vec<Document>,
}

impl ImageTree {
    /// Reads the documents from `root` on down.
    ///
    /// # Errors
    /// When one is missing, is not what its digest says, or cannot be understood; when there are more than any image has.
    pub fn read(source: &dyn BlobSource, root: &Descriptor) -> Result<Self, TransferError> {
        let bytes = read_document(source, root)?;
        Self::below(source, root, bytes)
    }

    /// The same where the root's bytes are known, and checked.
    ///
    /// # Errors
    /// As [`ImageTree::read`].
    pub fn below(
        source: &dyn BlobSource,
        root: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<Self, TransferError> {
        let mut reading = Reading {
            source,
            seen: HashSet::new(),
            room: ALL_TOGETHER,
            documents: Vec::new(),
        };
        reading.take(root, bytes, 0)?;
        Ok(Self {
            documents: reading.documents,
        })
    }

    /// The documents, each once and after those that it names; the root last.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The layers and configs, each once, in the order of the documents. Layers that are not to be distributed are left out.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = HashSet::new();
        let all = self
            .documents
            .iter()
            .flat_map(|document| document.links.blobs());
        all.filter(|blob| !is_nondistributable(blob.media_type()))
            .filter(|blob| seen.insert(blob.digest()))
            .collect()
    }
}

struct Reading<'a> {
    source: &'a dyn BlobSource,
    seen: HashSet<String>,
    room: u64,
    documents: Vec<Document>,
}

impl Reading<'_> {
    fn take(
        &mut self,
        descriptor: &Descriptor,
        bytes: Vec<u8>,
        depth: usize,
    ) -> Result<(), TransferError> {
        let too_much = |what: String| Err(TransferError::new(TransferErrorKind::Corrupt, what));
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
            return too_much(format!(
                "the image's documents take more than {ALL_TOGETHER} bytes"
            ));
        };
        self.room = room;
        if self.documents.len() == MOST || depth > DEEPEST {
            return too_much(format!(
                "the image has more than {MOST} documents, or more than {DEEPEST} in each other"
            ));
        }
        let links = Links::read(descriptor.media_type(), &bytes)?;
        for child in &links.manifests {
            if DocumentKind::of(child.media_type()).is_none() {
                return Err(TransferError::new(
                    TransferErrorKind::Other,
                    format!(
                        "the index {} names {} of the type {}, which is neither a manifest nor an index; dhow does not know how to move it",
                        descriptor.digest(),
                        child.digest(),
                        child.media_type()
                    ),
                ));
            }
            if self.seen.insert(child.digest().to_string()) {
                let bytes = read_document(self.source, child)?;
                self.take(child, bytes, depth + 1)?;
            }
        }
        self.documents.push(Document {
            descriptor: descriptor.clone(),
            bytes,
            links,
        });
        Ok(())
    }
}

/// Reads a manifest, an index or a config, checked.
///
/// # Errors
/// When it is missing, larger than any, or not what its digest says.
pub fn read_document(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, TransferError> {
    let corrupt = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("reading {}", descriptor.digest());
        TransferError::caused(TransferErrorKind::Corrupt, message, error)
    };
    Digest::of_descriptor(descriptor).map_err(|error| corrupt(error.into()))?;
    if descriptor.size() > LARGEST {
        let reason = format!("{} bytes are too large for a document", descriptor.size());
        return Err(corrupt(reason.into()));
    }
    let body = source.open(descriptor, 0)?;
    let mut bytes = Vec::new();
    CheckedReader::new(body.reader, descriptor)
        .map_err(|error| corrupt(error.into()))?
        .read_to_end(&mut bytes)
        .map_err(|error| corrupt(error.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Cursor;

    use super::*;
    use crate::BlobBody;

    #[derive(Default)]
    struct Memory(HashMap<String, Vec<u8>>);

    impl Memory {
        fn put(&mut self, media_type: &str, text: &str) -> Descriptor {
            let digest = Digest::of(text.as_bytes());
            self.0.insert(digest.to_string(), text.into());
            Descriptor::new(MediaType::from(media_type), text.len() as u64, digest)
        }
    }

    impl BlobSource for Memory {
        fn open(&self, descriptor: &Descriptor, _: u64) -> Result<BlobBody<'_>, TransferError> {
            let missing = || TransferError::new(TransferErrorKind::NotFound, "missing");
            let bytes = self
                .0
                .get(descriptor.digest().as_ref())
                .ok_or_else(missing)?;
            Ok(BlobBody {
                reader: Box::new(Cursor::new(bytes)),
                offset: 0,
            })
        }
    }

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn json(descriptor: &Descriptor) -> String {
        serde_json::to_string(descriptor).unwrap()
    }

    #[test]
    fn children_come_before_who_names_them_and_blobs_once() {
        let mut memory = Memory::default();
        let config = memory.put("application/vnd.oci.image.config.v1+json", "{}");
        let layer = memory.put("application/vnd.oci.image.layer.v1.tar", "layer");
        let foreign = memory.put(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "far",
        );
        let (c, l, f) = (json(&config), json(&layer), json(&foreign));
        let one = memory.put(MANIFEST, &format!(r#"{{"config":{c},"layers":[{l},{f}]}}"#));
        let two = memory.put(MANIFEST, &format!(r#"{{"config":{c},"layers":[{l},{l}]}}"#));
        let (a, b) = (json(&one), json(&two));
        let inner = memory.put(INDEX, &format!(r#"{{"manifests":[{b}]}}"#));
        let i = json(&inner);
        let root = memory.put(INDEX, &format!(r#"{{"manifests":[{a},{i},{b}]}}"#));
        let tree = ImageTree::read(&memory, &root).unwrap();
        let order: Vec<_> = tree
            .documents()
            .iter()
            .map(|d| d.descriptor.digest())
            .collect();
        assert_eq!(order, [&one, &two, &inner, &root].map(Descriptor::digest));
        assert_eq!(tree.blobs(), [&layer, &config]);
    }

    #[test]
    fn what_could_be_two_kinds_of_document_is_none() {
        let media_type = MediaType::from(INDEX);
        let both = br#"{"manifests":[],"layers":[{"mediaType":"a/b","size":0,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#;
        assert!(Links::read(&media_type, both).is_err());
        assert!(Links::read(&MediaType::from(MANIFEST), both).is_ok());
        assert!(Links::read(&MediaType::from("text/plain"), b"{}").is_err());
        assert!(Links::read(&media_type, b"[").is_err());
    }

    #[test]
    fn a_document_that_is_damaged_or_missing_ends_it() {
        let mut memory = Memory::default();
        let gone = Descriptor::new(MediaType::from(MANIFEST), 2u64, Digest::of(b"{}"));
        let root = memory.put(INDEX, &format!(r#"{{"manifests":[{}]}}"#, json(&gone)));
        let error = ImageTree::read(&memory, &root).unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::NotFound);
        memory.0.insert(gone.digest().to_string(), b"[]".to_vec());
        let error = ImageTree::read(&memory, &root).unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Corrupt);
    }

    #[test]
    fn indexes_without_end_are_refused() {
        let mut memory = Memory::default();
        let mut last = memory.put(INDEX, r#"{"manifests":[]}"#);
        for _ in 0..=DEEPEST {
            last = memory.put(INDEX, &format!(r#"{{"manifests":[{}]}}"#, json(&last)));
        }
        assert!(ImageTree::read(&memory, &last).is_err());
    }
}
