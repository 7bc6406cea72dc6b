//! Becoming another program, and the descriptors that pass over.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

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

/// Closes descriptors, those with neighbouring numbers by one call.
pub fn close_all(fds: Vec<OwnedFd>) {
    let mut numbers: Vec<RawFd> = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let [first, .., last] = run else {
            close(run[0]);
            continue;
        };
        // SAFETY: each number in the range was taken out of an OwnedFd above, so nobody else closes or uses it.
        let answer = unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) };
        if answer == -1 {
            // Before Linux 5.9.
            run.iter().copied().for_each(close);
        }
    }
}

/// Closes every descriptor from `first` on but those that are kept. Only for a process that was made to go on with these alone,
/// and that never gives back what it had besides.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 5.9.
pub fn close_others(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = kept
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .collect();
    kept.sort_unstable();
    let mut from = first;
    // The last number is no descriptor's, and ends the last gap.
    for keep in kept.into_iter().chain([libc::c_uint::MAX]) {
        if keep > from {
            // SAFETY: this touches no memory, and by this function's contract nobody uses these numbers any more.
            let answer = unsafe { libc::syscall(libc::SYS_close_range, from, keep - 1, 0) };
            crate::check(answer)?;
        }
        from = from.max(keep.saturating_add(1));
    }
    Ok(())
}

fn close(number: RawFd) {
    // SAFETY: only called for numbers that were taken out of an OwnedFd.
    unsafe {
        libc::close(number);
    }
}

/// Ends this process at once, without running what was registered to run at its end: a forked copy must not do the
/// original's work.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit is always allowed and does not return.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn others_are_closed_and_what_is_kept_is_not() {
        // In a process of its own: other tests have descriptors too.
        // SAFETY: the child only closes, looks and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: duplicates of descriptors, as numbers that nobody has.
            unsafe {
                for number in [100, 101, 103, 105] {
                    libc::dup2(0, number);
                }
            }
            // SAFETY: both are open until the process ends.
            let kept = unsafe { [BorrowedFd::borrow_raw(103), BorrowedFd::borrow_raw(101)] };
            let done = close_others(101, &kept).is_ok();
            // SAFETY: F_GETFD takes no argument.
            let open = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
            let right = [100, 101, 103].into_iter().all(open) && !open(102) && !open(105);
            exit_now(i32::from(!(done && right)));
        }
        let mut status = -1;
        // SAFETY: `status` lives through the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
    }

    #[test]
    fn all_are_closed_and_no_other() {
        let open = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let (first, kept, others) = (open(), open(), [open(), open(), open()]);
        let mut numbers = vec![first.as_raw_fd()];
        numbers.extend(others.iter().map(AsRawFd::as_raw_fd));
        close_all([first].into_iter().chain(others).collect());
        for number in numbers {
            let path = format!("/proc/self/fd/{number}");
            assert!(std::fs::symlink_metadata(path).is_err(), "{number}");
        }
        rustix::io::write(kept.as_fd(), &1u64.to_ne_bytes()).unwrap();
        close_all(Vec::new());
    }
}
