//! Becoming another program, and the descriptors that pass over.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

/// A null-terminated array of strings as execve(2) takes it, made before it is needed.
#[derive(Debug)]
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringArray {
    /// From strings in their order.
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// execve(2): the program at `path` takes this process over. Returns only when it could not.
pub fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: the path and both arrays are null-terminated and live through the call, which reads them only.
    unsafe {
        libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr());
    }
    crate::last_error()
}

/// execveat(2) of an open program (AT_EMPTY_PATH). Returns only when it could not.
pub fn execve_fd(program: BorrowedFd<'_>, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: as for execve; the path is empty, so the kernel takes the open descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    crate::last_error()
}

/// Marks every descriptor from `first` on close-on-exec, so that nothing of this process passes to the next program.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: this changes a flag of descriptors and touches no memory.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    crate::check(answer).map(drop)
}

/// Ends this process at once, without running what was registered to run at its end: a forked copy must not do the
/// original's work.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit is always allowed and does not return.
    unsafe { libc::_exit(status) }
}
