//! The store's images as a registry serves them.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::{BlobBody, Digest, ImageReference};
use dhow_image_store::{Image, Lease, Store};
use dhow_registry_server::{Images, ImagesError};

/// How long an image stays that a client has asked for: as long as it may take to ask for the next of its blobs.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// The images of a store. A repository `NAME` is what `dhow run NAME` would take, or what the store has as `HOST/NAME` where a client
/// calls the registry HOST.
pub(super) struct StoreImages {
    store: Store,
    /// By the digests of their manifests.
    asked: Mutex<HashMap<String, Asked>>,
}

/// An image that a client has asked for, which is not collected until it is forgotten.
struct Asked {
    image: Image,
    lease: Lease,
    last: Instant,
}

impl StoreImages {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an image from collection for a while; whether it was still there.
    fn keep(&self, image: &Image) -> Result<bool, ImagesError> {
        let lease = self.store.lease()?;
        if lease.hold(image).is_err() {
            return Ok(false);
        }
        let asked = Asked {
            image: image.clone(),
            lease,
            last: Instant::now(),
        };
        let digest = image.descriptor().digest().to_string();
        self.asked().insert(digest, asked);
        Ok(true)
    }

    /// The images of a repository.
    fn of_repository(&self, names: &Names) -> Result<Vec<Image>, ImagesError> {
        let mut images = self.store.images()?;
        images.retain(|image| image.references().iter().any(|name| names.has(name)));
        Ok(images)
    }

    /// The image of a repository that has this blob, held.
    fn with_blob(
        &self,
        names: &Names,
        digest: &Digest,
    ) -> Result<Option<(Image, Lease)>, ImagesError> {
        if let Some(found) = self.held_with_blob(names, digest) {
            return Ok(Some(found));
        }
        for image in self.of_repository(names)? {
            if has_blob(&image, digest) {
                self.keep(&image)?;
            }
        }
        Ok(self.held_with_blob(names, digest))
    }

    fn held_with_blob(&self, names: &Names, digest: &Digest) -> Option<(Image, Lease)> {
        let mut asked = self.asked();
        let fitting = asked.values_mut().find(|asked| {
            has_blob(&asked.image, digest)
                && asked.image.references().iter().any(|name| names.has(name))
        })?;
        fitting.last = Instant::now();
        Some((fitting.image.clone(), fitting.lease.clone()))
    }
}

impl Images for StoreImages {
    fn repositories(&self, host: &str) -> Result<Vec<String>, ImagesError> {
        let mut names = BTreeSet::new();
        for image in self.store.images()? {
            for name in image.references() {
                if name.registry() == host {
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

    fn tags(&self, host: &str, repository: &str) -> Result<Vec<String>, ImagesError> {
        let names = Names::new(host, repository);
        let mut tags = BTreeSet::new();
        for image in self.of_repository(&names)? {
            let fitting = image.references().iter().filter(|name| names.has(name));
            tags.extend(fitting.filter_map(|name| name.tag().map(str::to_owned)));
        }
        Ok(tags.into_iter().collect())
    }

    fn manifest(
        &self,
        host: &str,
        repository: &str,
        name: &str,
    ) -> Result<Option<(String, Vec<u8>)>, ImagesError> {
        let names = Names::new(host, repository);
        let fits = |image: &Image| {
            image.descriptor().digest().to_string() == name
                || image
                    .references()
                    .iter()
                    .any(|reference| names.has(reference) && reference.tag() == Some(name))
        };
        let Some(image) = self.of_repository(&names)?.into_iter().find(fits) else {
            return Ok(None);
        };
        if !self.keep(&image)? {
            return Ok(None);
        }
        let media_type = image.descriptor().media_type().to_string();
        Ok(Some((media_type, image.manifest_bytes()?)))
    }

    fn blob_size(
        &self,
        host: &str,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, ImagesError> {
        match self.with_blob(&Names::new(host, repository), digest)? {
            Some((image, _lease)) => Ok(image.blob_size(digest)?),
            None => Ok(None),
        }
    }

    fn blob(
        &self,
        host: &str,
        repository: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobBody<'static>>, ImagesError> {
        let Some((image, lease)) = self.with_blob(&Names::new(host, repository), digest)? else {
            return Ok(None);
        };
        let body = image.open_blob(digest, offset)?;
        Ok(body.map(|body| BlobBody {
            offset: body.offset,
            reader: Box::new(Held {
                reader: body.reader,
                _lease: lease,
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
    fn new(host: &str, repository: &str) -> Self {
        let own = format!("{host}/{repository}").parse();
        let named = repository.parse();
        Self([own, named].into_iter().flatten().collect())
    }

    fn has(&self, reference: &ImageReference) -> bool {
        self.0.iter().any(|name| {
            name.registry() == reference.registry() && name.repository() == reference.repository()
        })
    }
}

fn has_blob(image: &Image, digest: &Digest) -> bool {
    let blobs = image.manifest().layers().iter();
    let mut blobs = blobs.chain([image.manifest().config()]);
    blobs.any(|blob| Digest::of_descriptor(blob).is_ok_and(|found| found == *digest))
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
