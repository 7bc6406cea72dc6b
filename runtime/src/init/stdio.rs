//! The first three descriptors, as the container is to have them.

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

/// Opens the container's own null device in place of the host's, where a descriptor is that: it is then a file of the
/// container's mounts, which it can be looked up in (and which criu can save). A container without one keeps the host's.
pub(super) fn reopen_null() -> rustix::io::Result<()> {
    let is_null = |stat: Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    };
    let standard = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let are_null = standard.map(|fd| rustix::fs::fstat(fd).is_ok_and(is_null));
    if are_null == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(own) = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()) else {
        return Ok(());
    };
    if !rustix::fs::fstat(&own).is_ok_and(is_null) {
        return Ok(());
    }
    rustix::fs::fcntl_setfl(&own, OFlags::RDWR)?;
    if are_null[0] {
        rustix::stdio::dup2_stdin(&own)?;
    }
    if are_null[1] {
        rustix::stdio::dup2_stdout(&own)?;
    }
    if are_null[2] {
        rustix::stdio::dup2_stderr(&own)?;
    }
    Ok(())
}
