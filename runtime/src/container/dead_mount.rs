//! State directories on mounts whose server does not answer (FUSE, NFS): whoever looks there waits for ever, often beyond the reach
//! of any signal. So somebody else looks first.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};

/// File systems that answer by themselves: tmpfs, ramfs, ext2 to 4, XFS, Btrfs, F2FS, ZFS, bcachefs.
const LOCAL: [u64; 8] = [
    0x0102_1994,
    0x8584_58f6,
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
];

/// What can be said of a path before anybody looks there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is there.
    Nothing,
    /// Whoever looks gets an answer.
    Answers,
    /// Whoever looks waits.
    Waits,
}

/// Whether what is at a path can be looked at within this time.
pub(super) fn look(path: &Path, limit: Duration) -> Look {
    match is_known_to_be_local(path) {
        Ok(true) => Look::Answers,
        Err(Errno::NOENT) => Look::Nothing,
        // The kernel does not know yet.
        Err(Errno::AGAIN) if is_new_in_a_local_directory(path) => Look::Nothing,
        _ if looked_at_by_another(path, limit) => Look::Answers,
        _ => Look::Waits,
    }
}

/// Whether nothing is at a path yet, which the kernel can find out by itself.
fn is_new_in_a_local_directory(path: &Path) -> bool {
    let is_local = |parent| is_known_to_be_local(parent) == Ok(true);
    path.parent().is_some_and(is_local) && matches!(rustix::fs::lstat(path), Err(Errno::NOENT))
}

/// Whether what is at a path is on a local file system, as far as the kernel tells it without asking anybody.
fn is_known_to_be_local(path: &Path) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?;
    Ok(dhow_sys::mount::file_system_of(fd.as_fd()).is_ok_and(|of| LOCAL.contains(&of)))
}

fn looked_at_by_another(path: &Path, limit: Duration) -> bool {
    match clone_process(&CloneOptions::default()) {
        Ok(Cloned::Child) => {
            // Nobody is to wait for this one at the other end of a pipe.
            let _ = dhow_sys::exec::close_others(0, &[]);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            // What it finds is for the one who waits to find.
            let _ = rustix::fs::open(path, flags, Mode::empty()).and_then(rustix::fs::fstat);
            dhow_sys::exec::exit_now(0)
        }
        Ok(Cloned::Parent { pidfd, .. }) => ends_within(&pidfd, limit),
        // Without another process there is nobody to find out but this one.
        Err(_) => true,
    }
}

fn ends_within(child: &OwnedFd, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(child, PollFlags::IN)];
    if rustix::event::poll(&mut fds, Some(&timeout)) == Ok(0) {
        // It may be beyond this, and ends then when the mount does.
        let _ = dhow_sys::signal::send(child.as_fd(), 9);
        return false;
    }
    let _ = rustix::process::waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
    true
}
