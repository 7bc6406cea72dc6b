//! The user namespace by which the files of a container's root are mapped: it has the container's maps, and no process.

use std::fs::File;

use dhow_container_spec::{IdRange, UserNamespace};
use dhow_image_store::MappedIds;

use crate::EngineError;

/// Whether containers can be given user namespaces of their own.
///
/// # Errors
/// Without the machine's root.
pub fn may_map_ids() -> Result<(), EngineError> {
    match dhow_image_store::is_hosts_root() {
        true => Ok(()),
        false => Err(EngineError::Invalid(
            "--userns: without root a container has your own user namespace and no other, because the kernel maps the owners of files \
             for the machine's root alone; run it as root, or without"
                .to_owned(),
        )),
    }
}

/// Makes one.
///
/// # Errors
/// When the kernel gives none, or refuses the maps.
pub(crate) fn make(own: &UserNamespace) -> Result<MappedIds, EngineError> {
    let made = dhow_sys::user_namespace::with_new(|process| {
        let path = |name: &str| format!("/proc/{}/{name}", process.as_raw_nonzero());
        fs_err::write(path("uid_map"), map(own.uids()))?;
        fs_err::write(path("gid_map"), map(own.gids()))?;
        File::open(path("ns/user"))
    });
    let namespace = made
        .map_err(EngineError::system(
            "making a user namespace (the system may allow none: sysctl user.max_user_namespaces)",
        ))?
        .map_err(EngineError::File)?;
    Ok(MappedIds {
        namespace: namespace.into(),
        // Whoever is checked to be mapped.
        user: own.host_user(0).unwrap_or_default(),
        group: own.host_group(0).unwrap_or_default(),
    })
}

/// The ranges as the kernel takes them.
fn map(ranges: &[IdRange]) -> String {
    let line = |range: &IdRange| format!("{} {} {}\n", range.container, range.host, range.size);
    ranges.iter().map(line).collect()
}
