//! The images that builds start from.

use dhow_image::Platform;
use dhow_image_store::{Image, Lease};

/// Finds the images that `FROM` and `COPY --from` name.
///
/// A boundary: the builder does not know registries. Who calls it looks in the store, and pulls what is not there.
pub trait BaseImages {
    /// The image, in the store and kept by `lease`: `name` as it was written, which may be short, or the id of an image.
    ///
    /// # Errors
    /// When it can be found nowhere, with a message for a person.
    fn resolve(
        &self,
        name: &str,
        platform: &Platform,
        lease: &Lease,
    ) -> Result<Image, Box<dyn std::error::Error + Send + Sync>>;
}
