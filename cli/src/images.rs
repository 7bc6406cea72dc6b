//! Images as verbs want them: from the store, or pulled into it.

use dhow_image::{BlobLocations as _, ImageReference, Platform, Progress};
use dhow_image_store::{Image, Lease};
use dhow_registry_client::{Client, Pulled};

use crate::registry_args;

/// When an image is asked for at its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PullPolicy {
    /// When the store does not have it
    #[default]
    Missing,
    /// Always, in case the registry has a newer one
    Always,
    /// Never
    Never,
}

/// The image that `reference` names: the store's, or, as `policy` has it, pulled. It stays as long as the lease, whatever others do.
pub(crate) fn ensure_image(
    lease: &Lease,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    progress: &dyn Progress,
) -> anyhow::Result<Image> {
    let kept = lease.store().image(reference)?;
    match (kept, policy) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => Ok(image),
        (None, PullPolicy::Never) => anyhow::bail!(
            "there is no image {}; pull or build it first",
            reference.familiar()
        ),
        (kept, _) => {
            if kept.is_none() {
                let line = format!("{} is not here; pulling it", reference.familiar());
                progress.note(&line);
            }
            Ok(pull(
                &registry_args::client()?,
                lease,
                reference,
                platform,
                progress,
            )?
            .image)
        }
    }
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

/// Pulls what the store lacks of an image, and names it.
pub(crate) fn pull(
    client: &Client,
    lease: &Lease,
    reference: &ImageReference,
    platform: &Platform,
    progress: &dyn Progress,
) -> anyhow::Result<Arrived> {
    let store = lease.store();
    let resolved = client.resolve(reference)?;
    let digest = resolved.descriptor.digest().to_string();
    let chosen = resolved.manifest(platform, reference)?;
    if let Some(image) = store.image(reference)?
        && image.descriptor().digest() == chosen.digest()
    {
        return Ok(Arrived {
            image,
            digest,
            pulled: None,
        });
    }
    let pulled = client.pull_resolved(reference, &resolved, platform, lease, progress)?;
    store.tag(reference, &pulled.manifest)?;
    let locations = store.locations();
    for blob in &pulled.blobs {
        locations.note(reference.registry(), reference.repository(), blob);
    }
    let image = store.image(reference)?.ok_or_else(|| {
        anyhow::anyhow!(
            "{} was removed while it was pulled; pull it again",
            reference.familiar()
        )
    })?;
    Ok(Arrived {
        image,
        digest,
        pulled: Some(pulled),
    })
}
