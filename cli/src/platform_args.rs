//! Which of an image's platforms, as the verbs that fetch and copy images take it.

use dhow_image::Platform;

// No doc comment: it would take the place of the verb's own.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PlatformArgs {
    /// The platform to choose from an image for several, as OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Take the images for all platforms, with the index that names them, so that they can be pushed, saved and copied together
    #[arg(short, long, conflicts_with = "platform")]
    all_platforms: bool,
}

impl PlatformArgs {
    /// The platform that was asked for.
    pub(crate) fn asked(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// That one, or this machine's.
    pub(crate) fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }

    /// Whether all are wanted.
    pub(crate) fn all(&self) -> bool {
        self.all_platforms
    }
}
