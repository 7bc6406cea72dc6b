//! Where an image is copied from or to, as a person writes it: skopeo's spelling of transports, and `store:` for dhow's own store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dhow_image::ImageReference;
use dhow_image_store::ArchiveForm;

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A name at a registry; it may be short.
    Registry(String),
    /// An OCI layout in a directory.
    Layout {
        directory: PathBuf,
        tag: Option<String>,
    },
    /// A file with images.
    Archive {
        form: ArchiveForm,
        file: PathBuf,
        name: Option<String>,
    },
    /// A name in the store, or an id.
    Store(String),
}

/// How places are written.
const FORMS: &str = "write docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or store:NAME";

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let name = |name: &str| match name.parse::<ImageReference>() {
            Ok(_) => Ok(name.to_owned()),
            Err(error) => Err(anyhow::anyhow!("{error}; {FORMS}")),
        };
        let empty = |transport| anyhow::anyhow!("{text:?} names nothing after {transport:?}");
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name(rest)?));
        }
        let path = |rest: &str, transport| -> anyhow::Result<(PathBuf, Option<String>)> {
            let (path, tag) = match rest.split_once(':') {
                Some((path, tag)) => (path, Some(tag.to_owned())),
                None => (rest, None),
            };
            anyhow::ensure!(
                !path.is_empty() && tag.as_deref() != Some(""),
                empty(transport)
            );
            Ok((path.into(), tag))
        };
        let archive = |form, rest, transport| {
            let (file, name) = path(rest, transport)?;
            Ok(Self::Archive { form, file, name })
        };
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let (directory, tag) = path(rest, "oci:")?;
                Ok(Self::Layout { directory, tag })
            }
            Some(("oci-archive", rest)) => archive(ArchiveForm::Oci, rest, "oci-archive:"),
            Some(("docker-archive", rest)) => archive(ArchiveForm::Docker, rest, "docker-archive:"),
            Some(("store", "")) => Err(empty("store:")),
            Some(("store", rest)) => Ok(Self::Store(rest.to_owned())),
            Some((
                other @ ("containers-storage" | "docker-daemon" | "dir" | "ostree" | "sif"
                | "tarball"),
                _,
            )) => Err(anyhow::anyhow!("dhow knows no {other}:; {FORMS}")),
            _ => Ok(Self::Registry(name(text)?)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with =
            |f: &mut fmt::Formatter<'_>, transport, path: &PathBuf, name: &Option<String>| {
                write!(f, "{transport}:{}", path.display())?;
                match name {
                    Some(name) => write!(f, ":{name}"),
                    None => Ok(()),
                }
            };
        match self {
            Self::Registry(name) => write!(f, "docker://{name}"),
            Self::Layout { directory, tag } => with(f, "oci", directory, tag),
            Self::Archive { form, file, name } => match form {
                ArchiveForm::Oci => with(f, "oci-archive", file, name),
                ArchiveForm::Docker => with(f, "docker-archive", file, name),
            },
            Self::Store(name) => write!(f, "store:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in [
            "docker://localhost:5000/app:1",
            "oci:/tmp/layout",
            "oci:layout:v1",
            "oci-archive:a.tar:v1",
            "docker-archive:a.tar:app:1",
            "store:app:1",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let plain: Place = "localhost:5000/app:1".parse().unwrap();
        assert_eq!(plain.to_string(), "docker://localhost:5000/app:1");
        let docker: Place = "docker-archive:a.tar:localhost:5000/app:1".parse().unwrap();
        let Place::Archive { name, .. } = docker else {
            panic!("{docker:?}");
        };
        assert_eq!(name.unwrap(), "localhost:5000/app:1");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (text, says) in [
            ("oci:", "names nothing"),
            ("oci:dir:", "names nothing"),
            ("store:", "names nothing"),
            ("docker://", "repository is missing"),
            ("Busybox", "lower case"),
            ("containers-storage:app", "dhow knows no"),
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
