//! The image that a name stands for on one platform, whichever the store has under the name.

use dhow_image::{ImageReference, Platform, Progress};
use dhow_image_store::{Image, Lease};
use dhow_registry_client::Wanted;

use crate::images::{PullPolicy, ensure_image};
use crate::registry_args;

/// What an image says that it is for.
fn platform_of(image: &Image) -> Platform {
    Platform {
        os: image.config().os().to_string(),
        architecture: image.config().architecture().to_string(),
        variant: None,
    }
}

/// Of an image that is kept for all platforms the one for `platform`; none where another platform's is all that is here.
fn of_platform(image: &Image, platform: &Platform) -> anyhow::Result<Option<Image>> {
    if image.index().is_some() {
        return Ok(Some(image.for_platform(platform)?));
    }
    Ok(fits(&platform_of(image), platform).then(|| image.clone()))
}

/// Whether what an image says does not clearly tell that it is for another platform than the one asked for. Some leave it out, some write
/// a processor's name as the kernel does.
fn fits(said: &Platform, asked: &Platform) -> bool {
    let architecture = match said.architecture.as_str() {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        other => other,
    };
    (said.os.is_empty() || said.os == asked.os)
        && (architecture.is_empty() || architecture == asked.architecture)
}

/// Tells who asked for a platform that the name stands for another one's image alone, which came all the same.
pub(crate) fn note_another(
    image: &Image,
    name: &ImageReference,
    platform: &Platform,
    progress: &dyn Progress,
) {
    let said = platform_of(image);
    if !fits(&said, platform) {
        let name = name.familiar();
        progress.note(&format!(
            "{name} is for {said}, and not for {platform}; its registry has no other under this name"
        ));
    }
}

/// The image for a platform that a person asked for.
pub(crate) fn of_platform_here(
    image: &Image,
    name: &str,
    platform: &Platform,
) -> anyhow::Result<Image> {
    of_platform(image, platform)?.ok_or_else(|| {
        anyhow::anyhow!(
            "{name} is here for {} only; `dhow pull --platform {platform} {name}` fetches it for {platform}",
            platform_of(image)
        )
    })
}

/// The image that `text` means, for `platform` and no other: where another platform's has the name here, this one is fetched beside it, and
/// the name stays as it is. It stays as long as the lease.
pub(crate) fn ensure_for(
    lease: &Lease,
    text: &str,
    platform: &Platform,
    policy: PullPolicy,
    progress: &dyn Progress,
) -> anyhow::Result<Image> {
    let image = ensure_image(lease, text, platform, policy, progress)?;
    if let Some(image) = of_platform(&image, platform)? {
        return Ok(image);
    }
    let only = format!("{text} is here for {} only", platform_of(&image));
    // An id names the one that is here.
    let Some(name) = image.references().first() else {
        anyhow::bail!("{only}, and {platform} is built for");
    };
    anyhow::ensure!(
        policy != PullPolicy::Never,
        "{only}, and {platform} is built for; leave --pull never out, so that it is fetched"
    );
    progress.note(&format!("{only}; fetching it for {platform}"));
    beside(lease, name, platform, progress)
        .map_err(|error| error.context(format!("{only}, and it cannot be had for {platform}")))
}

/// Pulls an image without naming it.
fn beside(
    lease: &Lease,
    name: &ImageReference,
    platform: &Platform,
    progress: &dyn Progress,
) -> anyhow::Result<Image> {
    let wanted = Wanted {
        platform,
        all_platforms: false,
    };
    let pulled = registry_args::client()?.pull(name, &wanted, lease, progress)?;
    let image = lease.store().unnamed(&pulled.manifest)?;
    // Where an index says for what an image is, that counts, whatever stands in the image itself.
    if pulled.manifest.platform().is_some() {
        return Ok(image);
    }
    match of_platform(&image, platform)? {
        Some(image) => Ok(image),
        None => anyhow::bail!("its registry has it for {}", platform_of(&image)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_clearly_says_so_is_for_another_platform() {
        let fits = |os: &str, architecture: &str| {
            let said = Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: None,
            };
            fits(&said, &"linux/amd64".parse().expect("a platform"))
        };
        assert!(fits("linux", "amd64") && fits("linux", "x86_64"));
        assert!(fits("linux", "") && fits("", "amd64") && fits("", ""));
        assert!(!fits("linux", "arm64") && !fits("linux", "aarch64"));
        assert!(!fits("windows", "amd64") && !fits("windows", ""));
    }
}
