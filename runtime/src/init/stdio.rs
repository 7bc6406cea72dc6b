//! The first three descriptors, as the container is to have them.

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

/// Opens the container's own null device in place of the host's, where a descriptor is that: it is then a file of the
/// container's mounts, which it can be looked up in (and which criu can save). A container without one keeps the host's.
///
/// Gives what the others are, which is looked at only once.
pub(super) fn reopen_null() -> rustix::io::Result<Streams> {
    let streams = look_at_streams();
    let are_null = streams.map(|stat| stat.is_some_and(|stat| is_null(&stat)));
    if are_null == [false; 3] {
        return Ok(streams);
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(own) = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()) else {
        return Ok(streams);
    };
    if !rustix::fs::fstat(&own).is_ok_and(|stat| is_null(&stat)) {
        return Ok(streams);
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
    Ok(streams)
}

/// What the first three descriptors are; none for one that cannot be looked at.
pub(super) type Streams = [Option<Stat>; 3];

/// Looks at them.
pub(super) fn look_at_streams() -> Streams {
    [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .map(|fd| rustix::fs::fstat(fd).ok())
}

/// Whether it is a null device.
pub(super) fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3)
}
