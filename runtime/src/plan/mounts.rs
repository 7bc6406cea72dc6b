//! The steps of a container's mounts.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mount_options::MountOptions;
use super::step::{MountSource, Step};
use crate::spec::SpecError;

/// One mount as a step. `bundle` is where relative sources begin.
pub(super) fn mount_step(
    mount: &Mount,
    bundle: &Path,
    cgroup_namespace: bool,
) -> Result<Step, SpecError> {
    let destination = clean(mount.destination());
    let fstype = mount.typ().as_deref();
    let none = Vec::new();
    let words = mount.options().as_ref().unwrap_or(&none);
    let options = MountOptions::parse(words, fstype).map_err(|error| SpecError::Unsupported {
        what: format!("mounts: {}: {error}", destination.display()),
    })?;
    let invalid = |what: &str| SpecError::Invalid {
        what: format!("mounts: {}: {what}", destination.display()),
    };
    if destination == Path::new("/") {
        return Err(invalid(
            "a mount over the root itself is root.path's matter",
        ));
    }
    let source = if options.bind {
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| invalid("a bind mount without a source"))?;
        MountSource::Bind(bundle.join(source))
    } else {
        match fstype {
            Some("cgroup" | "cgroup2") => MountSource::Cgroup {
                namespaced: cgroup_namespace,
            },
            Some(fstype) => MountSource::Filesystem {
                fstype: fstype.to_owned(),
                source: mount
                    .source()
                    .as_ref()
                    .map_or_else(|| fstype.to_owned(), |source| source.display().to_string()),
            },
            None => return Err(invalid("neither a type nor the option bind")),
        }
    };
    Ok(Step::Mount {
        destination,
        source,
        options,
    })
}

/// A destination as an absolute path without `.` and without `..` (which cannot lead out of the root anyway).
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// The bits of a root propagation's word, and whether it is recursive.
pub(super) fn propagation(word: &str) -> Result<(u64, bool), SpecError> {
    let words = [word.to_owned()];
    let parsed = MountOptions::parse(&words, None).ok();
    parsed
        .and_then(|options| options.propagation.first().copied())
        .ok_or_else(|| SpecError::Invalid {
            what: format!(
                "linux.rootfsPropagation {word:?}: private, shared, slave, unbindable, or one of them with an r before it"
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_stay_inside() {
        assert_eq!(clean(Path::new("a/b")), Path::new("/a/b"));
        assert_eq!(clean(Path::new("/../../etc/./x/..")), Path::new("/etc"));
    }

    #[test]
    fn propagation_words() {
        use dhow_sys::mount as attr;
        assert_eq!(propagation("rslave").unwrap(), (attr::SLAVE, true));
        assert_eq!(propagation("shared").unwrap(), (attr::SHARED, false));
        assert!(propagation("rro").is_err());
    }
}
