//! How much power this process was given.

/// Whether this process is in a user namespace of somebody's, where root is not the host's.
pub fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this process is not the host's root: another user, or root of a user namespace.
pub(crate) fn is_unprivileged() -> bool {
    dhow_sys::process::user_at_start() != 0 || is_in_user_namespace()
}
