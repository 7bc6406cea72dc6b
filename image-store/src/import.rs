//! A root file system's tar becomes an image of one layer.

#![allow(clippy::todo)]

use std::io::Read;

use dhow_image::Platform;
use oci_spec::image::Config;

use crate::{Image, Lease, Store, StoreError};

/// What an imported image's config says.
#[derive(Clone, Debug)]
pub struct ImportConfig {
    /// What a container of it runs, and how.
    pub config: Config,
    /// For which platform it is.
    pub platform: Platform,
    /// When it was made, in RFC 3339.
    pub created: Option<String>,
    /// A word on where it came from.
    pub message: Option<String>,
}

impl Store {
    /// Makes an image of one layer from a tar stream, which may be compressed with gzip or zstd.
    ///
    /// # Errors
    /// When it is no tar, or the store cannot take it.
    pub fn import(
        &self,
        _lease: &Lease,
        _tar: impl Read + Send,
        _config: ImportConfig,
    ) -> Result<Image, StoreError> {
        todo!()
    }
}
