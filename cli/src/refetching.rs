//! Blobs that the store has dropped because a registry holds them (`dhow image prune --blobs`), fetched again when they are needed.

use dhow_image::{
    BlobBody, BlobSource, Descriptor, Digest, ImageReference, Progress, TransferError,
    TransferErrorKind,
};
use dhow_image_store::{ArchiveForm, Image, Lease};
use dhow_registry_client::Client;

/// The store's blobs, and those that it has dropped: they come back into it from where they are known to be.
pub(crate) struct Refetching<'a> {
    /// Keeps what comes.
    pub(crate) lease: &'a Lease,
    /// Asks the registries.
    pub(crate) client: &'a Client,
    /// Draws what comes.
    pub(crate) progress: &'a dyn Progress,
}

impl BlobSource for Refetching<'_> {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        match self.lease.store().open(descriptor, offset) {
            Err(error) if error.kind() == TransferErrorKind::NotFound => {
                self.fetch(descriptor)?;
                self.lease.store().open(descriptor, offset)
            }
            other => other,
        }
    }
}

impl Refetching<'_> {
    /// Fetches what the store lacks of these.
    pub(crate) fn fetch_all(&self, missing: &[Descriptor]) -> Result<(), TransferError> {
        missing.iter().try_for_each(|blob| self.fetch(blob))
    }

    /// Asks where the blob is known to be, latest first.
    pub(crate) fn fetch(&self, descriptor: &Descriptor) -> Result<(), TransferError> {
        let digest = Digest::of_descriptor(descriptor).map_err(|error| {
            TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
        })?;
        let places = self.lease.store().locations().places(&digest);
        let mut kind = TransferErrorKind::NotFound;
        let mut failures = Vec::new();
        for (registry, repository) in places {
            let name = format!("{registry}/{repository}");
            let fetched = name
                .parse::<ImageReference>()
                .map_err(|error| {
                    TransferError::caused(TransferErrorKind::Other, name.clone(), error)
                })
                .and_then(|reference| {
                    self.client
                        .fetch_blob(&reference, descriptor, self.lease, self.progress)
                });
            match fetched {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // Only where none of them has it, it is nowhere: one that cannot be asked may have it.
                    if kind == TransferErrorKind::NotFound {
                        kind = error.kind();
                    }
                    failures.push(format!("{name}: {:#}", anyhow::Error::from(error)));
                }
            }
        }
        let reason = match failures.is_empty() {
            true => "no registry is known to have it; pull or load the image again".to_owned(),
            false => format!("it cannot be had again from {}", failures.join("; ")),
        };
        Err(TransferError::new(
            kind,
            format!("blob {digest} is not in the store, and {reason}"),
        ))
    }
}

/// The blobs that the store lacks to write these images in a form: all of the images and of the indexes that their names stand for, or
/// those without which it cannot give the layers' tars.
pub(crate) fn lacking(
    lease: &Lease,
    images: &[Image],
    form: ArchiveForm,
) -> anyhow::Result<Vec<Descriptor>> {
    let store = lease.store();
    let mut missing = Vec::new();
    for image in images {
        lease.hold(image)?;
        if form == ArchiveForm::Docker {
            missing.extend(store.missing_tars(image)?);
            continue;
        }
        missing.extend(store.missing_blobs(image)?);
        for index in image.indexes() {
            lease.hold_index(index)?;
            missing.extend(store.missing_of_index(index)?);
        }
    }
    Ok(missing)
}
