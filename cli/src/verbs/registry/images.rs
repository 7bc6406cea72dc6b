//! The store's images as a registry serves them.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::{
    BlobBody, Descriptor, Digest, Document, ImageReference, ImageTree, Silent, TransferErrorKind,
};
use dhow_image_store::{Image, Lease, Store};
use dhow_registry_client::Client;
use dhow_registry_server::{Asker, Images, ImagesError};

use crate::refetching::Refetching;

/// How long an image stays that a client has asked for: as long as it may take to ask for the next of its blobs.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// The images of a store. A repository `NAME` is what `dhow run NAME` would take, or what the store has as `HOST/NAME` where a client
/// calls the registry HOST.
pub(super) struct StoreImages {
    store: Store,
    /// Fetches what the store has dropped.
    client: Client,
    /// By the digests of their manifests.
    asked: Mutex<HashMap<String, Asked>>,
}

/// An image that a client has asked for, which is not collected until it is forgotten.
struct Asked {
    /// The one that is run here, whose layers may be trees.
    image: Image,
    /// The documents of all platforms, where they are kept.
    tree: ImageTree,
    lease: Lease,
    last: Instant,
}

impl Asked {
    fn document(&self, digest: &str) -> Option<&Document> {
        let mut documents = self.tree.documents().iter();
        documents.find(|document| document.descriptor.digest().to_string() == digest)
    }

    /// The config or layer of this digest, of whichever platform.
    fn blob(&self, digest: &Digest) -> Option<&Descriptor> {
        let documents = self.tree.documents().iter();
        let mut blobs = documents.flat_map(|document| document.links.blobs());
        blobs.find(|blob| Digest::of_descriptor(blob).is_ok_and(|found| found == *digest))
    }
}

/// A blob that is there, whose image is held.
struct Found {
    image: Image,
    descriptor: Descriptor,
    lease: Lease,
}

impl StoreImages {
    /// `client` has to say that it asks for a view.
    pub(super) fn new(store: Store, client: Client) -> Self {
        Self {
            store,
            client,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a name of an image stands for: the index, where all that it names is kept, else the one image.
    fn root(&self, image: &Image, name: &ImageReference) -> Result<Descriptor, ImagesError> {
        match image.index_under(Some(name)) {
            Some(index) if self.store.is_whole(index)? => Ok(index.clone()),
            _ => Ok(image.descriptor().clone()),
        }
    }

    /// The images of a repository with what stands for them under each of their tags.
    fn of_repository(
        &self,
        names: &Names,
    ) -> Result<Vec<(Image, Descriptor, String)>, ImagesError> {
        let mut found = Vec::new();
        for image in self.store.images()? {
            if !image.references().iter().any(|name| names.has(name)) {
                continue;
            }
            // Names of one image may stand for several manifests.
            for image in image.apart()? {
                for name in image.references().iter().filter(|name| names.has(name)) {
                    let tag = name.tag().unwrap_or_default().to_owned();
                    found.push((image.clone(), self.root(&image, name)?, tag));
                }
            }
        }
        Ok(found)
    }

    /// Keeps an image from collection for a while, if it is still there.
    fn keep(&self, image: &Image, root: &Descriptor) -> Result<(), ImagesError> {
        let lease = self.store.lease()?;
        if lease.hold(image).is_err() || lease.hold_index(root).is_err() {
            return Ok(());
        }
        let asked = Asked {
            image: image.clone(),
            tree: self.store.tree(root)?,
            lease,
            last: Instant::now(),
        };
        self.asked().insert(root.digest().to_string(), asked);
        Ok(())
    }

    /// A blob of a repository, held.
    fn find_blob(&self, names: &Names, digest: &Digest) -> Result<Option<Found>, ImagesError> {
        if let Some(found) = self.held_blob(names, digest) {
            return Ok(Some(found));
        }
        for (image, root, _) in self.of_repository(names)? {
            self.keep(&image, &root)?;
        }
        Ok(self.held_blob(names, digest))
    }

    /// Opens a blob that is here, or can be made of what is here. Of another platform's image it is a file or nothing.
    fn open(
        &self,
        found: &Found,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobBody<'static>>, ImagesError> {
        if let Some(body) = found.image.open_blob(digest, offset)? {
            return Ok(Some(body));
        }
        match self.store.open_blob(&found.descriptor, offset) {
            Err(error) if error.kind() == TransferErrorKind::NotFound => Ok(None),
            opened => Ok(opened.map(Some)?),
        }
    }

    /// Whether a blob that is not here is to be fetched for who asks.
    fn is_elsewhere(&self, asker: &Asker, digest: &Digest) -> bool {
        !asker.is_view && !self.store.locations().places(digest).is_empty()
    }

    /// Has a blob that was dropped come back; whether it did. No registry's having it any more is an answer, too.
    fn fetch(&self, found: &Found) -> Result<bool, ImagesError> {
        let refetching = Refetching {
            lease: &found.lease,
            client: &self.client,
            progress: &Silent,
        };
        match refetching.fetch(&found.descriptor) {
            Err(error) if error.kind() == TransferErrorKind::NotFound => Ok(false),
            fetched => Ok(fetched.map(|()| true)?),
        }
    }

    fn held_blob(&self, names: &Names, digest: &Digest) -> Option<Found> {
        let mut asked = self.asked();
        asked.values_mut().find_map(|asked| {
            let descriptor = asked.blob(digest)?.clone();
            let fits = asked.image.references().iter().any(|name| names.has(name));
            fits.then(|| {
                asked.last = Instant::now();
                Found {
                    image: asked.image.clone(),
                    descriptor,
                    lease: asked.lease.clone(),
                }
            })
        })
    }
}

impl Images for StoreImages {
    fn repositories(&self, asker: &Asker) -> Result<Vec<String>, ImagesError> {
        let mut names = BTreeSet::new();
        for image in self.store.images()? {
            for name in image.references() {
                if name.registry() == asker.host {
                    names.insert(name.repository().to_owned());
                }
                let familiar = name.familiar_name();
                // A registry with a port cannot be part of a repository's name.
                if !familiar.contains(':') {
                    names.insert(familiar);
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn tags(&self, asker: &Asker, repository: &str) -> Result<Vec<String>, ImagesError> {
        let images = self.of_repository(&Names::new(asker, repository))?;
        let tags = images.into_iter().map(|(_, _, tag)| tag);
        let tags: BTreeSet<String> = tags.filter(|tag| !tag.is_empty()).collect();
        Ok(tags.into_iter().collect())
    }

    fn manifest(
        &self,
        asker: &Asker,
        repository: &str,
        name: &str,
    ) -> Result<Option<(String, Vec<u8>)>, ImagesError> {
        let is_digest = name.contains(':');
        for (image, root, tag) in self.of_repository(&Names::new(asker, repository))? {
            if !is_digest && tag != name {
                continue;
            }
            self.keep(&image, &root)?;
            let root = root.digest().to_string();
            let asked = self.asked();
            let wanted = if is_digest { name } else { root.as_str() };
            if let Some(asked) = asked.get(&root)
                && let Some(document) = asked.document(wanted)
            {
                let media_type = document.descriptor.media_type().to_string();
                return Ok(Some((media_type, document.bytes.clone())));
            }
        }
        Ok(None)
    }

    fn blob_size(
        &self,
        asker: &Asker,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, ImagesError> {
        let Some(found) = self.find_blob(&Names::new(asker, repository), digest)? else {
            return Ok(None);
        };
        if let Some(size) = found.image.blob_size(digest)? {
            return Ok(Some(size));
        }
        let is_to_be_had =
            self.is_elsewhere(asker, digest) || self.open(&found, digest, 0)?.is_some();
        Ok(is_to_be_had.then(|| found.descriptor.size()))
    }

    fn blob(
        &self,
        asker: &Asker,
        repository: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobBody<'static>>, ImagesError> {
        let Some(found) = self.find_blob(&Names::new(asker, repository), digest)? else {
            return Ok(None);
        };
        let body = match self.open(&found, digest, offset)? {
            None if self.is_elsewhere(asker, digest) && self.fetch(&found)? => {
                self.open(&found, digest, offset)?
            }
            body => body,
        };
        Ok(body.map(|body| BlobBody {
            offset: body.offset,
            reader: Box::new(Held {
                reader: body.reader,
                _lease: found.lease,
            }),
        }))
    }

    fn tend(&self) {
        self.asked().retain(|_, asked| asked.last.elapsed() < KEPT);
    }
}

/// What a repository can be in the store.
struct Names(Vec<ImageReference>);

impl Names {
    fn new(asker: &Asker, repository: &str) -> Self {
        let own = format!("{}/{repository}", asker.host).parse();
        let named = repository.parse();
        Self([own, named].into_iter().flatten().collect())
    }

    fn has(&self, reference: &ImageReference) -> bool {
        self.0.iter().any(|name| {
            name.registry() == reference.registry() && name.repository() == reference.repository()
        })
    }
}

/// A blob that is being read, whose image stays meanwhile.
struct Held {
    reader: Box<dyn Read + Send>,
    _lease: Lease,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
