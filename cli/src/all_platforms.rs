//! Images for several platforms that go and come together.

use dhow_image::{Descriptor, DocumentKind, ImageReference, Platform, Progress};
use dhow_image_store::{Image, Lease};
use dhow_registry_client::{Client, Resolved};

use crate::images::{self, Arrived};

/// Pulls what the store lacks of the images for all platforms, and names them together. What is one image at the registry is pulled as
/// any other.
pub(crate) fn pull(
    client: &Client,
    lease: &Lease,
    reference: &ImageReference,
    platform: &Platform,
    progress: &dyn Progress,
) -> anyhow::Result<Arrived> {
    let store = lease.store();
    let resolved = client.resolve(reference)?;
    let index = &resolved.descriptor;
    if DocumentKind::of(index.media_type()) != Some(DocumentKind::Index) {
        return images::pull(client, lease, reference, platform, progress);
    }
    if let Ok(Some(image)) = store.image(reference)
        && image.index() == Some(index)
        && store.is_whole(index)?
        && store.lack(&image)?.is_none()
    {
        return Ok(Arrived {
            image,
            digest: index.digest().to_string(),
            pulled: None,
        });
    }
    fetch(client, lease, reference, &resolved, (platform, progress))
}

/// The same of an index that has been asked for already, and of which something is known to be missing.
pub(crate) fn fetch(
    client: &Client,
    lease: &Lease,
    reference: &ImageReference,
    index: &Resolved,
    (platform, progress): (&Platform, &dyn Progress),
) -> anyhow::Result<Arrived> {
    let store = lease.store();
    let pulled = client.pull_all_platforms(reference, index, platform, lease, progress)?;
    let image = store.tag_root(reference, &index.descriptor, platform)?;
    images::note_places(client, store, reference, &pulled.blobs)?;
    Ok(Arrived {
        image,
        digest: index.descriptor.digest().to_string(),
        pulled: Some(pulled),
    })
}

/// What of an image of the store is sent elsewhere, ready to be sent: its index where `all` are wanted, else its own manifest.
pub(crate) fn to_send(
    lease: &Lease,
    image: &Image,
    name: Option<&ImageReference>,
    all: bool,
    progress: &dyn Progress,
) -> anyhow::Result<Descriptor> {
    let title = || name.map_or_else(|| image.id().short().to_owned(), ImageReference::familiar);
    match (image.index_under(name).or_else(|| image.index()), all) {
        (Some(index), true) => {
            lease.hold_index(index)?;
            return Ok(index.clone());
        }
        (Some(_), false) => progress.note(&format!(
            "{} is here for several platforms; only {}/{} goes; --all-platforms takes all",
            title(),
            image.config().os(),
            image.config().architecture()
        )),
        (None, true) => progress.note(&format!(
            "{} is here for {}/{} only",
            title(),
            image.config().os(),
            image.config().architecture()
        )),
        (None, false) => {}
    }
    let ready = lease.store().distributable(lease, image, progress)?;
    Ok(ready.descriptor().clone())
}
