//! How a process joins a container's cgroup.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::directory::Directory;
use super::{Cgroup, CgroupError, hierarchies};

/// The descriptors through which a process joins.
///
/// Joining by `cgroup.procs` costs milliseconds on an idle machine, since the kernel then waits for every processor; a
/// thread that writes `0` to a v1 `tasks` file, and a process born in its v2 cgroup, cost a tenth of one.
#[derive(Debug)]
pub struct Joiner {
    v2: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

impl Joiner {
    /// The v2 cgroup's directory, for CLONE_INTO_CGROUP; none where there is no v2 tree.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling thread, the only one of its process, into every v1 hierarchy. Async-signal-safe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join_self(&self) -> io::Result<()> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0")?;
        }
        Ok(())
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let mut fds = std::mem::take(&mut self.tasks);
        fds.extend(self.v2.take());
        dhow_sys::exec::close_all(fds);
    }
}

impl Cgroup {
    /// The descriptors with which a process joins, opened here so that the process itself opens nothing.
    ///
    /// # Errors
    /// When a directory is not there any more.
    pub fn join(&self) -> Result<Joiner, CgroupError> {
        let mut joiner = Joiner {
            v2: None,
            tasks: Vec::with_capacity(self.places.len()),
        };
        for place in &self.places {
            let directory = &place.directory;
            let opened = if place.is_v2() {
                directory
                    .fd()
                    .and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))
                    .map(|fd| joiner.v2 = Some(fd))
            } else {
                // By its whole path: no descriptor of the directory is needed for anything else here.
                let file = directory.path().join("tasks");
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(&file, flags, rustix::fs::Mode::empty())
                    .map(|fd| joiner.tasks.push(fd))
            };
            opened.map_err(|errno| CgroupError::Read {
                file: directory.path().to_owned(),
                source: errno.into(),
            })?;
        }
        Ok(joiner)
    }

    /// As [`Cgroup::join`], but in the v2 tree beside a process of the container (its id in the caller's pid namespace).
    ///
    /// For a container that has divided its own v2 cgroup: the kernel answers EBUSY to who would join at its top.
    ///
    /// # Errors
    /// When the process or a directory is not there any more.
    pub fn join_beside(&self, process: i32) -> Result<Joiner, CgroupError> {
        let mut joiner = self.join()?;
        let file = format!("/proc/{process}/cgroup");
        let text = std::fs::read(&file).map_err(|source| CgroupError::Read {
            file: file.into(),
            source,
        })?;
        let hierarchies = hierarchies::mounted()?;
        let beside = hierarchies
            .iter()
            .find(|hierarchy| hierarchy.is_v2())
            .and_then(|hierarchy| hierarchies::own_directory(hierarchy, &text));
        if let (Some(path), Some(_)) = (beside, &joiner.v2) {
            let directory = Directory::new(path);
            let fd = directory
                .fd()
                .and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))
                .map_err(|errno| CgroupError::Read {
                    file: directory.path().to_owned(),
                    source: errno.into(),
                })?;
            joiner.v2 = Some(fd);
        }
        Ok(joiner)
    }
}
