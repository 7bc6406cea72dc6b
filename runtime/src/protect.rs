//! The program's own file, out of the reach of containers.
//!
//! A process in a container can open `/proc/PID/exe` of a runtime that enters it, and once that process has ended, write
//! to the file: the host's next container would run what it wrote (CVE-2019-5736). So what enters containers is executed
//! from a mount of its own that nobody can write to ([`dhow_sys::sealed`]), or from a sealed copy in memory.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use dhow_sys::exec::StringArray;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::error::Error;

const OWN: &str = "/proc/self/exe";

/// Whether this process, whose own file this is, was executed from where nobody can write.
fn is_protected(own: &OwnedFd) -> bool {
    if dhow_sys::sealed::is_sealed(own).unwrap_or(false) {
        return true;
    }
    // A file of a memory file system that is not linked anywhere and cannot be opened for writing: sealed.
    rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::fcntl_get_seals)
        .is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// Goes on from a protected copy of this program; returns when this is one. Mostly it is: dhow-sys's entry point has done the
/// same before the C library began, and what it could not do is done here.
///
/// # Errors
/// When neither way works.
pub fn ensure() -> Result<(), Error> {
    if dhow_sys::entry::is_protected() {
        return Ok(());
    }
    let own = rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::system("find the program's own file", errno))?;
    if is_protected(&own) {
        return Ok(());
    }
    let own = match sealed_mount(&own) {
        Ok(own) => own,
        // An older kernel, no power to mount, a program that is not at its path any more.
        Err(_) => sealed_copy().map_err(|errno| Error::system("protect the program", errno))?,
    };
    let strings = |values: Vec<std::ffi::OsString>| -> Vec<CString> {
        values
            .into_iter()
            .filter_map(|value| CString::new(value.into_vec()).ok())
            .collect()
    };
    let args = StringArray::new(strings(std::env::args_os().collect()));
    let pairs = std::env::vars_os().map(|(name, value)| {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        pair
    });
    let env = StringArray::new(strings(pairs.collect()));
    let errno = dhow_sys::exec::execve_fd(own.as_fd(), &args, &env);
    Err(Error::system("execute the protected program", errno))
}

/// The same file, on a sealed mount.
fn sealed_mount(own: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = rustix::fs::readlink(OWN, Vec::new())?;
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
    let sealed = dhow_sys::sealed::open(&path)?;
    // An upgrade may have put another file there, or the path be one of another mount namespace.
    if !dhow_sys::sealed::is_same(own, &sealed)? {
        return Err(Errno::NOENT);
    }
    Ok(sealed)
}

/// A copy in memory that nobody can change.
fn sealed_copy() -> Result<OwnedFd, Errno> {
    let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let size = usize::try_from(rustix::fs::fstat(&own)?.st_size).map_err(|_| Errno::FBIG)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create("dhow-runtime", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create("dhow-runtime", flags)?,
        answer => answer?,
    };
    let mut left = size;
    while left > 0 {
        let sent = rustix::fs::sendfile(&copy, &own, None, left)?;
        if sent == 0 {
            return Err(Errno::IO);
        }
        left -= sent;
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}
