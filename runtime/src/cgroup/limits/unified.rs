//! Files of the v2 tree by their own names.

use super::wrong;
use crate::cgroup::{Cgroup, CgroupError, make};

const LIMIT: &str = "a v2 setting under \"unified\"";

/// Writes a file of the container's v2 cgroup, each line by itself.
pub(super) fn set(cgroup: &Cgroup, file: &str, value: &str) -> Result<(), CgroupError> {
    let Some((controller, _)) = file.split_once('.') else {
        return Err(wrong(
            LIMIT,
            format!("{file:?} is not of the form CONTROLLER.FILE"),
        ));
    };
    if file.contains('/') {
        return Err(wrong(LIMIT, format!("{file:?} must not contain '/'")));
    }
    let Some(directory) = cgroup.v2() else {
        return Err(wrong(
            LIMIT,
            format!("{file} needs cgroup v2, and this host has v1 only"),
        ));
    };
    if controller != "cgroup"
        && !cgroup
            .v2_controllers()
            .iter()
            .any(|name| name == controller)
    {
        let missing = || {
            wrong(
                LIMIT,
                format!(
                    "{file} needs the v2 controller {controller}, which this host does not offer"
                ),
            )
        };
        return Err(make::blocked_by_processes(directory, controller).unwrap_or_else(missing));
    }
    value
        .lines()
        .try_for_each(|line| directory.write(file, line))
}
