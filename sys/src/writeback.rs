//! Writing a file's pages to disk before anybody waits for it.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Begins to write the dirty pages of a part of a file to disk, and does not wait for the end of it (sync_file_range(2)). It promises
/// nothing; it leaves a later fsync(2) less to do.
///
/// # Errors
/// When the file is none that has pages, or the disk failed.
pub fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) -> rustix::io::Result<()> {
    let overflow = |_| rustix::io::Errno::INVAL;
    let offset = i64::try_from(offset).map_err(overflow)?;
    let length = i64::try_from(length).map_err(overflow)?;
    // SAFETY: the descriptor is open while it is borrowed, and the call touches no memory of ours.
    let answer = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    crate::check(answer.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    #[test]
    fn a_file_has_pages_and_a_pipe_has_none() {
        let file = rustix::fs::open(
            std::env::temp_dir(),
            rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR,
            rustix::fs::Mode::RUSR,
        );
        let file = file.expect("a file without a name");
        rustix::io::write(&file, b"content").expect("write");
        super::start_writeback(file.as_fd(), 0, 7).expect("begin to write");
        let (_, pipe) = rustix::pipe::pipe().expect("a pipe");
        let refused = super::start_writeback(pipe.as_fd(), 0, 7);
        assert_eq!(refused, Err(rustix::io::Errno::SPIPE));
    }
}
