//! What a person asks of a build, as types.

use std::collections::BTreeMap;

use dhow_dockerfile::RunNetwork;
use dhow_image::{ImageReference, Platform};

/// A name that an image gets.
pub type ImageName = ImageReference;

/// What a person asks of a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The names of the image; none leaves it with its id only.
    pub tags: Vec<ImageName>,
    /// Values for the Dockerfile's `ARG`s.
    pub args: BTreeMap<String, String>,
    /// The stage to build: a name or a number; the last one where it is missing.
    pub target: Option<String>,
    /// Run every step, whatever the cache knows.
    pub no_cache: bool,
    /// The network of a `RUN` that asks for none of its own.
    pub network: RunNetwork,
    /// Labels of the image on top of the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// The platform of the image. Only the machine's own can be built.
    pub platform: Platform,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            args: BTreeMap::new(),
            target: None,
            no_cache: false,
            network: RunNetwork::Host,
            labels: BTreeMap::new(),
            platform: Platform::host(),
        }
    }
}
