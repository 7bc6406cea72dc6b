//! Blobs on their way in.

#![allow(clippy::todo)]

use dhow_image::{Begun, BlobSink, Descriptor, TransferError, Want};

use crate::Lease;

impl BlobSink for Lease {
    fn begin(&self, _descriptor: &Descriptor, _want: &Want) -> Result<Begun<'_>, TransferError> {
        todo!()
    }
}
