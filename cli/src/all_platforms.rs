//! Images for several platforms that go together.

use dhow_image::{Descriptor, ImageReference, Progress};
use dhow_image_store::{Image, Lease};

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
