//! Descriptors that the caller passes through to the container.

use crate::error::Error;

/// How many sockets systemd passed to this process for the container. As sd_listen_fds(3) has it, they are ours only when
/// LISTEN_PID names this process.
pub(super) fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// Tells the container of the sockets that pass to it; it is the first process there.
pub(super) fn announce(env: &mut Vec<String>) {
    let count = listen_fds();
    if count > 0 {
        env.push(format!("LISTEN_FDS={count}"));
        env.push("LISTEN_PID=1".to_owned());
    }
}

/// Whether as many descriptors after the first three are open as are to pass. Looked at before this process opens any of its
/// own: one of them in a gap would pass in its place, and lead out of the container.
///
/// # Errors
/// Naming the first that is not open.
pub(super) fn check(count: u32) -> Result<(), Error> {
    for number in 3..3u32.saturating_add(count) {
        let path = format!("/proc/self/fd/{number}");
        rustix::fs::access(&path, rustix::fs::Access::EXISTS).map_err(|_| {
            Error::Asked(format!(
                "unable to stat preserved-fd {} (of {count}): descriptor {number} is not open",
                number - 3
            ))
        })?;
    }
    Ok(())
}
