//! How processes end.

use std::os::fd::BorrowedFd;

use jiff::Timestamp;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use serde::{Deserialize, Serialize};

/// The exit status of a container whose end nobody saw.
pub const UNKNOWN_EXIT: u8 = 255;

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit status; 128 + N when signal N ended it; 125 to 127 when it could not be started.
    pub code: u8,
    /// Whether the kernel killed something in it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When, RFC 3339.
    pub finished: String,
    /// Why it could not be started, or why its end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Exit {
    /// An end now.
    pub fn now(code: u8) -> Self {
        Self {
            code,
            oom_killed: false,
            finished: Timestamp::now().to_string(),
            error: None,
        }
    }

    /// A start that failed now.
    pub fn failed(code: u8, error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::now(code)
        }
    }
}

/// The exit status of the child behind `pidfd`, which is reaped; none while it runs.
///
/// # Errors
/// When it is no child of this process.
pub fn reap(pidfd: BorrowedFd<'_>) -> rustix::io::Result<Option<u8>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::PidFd(pidfd), options)?.map(|status| code(&status)))
}

/// Reaps what was left to this process as a subreaper: children that have ended and that are none of `ours`.
pub fn reap_strangers(ours: &[i32]) {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // An ended child of ours would hide those behind it; it is reaped soon, and then the next call sees them.
    while let Ok(Some(status)) = waitid(WaitId::All, look) {
        let _ = status;
        let Some(pid) = ended_stranger(ours) else {
            return;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if waitid(WaitId::Pid(pid), options).is_err() {
            return;
        }
    }
}

/// A zombie among this process's children that is none of ours.
fn ended_stranger(ours: &[i32]) -> Option<rustix::process::Pid> {
    let children = std::fs::read_to_string("/proc/thread-self/children").ok()?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse::<i32>().ok())
        .filter(|pid| !ours.contains(pid))
        .filter_map(rustix::process::Pid::from_raw)
        .find(|pid| {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            matches!(waitid(WaitId::Pid(*pid), look), Ok(Some(_)))
        })
}

fn code(status: &WaitIdStatus) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => return UNKNOWN_EXIT,
    };
    u8::try_from(number & 0xff).unwrap_or(UNKNOWN_EXIT)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    fn ends(script: &str) -> u8 {
        // The child is reaped through its descriptor.
        #[allow(clippy::zombie_processes)]
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let mut wait = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut wait, None).unwrap();
        reap(pidfd.as_fd()).unwrap().unwrap()
    }

    #[test]
    fn a_status_is_the_processes_own_and_a_signal_is_added_to_128() {
        assert_eq!(ends("exit 0"), 0);
        assert_eq!(ends("exit 42"), 42);
        assert_eq!(ends("kill -9 $$"), 137);
        assert_eq!(ends("kill -15 $$"), 143);
    }
}
