//! Images as verbs want them: from the store, or pulled into it.

use dhow_image::{
    BlobLocations as _, Descriptor, Digest, ImageReference, Platform, Progress, TransferErrorKind,
};
use dhow_image_store::{Image, Lease, Store, StoreError, StoreErrorKind};
use dhow_registry_client::{Client, Pulled, Resolved};

use crate::all_platforms;
use crate::refetching::{Refetching, blobs_of};
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

/// What the store has under a text that a person wrote.
enum Kept {
    /// This image, under the name that is its only one here.
    Named(Image),
    /// This one, by its id.
    Identified(Image),
    /// One that cannot be read any more.
    Damaged(StoreError),
    /// Nothing under any of these names.
    Missing(Vec<ImageReference>),
}

/// Looks in the store for what a text means: the name as it stands, else what a short name can mean on this machine, else an id.
fn look_up(store: &Store, text: &str) -> anyhow::Result<Kept> {
    let mut names = Vec::new();
    if let Ok(own) = text.parse::<ImageReference>() {
        // The files that say what short names mean are not read where the name is here as it stands.
        match store.image(&own) {
            Ok(Some(image)) => return Ok(Kept::Named(image)),
            Err(error @ StoreError::Damaged { .. }) => return Ok(Kept::Damaged(error)),
            other => other?,
        };
        names = registry_args::candidates(text)?;
        for name in names.iter().filter(|name| **name != own) {
            match store.image(name) {
                Ok(Some(image)) => return Ok(Kept::Named(image)),
                Err(error @ StoreError::Damaged { .. }) => return Ok(Kept::Damaged(error)),
                other => other?,
            };
        }
        if !names.contains(&own) {
            names.insert(0, own);
        }
    }
    match store.find(text) {
        Ok(image) => Ok(Kept::Identified(image)),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(Kept::Missing(names)),
        Err(error) => Err(error.into()),
    }
}

/// The image of the store that a person means.
pub(crate) fn find(store: &Store, text: &str) -> anyhow::Result<Image> {
    match look_up(store, text)? {
        Kept::Named(image) | Kept::Identified(image) => Ok(image),
        Kept::Damaged(error) => Err(error.into()),
        Kept::Missing(names) => Err(missing(text, &names)),
    }
}

/// The same by a name, with that name in full.
pub(crate) fn find_named(store: &Store, text: &str) -> anyhow::Result<(ImageReference, Image)> {
    match look_up(store, text)? {
        Kept::Named(image) => match image.references().first() {
            Some(name) => Ok((name.clone(), image)),
            None => Err(missing(text, &[])),
        },
        Kept::Damaged(error) => Err(error.into()),
        Kept::Identified(_) => Err(missing(text, &[])),
        Kept::Missing(names) => Err(missing(text, &names)),
    }
}

/// That none of these is there.
fn missing(text: &str, names: &[ImageReference]) -> anyhow::Error {
    let remedy = "`dhow images` lists what there is, and `dhow tag` names it";
    absent(text, names, remedy)
}

fn absent(text: &str, names: &[ImageReference], remedy: &str) -> anyhow::Error {
    let tried = match names {
        [] | [_] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!(", neither as {}", names.join(" nor as "))
        }
    };
    // In the form that names without a tag are kept in.
    let name = text.parse::<ImageReference>();
    let name = name.map_or_else(|_| text.to_owned(), |name| name.familiar());
    anyhow::anyhow!("no such image: {name}{tried}; {remedy}")
}

/// The image that `text` means: the store's, or, as `policy` has it, pulled. It stays as long as the lease, whatever others do.
pub(crate) fn ensure_image(
    lease: &Lease,
    text: &str,
    platform: &Platform,
    policy: PullPolicy,
    progress: &dyn Progress,
) -> anyhow::Result<Image> {
    let store = lease.store();
    let (names, state) = match (look_up(store, text)?, policy) {
        // An id is no name at a registry.
        (Kept::Identified(image), _) => return Ok(image),
        (Kept::Named(image), PullPolicy::Never) => return Ok(image),
        (Kept::Named(image), PullPolicy::Missing) if store.is_runnable(&image)? => {
            return Ok(image);
        }
        // What it was built on may be had again, where no registry has the image itself.
        (Kept::Named(image), PullPolicy::Missing) if refetched(lease, &image, progress)? => {
            return Ok(image);
        }
        (Kept::Damaged(error), PullPolicy::Never) => return Err(error.into()),
        (Kept::Missing(names), PullPolicy::Never) => {
            return Err(absent(text, &names, "pull or build it first"));
        }
        (Kept::Named(_), PullPolicy::Always) => (registry_args::candidates(text)?, None),
        (Kept::Named(image), _) => (image.references().to_vec(), Some("is damaged here")),
        (Kept::Damaged(_), _) => (registry_args::candidates(text)?, Some("is damaged here")),
        (Kept::Missing(_), _) => (registry_args::candidates(text)?, Some("is not here")),
    };
    if let (Some(state), Some(name)) = (state, names.first()) {
        progress.note(&format!("{} {state}; pulling it", name.familiar()));
    }
    let client = registry_args::client()?;
    let (_, arrived) = first(&names, |name| {
        pull(&client, lease, name, platform, progress)
    })?;
    Ok(arrived.image)
}

/// Whether an image can be run once its missing blobs were fetched from where they are known to be.
fn refetched(lease: &Lease, image: &Image, progress: &dyn Progress) -> anyhow::Result<bool> {
    lease.hold(image)?;
    let missing = blobs_of(lease, std::slice::from_ref(image))?;
    if missing.is_empty() {
        return Ok(false);
    }
    if let Some(name) = image.references().first() {
        let name = name.familiar();
        progress.note(&format!("{name} is damaged here; fetching what it lacks"));
    }
    let refetching = Refetching {
        lease,
        client: &registry_args::client()?,
        progress,
    };
    // Where they are not to be had, the image itself may be.
    Ok(refetching.fetch_all(&missing).is_ok() && lease.store().is_runnable(image)?)
}

/// The first of these names that is to be had by `pull`.
pub(crate) fn first(
    names: &[ImageReference],
    pull: impl Fn(&ImageReference) -> anyhow::Result<Arrived>,
) -> anyhow::Result<(ImageReference, Arrived)> {
    let mut failures = Vec::new();
    for name in names {
        match pull(name) {
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
    let named = store.named(reference)?;
    let named = named.filter(|(manifest, _)| manifest.digest() == chosen.digest());
    let mut index = None;
    if let Some((_, kept)) = named {
        let lack = match whole(store, reference, kept.as_ref())? {
            Ok(image) => {
                return Ok(Arrived {
                    image,
                    digest,
                    pulled: None,
                });
            }
            Err(lack) => lack,
        };
        let name = reference.familiar();
        progress.note(&format!("{name} is not whole here ({lack}); repairing it"));
        // What is only mended keeps the other platforms that the name stands for.
        if let Some(kept) = kept {
            let mending = Mending {
                client,
                lease,
                reference,
                platform,
                progress,
            };
            match mending.whole_index(&kept, &resolved)? {
                Some(arrived) => return Ok(Arrived { digest, ..arrived }),
                None => index = store.tree(&kept).is_ok().then_some(kept),
            }
        }
    }
    let pulled = client.pull_resolved(reference, &resolved, platform, lease, progress)?;
    store.tag_whole(reference, &pulled.manifest, index.as_ref())?;
    note_places(client, store, reference, &pulled.blobs)?;
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

/// A name whose images are pulled once more because they are not whole.
struct Mending<'a> {
    client: &'a Client,
    lease: &'a Lease,
    reference: &'a ImageReference,
    platform: &'a Platform,
    progress: &'a dyn Progress,
}

impl Mending<'_> {
    /// Fetches what the store lacks of an index with all that it names; none where it lacks nothing but of the image that is run, or the
    /// registry has that index no more.
    fn whole_index(
        &self,
        index: &Descriptor,
        resolved: &Resolved,
    ) -> anyhow::Result<Option<Arrived>> {
        if self.lease.store().is_whole(index)? {
            return Ok(None);
        }
        if resolved.descriptor.digest() == index.digest() {
            return self.fetch(resolved).map(Some);
        }
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let own = format!("{registry}/{repository}@{}", index.digest());
        match self.client.resolve(&own.parse()?) {
            Ok(own) => self.fetch(&own).map(Some),
            Err(error) if error.kind() == TransferErrorKind::NotFound => {
                let name = self.reference.familiar();
                self.progress.note(&format!(
                    "warning: the registry does not have {} any more, so that the other platforms of {name} may not be had again",
                    index.digest()
                ));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn fetch(&self, index: &Resolved) -> anyhow::Result<Arrived> {
        all_platforms::fetch(
            self.client,
            self.lease,
            self.reference,
            index,
            (self.platform, self.progress),
        )
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
