//! Being told when the kernel kills a process of a cgroup because memory was over the limit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use super::directory::Directory;
use super::{Cgroup, CgroupError, Controller};

/// What a watch has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// A process was killed.
    Killed,
    /// The cgroup is gone, or nobody is in it any more: nothing more will come.
    Ended,
}

/// A watch over a cgroup's memory. Its descriptor becomes readable when there is something to be taken.
#[derive(Debug)]
pub struct OomWatch {
    directory: Directory,
    watch: Watch,
    /// How many kills were seen until now.
    seen: u64,
}

#[derive(Debug)]
enum Watch {
    /// An eventfd that the kernel writes to, with the file that it is registered for.
    V1 { event: OwnedFd, _control: OwnedFd },
    /// Both files' changes.
    V2 { inotify: OwnedFd },
}

impl Cgroup {
    /// Begins to watch.
    ///
    /// # Errors
    /// When there is no memory controller, or the kernel refuses.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        let (directory, watch) =
            match self.require("memory", "memory", "telling of killed processes")? {
                Controller::V1(directory) => (directory, watch_v1(directory)?),
                Controller::V2(directory) => (directory, watch_v2(directory)?),
            };
        let directory = Directory::new(directory.path().to_owned());
        let mut watch = OomWatch {
            directory,
            watch,
            seen: 0,
        };
        watch.seen = watch.kills().unwrap_or(0);
        Ok(watch)
    }
}

impl OomWatch {
    /// What to wait for with poll(2), for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.watch {
            Watch::V1 { event, .. } => event.as_fd(),
            Watch::V2 { inotify } => inotify.as_fd(),
        }
    }

    /// Takes what there is, without waiting; none where the change was about something else.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn take(&mut self) -> Result<Option<OomEvent>, CgroupError> {
        self.drain().map_err(|errno| self.failed(errno.into()))?;
        match &self.watch {
            // The kernel writes also when the cgroup is removed, and then its files are gone.
            Watch::V1 { .. } if !self.directory.has("cgroup.event_control") => {
                Ok(Some(OomEvent::Ended))
            }
            Watch::V1 { .. } => Ok(Some(OomEvent::Killed)),
            Watch::V2 { .. } => {
                if let Some(kills) = self.kills()
                    && kills > self.seen
                {
                    self.seen = kills;
                    return Ok(Some(OomEvent::Killed));
                }
                let populated = self.directory.entry("cgroup.events", "populated");
                Ok((!matches!(populated, Ok(Some(1)))).then_some(OomEvent::Ended))
            }
        }
    }

    /// Empties the descriptor, so that it tells only of what comes next.
    fn drain(&self) -> rustix::io::Result<()> {
        let mut buffer = [0; 1024];
        match rustix::io::read(self.fd(), &mut buffer) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// With those of cgroups below it; none where the directory is gone.
    fn kills(&self) -> Option<u64> {
        match self.watch {
            Watch::V1 { .. } => None,
            Watch::V2 { .. } => self
                .directory
                .entry("memory.events", "oom_kill")
                .ok()
                .flatten(),
        }
    }

    fn failed(&self, source: io::Error) -> CgroupError {
        CgroupError::Read {
            file: self.directory.path().to_owned(),
            source,
        }
    }
}

fn watch_v1(directory: &Directory) -> Result<Watch, CgroupError> {
    let failed = |errno: Errno| CgroupError::Read {
        file: directory.path().join("memory.oom_control"),
        source: errno.into(),
    };
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = rustix::event::eventfd(0, flags).map_err(failed)?;
    let control = directory
        .open("memory.oom_control", OFlags::RDONLY)
        .map_err(failed)?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    directory.write("cgroup.event_control", &line)?;
    Ok(Watch::V1 {
        event,
        _control: control,
    })
}

/// cgroup files tell of their changes, but not of their end; that nobody is in it any more is as good.
fn watch_v2(directory: &Directory) -> Result<Watch, CgroupError> {
    let failed = |file: &str, errno: Errno| CgroupError::Read {
        file: directory.path().join(file),
        source: errno.into(),
    };
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let inotify = inotify::init(flags).map_err(|errno| failed("memory.events", errno))?;
    for file in ["memory.events", "cgroup.events"] {
        let path = directory.path().join(file);
        inotify::add_watch(&inotify, &path, inotify::WatchFlags::MODIFY)
            .map_err(|errno| failed(file, errno))?;
    }
    Ok(Watch::V2 { inotify })
}
