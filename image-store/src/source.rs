//! Blobs on their way out.

#![allow(clippy::todo)]

use dhow_image::{BlobBody, BlobSource, Descriptor, TransferError};

use crate::Store;

impl BlobSource for Store {
    fn open(&self, _descriptor: &Descriptor, _offset: u64) -> Result<BlobBody, TransferError> {
        todo!()
    }
}
