//! clone3(2) in the manner of fork: the child goes on with a copy of the memory.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Result;
use rustix::process::Pid;

/// What the new process gets of its own, and where it stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneOptions<'a> {
    /// `CLONE_NEW*` flags.
    pub namespaces: u64,
    /// The new process is a sibling: its parent is the caller's parent, which gets its end.
    pub sibling: bool,
    /// The v2 cgroup that it begins in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// The libc crate's constant of this name is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with the new process.
    Parent {
        /// Its id in the caller's pid namespace.
        pid: Pid,
        /// A descriptor of it (close-on-exec).
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// Makes a process that goes on from here with a copy of the caller's memory.
///
/// # Errors
/// The kernel's; `EBUSY` as this call's own when the caller has more than one thread, since a copy of locked locks
/// would never be unlocked.
pub fn clone_process(options: &CloneOptions<'_>) -> Result<Cloned> {
    if !is_single_threaded() {
        return Err(rustix::io::Errno::BUSY);
    }
    let mut pidfd: libc::c_int = -1;
    let mut flags = options.namespaces | libc::CLONE_PIDFD as u64;
    if options.sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    if options.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = libc::clone_args {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling's end is told as the caller's own end would be; the kernel refuses a signal here.
        exit_signal: if options.sibling {
            0
        } else {
            libc::SIGCHLD as u64
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: options.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: neither CLONE_VM nor CLONE_THREAD is set, so the child has its own copy of all memory and goes on on its
    // own copy of this stack; there is one thread (checked above), so no lock is held by a thread that the copy lacks.
    // `pidfd` is written by the kernel before it returns.
    match unsafe { clone3(&args) }? {
        None => Ok(Cloned::Child),
        Some(pid) => Ok(Cloned::Parent {
            pid,
            // SAFETY: CLONE_PIDFD made this descriptor for us and nobody else has it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// clone3(2): the child's pid, and nothing in the child.
///
/// # Safety
/// As that call's: what `args` points to lives through it, and the child does only what a copy of the calling thread may.
pub(crate) unsafe fn clone3(args: &libc::clone_args) -> rustix::io::Result<Option<Pid>> {
    // SAFETY: by the caller's contract; the size is that of `args`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(args),
            size_of::<libc::clone_args>(),
        )
    };
    crate::check(answer).map(|pid| Pid::from_raw(pid as i32))
}

/// Whether the calling process has one thread. Where /proc does not say, it is taken to have.
pub fn is_single_threaded() -> bool {
    // A directory has two links more than it has subdirectories, and here one for each thread: one stat, no reading.
    rustix::fs::stat("/proc/self/task").map_or(true, |stat| stat.st_nlink <= 3)
}
