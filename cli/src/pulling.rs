//! Images from their registry into the store: what it lacks of them comes, and they are named.

use dhow_image::{
    BlobLocations as _, Descriptor, Digest, DocumentKind, ImageReference, Progress, TransferError,
    TransferErrorKind,
};
use dhow_image_store::{Image, Lease, Store, StoreError};
use dhow_registry_client::{Client, Pulled, Resolved, Wanted};

/// How images are pulled.
pub(crate) struct Pulling<'a> {
    /// Asks the registries.
    pub(crate) client: &'a Client,
    /// Keeps what comes.
    pub(crate) lease: &'a Lease,
    /// What of an image for several platforms is to come; of any other image all does.
    pub(crate) wanted: Wanted<'a>,
    /// Draws what comes.
    pub(crate) progress: &'a dyn Progress,
}

/// An image that was asked for at its registry.
pub(crate) struct Arrived {
    /// The image, which the reference names now.
    pub(crate) image: Image,
    /// The digest of what the reference stands for in the registry.
    pub(crate) digest: String,
    /// What was done; nothing when the store had just this image under this name.
    pub(crate) pulled: Option<Pulled>,
}

/// What is tagged when it has come.
enum Root<'a> {
    /// The index, with the images for all platforms.
    Index,
    /// The image for the platform; with an index that the name goes on to stand for.
    Image(Option<&'a Descriptor>),
}

impl Pulling<'_> {
    /// Pulls the first of these names that is to be had.
    pub(crate) fn first(
        &self,
        names: &[ImageReference],
    ) -> anyhow::Result<(ImageReference, Arrived)> {
        let mut failures = Vec::new();
        for name in names {
            match self.pull(name) {
                Ok(arrived) => return Ok((name.clone(), arrived)),
                Err(error) => failures.push((name, error)),
            }
        }
        if failures.len() == 1 {
            return Err(failures.remove(0).1);
        }
        let each: Vec<String> = failures
            .iter()
            .map(|(name, error)| format!("{name}: {error:#}"))
            .collect();
        anyhow::bail!(
            "it is in none of the registries that are searched for a short name: {}",
            each.join("; ")
        )
    }

    /// Pulls what the store lacks of an image, and names it.
    fn pull(&self, name: &ImageReference) -> anyhow::Result<Arrived> {
        let resolved = self.client.resolve(name)?;
        let is_index =
            DocumentKind::of(resolved.descriptor.media_type()) == Some(DocumentKind::Index);
        match is_index && self.wanted.all_platforms {
            true => self.index(name, &resolved),
            false => self.image(name, &resolved),
        }
    }

    /// The images for all platforms that an index names.
    fn index(&self, name: &ImageReference, resolved: &Resolved) -> anyhow::Result<Arrived> {
        let store = self.lease.store();
        let index = &resolved.descriptor;
        if let Ok(Some(image)) = store.image(name)
            && image.index() == Some(index)
            && store.is_whole(index)?
            && store.lack(&image)?.is_none()
        {
            return Ok(unchanged(image, resolved));
        }
        self.fetch(name, resolved, &Root::Index)
    }

    /// The image for the platform alone.
    fn image(&self, name: &ImageReference, resolved: &Resolved) -> anyhow::Result<Arrived> {
        let store = self.lease.store();
        let chosen = resolved.manifest(self.wanted.platform, name)?;
        let named = store.named(name)?;
        let named = named.filter(|(manifest, _)| manifest.digest() == chosen.digest());
        let mut index = None;
        if let Some((_, kept)) = named {
            let lack = match whole(store, name, kept.as_ref())? {
                Ok(image) => return Ok(unchanged(image, resolved)),
                Err(lack) => lack,
            };
            let familiar = name.familiar();
            self.progress.note(&format!(
                "{familiar} is not whole here ({lack}); repairing it"
            ));
            // What is only mended keeps the other platforms that the name stands for.
            if let Some(kept) = kept {
                match self.mended(name, &kept, resolved)? {
                    Some(arrived) => return Ok(arrived),
                    None => index = store.tree(&kept).is_ok().then_some(kept),
                }
            }
        }
        self.fetch(name, resolved, &Root::Image(index.as_ref()))
    }

    /// Fetches what the store lacks of an index that the name stands for here, with all that it names; none where it lacks nothing but
    /// of the image that is run, or the registry has not all of that index any more.
    fn mended(
        &self,
        name: &ImageReference,
        index: &Descriptor,
        resolved: &Resolved,
    ) -> anyhow::Result<Option<Arrived>> {
        if self.lease.store().is_whole(index)? {
            return Ok(None);
        }
        let fetched = match resolved.descriptor.digest() == index.digest() {
            true => self.fetch(name, resolved, &Root::Index),
            false => self.older(name, index),
        };
        match fetched {
            Ok(arrived) => Ok(Some(Arrived {
                digest: resolved.descriptor.digest().to_string(),
                ..arrived
            })),
            // The image that is run here may be had all the same.
            Err(error) if is_not_found(&error) => {
                self.progress.note(&format!(
                    "warning: the registry does not have all of {} any more, so that the other platforms of {} may not be had again: {error:#}",
                    index.digest(),
                    name.familiar()
                ));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches an index that the name stands for here, and no more at the registry.
    fn older(&self, name: &ImageReference, index: &Descriptor) -> anyhow::Result<Arrived> {
        let own = name.at_digest(Digest::of_descriptor(index)?);
        self.fetch(name, &self.client.resolve(&own)?, &Root::Index)
    }

    /// Fetches what the store lacks, and names it.
    fn fetch(
        &self,
        name: &ImageReference,
        resolved: &Resolved,
        root: &Root<'_>,
    ) -> anyhow::Result<Arrived> {
        let store = self.lease.store();
        let wanted = Wanted {
            platform: self.wanted.platform,
            all_platforms: matches!(root, Root::Index),
        };
        let (client, lease) = (self.client, self.lease);
        let pulled = client.pull_resolved(name, resolved, &wanted, lease, self.progress)?;
        let image = match root {
            Root::Index => store.tag_root(name, &resolved.descriptor, wanted.platform)?,
            Root::Image(index) => {
                store.tag_whole(name, &pulled.manifest, *index)?;
                store.image(name)?.ok_or_else(|| {
                    anyhow::anyhow!(
                        "{} was removed while it was pulled; pull it again",
                        name.familiar()
                    )
                })?
            }
        };
        note_places(client, store, name, &pulled.blobs)?;
        Ok(Arrived {
            image,
            digest: resolved.descriptor.digest().to_string(),
            pulled: Some(pulled),
        })
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<TransferError>();
    error.is_some_and(|error| error.kind() == TransferErrorKind::NotFound)
}

fn unchanged(image: Image, resolved: &Resolved) -> Arrived {
    Arrived {
        image,
        digest: resolved.descriptor.digest().to_string(),
        pulled: None,
    }
}

/// The image under this name if nothing of it and of its index is missing or plainly damaged; else what is, in words.
fn whole(
    store: &Store,
    reference: &ImageReference,
    index: Option<&Descriptor>,
) -> anyhow::Result<Result<Image, String>> {
    let image = match store.image(reference) {
        Ok(Some(image)) => image,
        Ok(None) => return Ok(Err("it was removed just now".to_owned())),
        Err(StoreError::Damaged { what, reason }) => return Ok(Err(format!("{what}: {reason}"))),
        Err(error) => return Err(error.into()),
    };
    if let Some(lack) = store.lack(&image)? {
        return Ok(Err(lack));
    }
    match index {
        Some(index) if !store.is_whole(index)? => {
            Ok(Err("a part of another platform is missing".to_owned()))
        }
        _ => Ok(Ok(image)),
    }
}

/// Notes that the registry has these blobs, which it gave or whose manifest it gave, unless it is a view of a store: that may rely on
/// this store for them, and is no reason to drop them here.
pub(crate) fn note_places(
    client: &Client,
    store: &Store,
    reference: &ImageReference,
    blobs: &[Digest],
) -> anyhow::Result<()> {
    if client.is_keeper(reference)? {
        let locations = store.locations();
        for blob in blobs {
            locations.note(reference.registry(), reference.repository(), blob);
        }
    }
    Ok(())
}
