//! Platforms: image-spec, image-index.md, "platform".

use std::fmt;
use std::str::FromStr;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::DocumentKind;

/// An operating system, a processor architecture in Go's words, and the architecture's variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform; write OS/ARCHITECTURE[/VARIANT], for example linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// Whether an image for `offered` runs where this platform is asked for.
    pub fn accepts(&self, offered: &Self) -> bool {
        let normal = |platform: &Self| match (platform.architecture.as_str(), &platform.variant) {
            // arm64 without a variant means v8.
            ("arm64", Some(variant)) if variant == "v8" => None,
            (_, variant) => variant.clone(),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && (normal(self) == normal(offered) || normal(self).is_none())
    }
}

impl Platform {
    /// The manifest of an index for this platform: the first that fits, as the specification has it, or the only one there is, if it
    /// does not say for what it is.
    pub fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let is_manifest =
            |d: &&Descriptor| DocumentKind::of(d.media_type()) == Some(DocumentKind::Manifest);
        let of = |d: &Descriptor| d.platform().as_ref().map(Self::from);
        let mut images = manifests.iter().filter(is_manifest);
        if let Some(fitting) = images
            .clone()
            .find(|d| of(d).is_some_and(|p| self.accepts(&p)))
        {
            return Some(fitting);
        }
        match (images.next(), images.next()) {
            (Some(only), None) if of(only).is_none() => Some(only),
            _ => None,
        }
    }

    /// The platforms that an index has images for, each once.
    pub fn offered(manifests: &[Descriptor]) -> Vec<Self> {
        let mut offered = Vec::new();
        for descriptor in manifests {
            if let Some(platform) = descriptor.platform().as_ref().map(Self::from)
                // Attestations are for none.
                && platform.os != "unknown"
                && !offered.contains(&platform)
            {
                offered.push(platform);
            }
        }
        offered
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..]
                if rest.len() <= 1 && parts.iter().all(|part| word(part)) =>
            {
                Ok(Self {
                    os: (*os).into(),
                    architecture: (*architecture).into(),
                    variant: rest.first().map(|v| (*v).into()),
                })
            }
            _ => Err(PlatformError(text.into())),
        }
    }
}

impl From<&oci_spec::image::Platform> for Platform {
    fn from(platform: &oci_spec::image::Platform) -> Self {
        Self {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_written() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "linux/a/b/c", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn arm64_and_its_v8_are_one() {
        let plain: Platform = "linux/arm64".parse().unwrap();
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(plain.accepts(&v8) && v8.accepts(&plain));
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        let v6: Platform = "linux/arm/v6".parse().unwrap();
        assert!(!v7.accepts(&v6));
    }
}
