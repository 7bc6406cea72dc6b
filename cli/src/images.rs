//! Images as verbs want them: from the store, or pulled into it.

use std::fmt;

use dhow_image::{ImageReference, Platform, Progress};
use dhow_image_store::{Image, Lease, Store, StoreError, StoreErrorKind};
use dhow_registry_client::Wanted;

use crate::pulling::Pulling;
use crate::refetching::Refetching;
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

/// That nothing is here that a text could mean, with what it was taken for.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

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
        if let Some(kept) = named(store, &own)? {
            return Ok(kept);
        }
        names = registry_args::candidates(text)?;
        for name in names.iter().filter(|name| **name != own) {
            if let Some(kept) = named(store, name)? {
                return Ok(kept);
            }
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

/// What the store has under just this name.
fn named(store: &Store, name: &ImageReference) -> anyhow::Result<Option<Kept>> {
    match store.image(name) {
        Ok(image) => Ok(image.map(Kept::Named)),
        Err(error @ StoreError::Damaged { .. }) => Ok(Some(Kept::Damaged(error))),
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
    let message = format!("no such image: {name}{tried}; {remedy}");
    anyhow::Error::new(Missing(message))
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
    let pulling = Pulling {
        client: &registry_args::client()?,
        lease,
        wanted: Wanted {
            platform,
            all_platforms: false,
        },
        progress,
    };
    let (_, arrived) = pulling.first(&names)?;
    Ok(arrived.image)
}

/// Whether an image can be run once the blobs that this takes were fetched from where they are known to be.
fn refetched(lease: &Lease, image: &Image, progress: &dyn Progress) -> anyhow::Result<bool> {
    lease.hold(image)?;
    let missing = lease.store().missing_to_run(image)?;
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
