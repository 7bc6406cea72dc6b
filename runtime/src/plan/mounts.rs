//! The steps of a container's mounts.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::mount_options::MountOptions;
use super::step::{IdMap, IdRange, MountSource, Step};
use crate::spec::SpecError;

/// What a container's mounts depend on besides themselves.
pub(super) struct MountContext<'a> {
    /// Where relative sources begin.
    pub(super) bundle: &'a Path,
    /// Whether the container has a cgroup namespace.
    pub(super) cgroup_namespace: bool,
    /// The SELinux context of new file systems.
    pub(super) label: Option<&'a str>,
    /// The container's own map of ids, if it has one.
    pub(super) container_map: Option<IdMap>,
}

/// The steps of a container's mounts: what the parent makes beforehand, and what init mounts.
#[derive(Debug, Default)]
pub(super) struct MountSteps {
    pub(super) before: Vec<Step>,
    pub(super) mounts: Vec<Step>,
}

fn invalid(destination: &Path, what: impl std::fmt::Display) -> SpecError {
    SpecError::Invalid {
        what: format!("mounts: {}: {what}", destination.display()),
    }
}

impl MountSteps {
    /// Adds one mount.
    pub(super) fn add(
        &mut self,
        mount: &Mount,
        context: &MountContext<'_>,
    ) -> Result<(), SpecError> {
        let destination = clean(mount.destination());
        let fstype = mount.typ().as_deref();
        let none = Vec::new();
        let words = mount.options().as_ref().unwrap_or(&none);
        let mut options = MountOptions::parse(words, fstype);
        if destination == Path::new("/") {
            return Err(invalid(
                &destination,
                "a mount over the root itself is root.path's matter",
            ));
        }
        let map = id_map(mount, &destination, &mut options, context)?;
        let source = if options.remount {
            MountSource::Remount
        } else if options.bind {
            self.bind(mount, &destination, &options, context, map)?
        } else {
            filesystem(mount, &destination, &mut options, context)?
        };
        self.mounts.push(Step::Mount {
            destination,
            source,
            options,
        });
        Ok(())
    }

    fn bind(
        &mut self,
        mount: &Mount,
        destination: &Path,
        options: &MountOptions,
        context: &MountContext<'_>,
        map: Option<IdMap>,
    ) -> Result<MountSource, SpecError> {
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| invalid(destination, "a bind mount without a source"))?;
        if let Some((option, _)) = options.data.first() {
            return Err(invalid(
                destination,
                format!(
                    "a bind mount takes no option of a file system, and {option:?} is none of a mount"
                ),
            ));
        }
        let path = context.bundle.join(source);
        let Some(map) = map else {
            return Ok(MountSource::Bind(path));
        };
        let number = self.before.len();
        self.before.push(Step::MakeIdMappedMount {
            path: path.clone(),
            recursive: options.recursive,
            map,
            map_recursive: options.id_map == Some(true),
        });
        Ok(MountSource::IdMapped { path, number })
    }
}

/// A mount of a file system's own.
fn filesystem(
    mount: &Mount,
    destination: &Path,
    options: &mut MountOptions,
    context: &MountContext<'_>,
) -> Result<MountSource, SpecError> {
    let fstype = match mount.typ().as_deref() {
        Some(fstype @ ("cgroup" | "cgroup2")) => {
            return Ok(MountSource::Cgroup {
                namespaced: context.cgroup_namespace,
                unified: fstype == "cgroup2",
            });
        }
        Some(fstype) => fstype,
        None => {
            return Err(invalid(destination, "neither a type nor the option bind"));
        }
    };
    if options.copy_up && fstype != "tmpfs" {
        return Err(invalid(destination, "tmpcopyup is for a tmpfs"));
    }
    // The kernel's own file systems have their labels from the policy.
    if let Some(label) = context.label
        && !matches!(fstype, "proc" | "sysfs" | "mqueue")
    {
        options
            .data
            .push(("context".to_owned(), Some(label.to_owned())));
    }
    Ok(MountSource::Filesystem {
        fstype: fstype.to_owned(),
        source: mount
            .source()
            .as_ref()
            .map_or_else(|| fstype.to_owned(), |source| source.display().to_string()),
    })
}

/// How a mount's ids are to be mapped: as it says, or as the container's are.
fn id_map(
    mount: &Mount,
    destination: &Path,
    options: &mut MountOptions,
    context: &MountContext<'_>,
) -> Result<Option<IdMap>, SpecError> {
    let uids = id_ranges(mount.uid_mappings().as_deref());
    let gids = id_ranges(mount.gid_mappings().as_deref());
    let map = match (uids.is_empty(), gids.is_empty()) {
        (true, true) if options.id_map.is_none() => return Ok(None),
        (true, true) => context.container_map.clone().ok_or_else(|| {
            invalid(
                destination,
                "idmap needs uidMappings and gidMappings, since the container has no user namespace whose maps it could take",
            )
        })?,
        (false, false) => IdMap::Ranges { uids, gids },
        _ => {
            return Err(invalid(
                destination,
                "uidMappings and gidMappings must both be there, or neither",
            ));
        }
    };
    if !options.bind || options.remount {
        return Err(invalid(
            destination,
            "only a bind mount's ids can be mapped",
        ));
    }
    options.id_map.get_or_insert(false);
    Ok(Some(map))
}

/// The ranges of a map.
pub(super) fn id_ranges(mappings: Option<&[LinuxIdMapping]>) -> Vec<IdRange> {
    mappings
        .unwrap_or_default()
        .iter()
        .map(|mapping| IdRange {
            container: mapping.container_id(),
            host: mapping.host_id(),
            size: mapping.size(),
        })
        .collect()
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
    let parsed = MountOptions::parse(&words, None);
    parsed.propagation.first().copied().ok_or_else(|| SpecError::Invalid {
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
