//! What /proc says of processes: one file, opened, read by one call, closed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Reads a file of a disk, or one that the kernel writes as one record: of both, a read that leaves room in the buffer has
/// read all that there is.
///
/// # Errors
/// The kernel's.
pub(crate) fn read_record(file: &Path) -> rustix::io::Result<Vec<u8>> {
    read_open(rustix::fs::open(
        file,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The same of an open file.
///
/// # Errors
/// The kernel's.
pub(crate) fn read_open(fd: OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match rustix::io::read(&fd, &mut piece) {
            Ok(count) => {
                text.extend_from_slice(&piece[..count]);
                if count < piece.len() {
                    return Ok(text);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What this process had when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    /// The bounding set; all where the kernel does not say, and then the step that sets capabilities will.
    pub(crate) bounding: u64,
    /// The ambient set, which nothing adds to but this program; all where the kernel does not say.
    pub(crate) ambient: u64,
    /// The ignored signals, bit N - 1 for signal N; all where the kernel does not say.
    pub(crate) ignored: u64,
}

/// From /proc/self/status, which is read once: what it is asked for does not change until a process is made.
pub(crate) fn own() -> Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    *OWN.get_or_init(|| parse(&read_record(Path::new("/proc/self/status")).unwrap_or_default()))
}

fn parse(text: &[u8]) -> Own {
    let text = String::from_utf8_lossy(text);
    let bits = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .unwrap_or(u64::MAX)
    };
    Own {
        bounding: bits("CapBnd:"),
        ambient: bits("CapAmb:"),
        ignored: bits("SigIgn:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_all() {
        let own = parse(b"Name:\tx\nSigIgn:\t0000000000001000\nCapBnd:\t00000000a80425fb\n");
        assert_eq!((own.ignored, own.bounding), (1 << 12, 0xa804_25fb));
        assert_eq!(own.ambient, u64::MAX);
        let own = parse(b"Name:\tSigIgn:\nCapAmb:\t0000000000000000\n");
        assert_eq!((own.ignored, own.bounding), (u64::MAX, u64::MAX));
        assert_eq!(own.ambient, 0);
    }

    #[test]
    fn a_record_longer_than_a_read_is_whole() {
        // This process's own environment and arguments may be short; its maps are not one record, so a plain file does.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7u8; 20_000]).unwrap();
        assert_eq!(read_record(file.path()).unwrap().len(), 20_000);
    }
}
