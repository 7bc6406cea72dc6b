//! `events`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::Runtime;
use super::update::cgroup_of;
use crate::cgroup::{Cgroup, OomEvent, OomWatch, Stats};
use crate::container::{ContainerDir, is_alive};
use crate::error::Error;

/// Something to be told of a container.
#[derive(Debug)]
pub enum Event {
    /// What it uses.
    Stats(Box<Stats>),
    /// The kernel killed a process of it, because memory was over the limit.
    Oom,
}

/// What a container uses now.
///
/// # Errors
/// When it has ended, or its cgroup cannot be read.
pub fn stats(runtime: &Runtime, id: &str) -> Result<Stats, Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let (record, _) = dir.require("events")?;
    Ok(cgroup_of(&record)?.stats()?)
}

/// Tells what a container uses, once in each interval, and when it is out of memory, until it ends or `tell` says no.
///
/// # Errors
/// When it has ended before, or its cgroup cannot be read.
pub fn events(
    runtime: &Runtime,
    id: &str,
    interval: Duration,
    tell: impl FnMut(Event) -> bool,
) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let (record, _) = dir.require("events")?;
    let error = |errno| Error::system(format!("watch container {id:?}"), errno);
    let cgroup = cgroup_of(&record)?;
    let watch = match cgroup.watch_oom() {
        Ok(watch) => Some(watch),
        Err(error) => {
            crate::log::warn(&format!(
                "processes killed for memory are not told: {error}"
            ));
            None
        }
    };
    let pid = Pid::from_raw(record.pid).ok_or(error(rustix::io::Errno::SRCH))?;
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(error)?;
    // The descriptor was opened before this look, so it is of the process that is looked at.
    if !is_alive(record.pid, record.start_time) {
        dir.require("events")?;
    }
    // The container can be deleted meanwhile.
    drop(dir);
    Watcher {
        cgroup,
        watch,
        init,
        interval,
        tell,
    }
    .run()
    .map_err(|failed| match failed {
        Failed::Poll(errno) => error(errno),
        Failed::Cgroup(failed) => failed.into(),
    })
}

enum Failed {
    Poll(rustix::io::Errno),
    Cgroup(crate::cgroup::CgroupError),
}

struct Watcher<T> {
    cgroup: Cgroup,
    watch: Option<OomWatch>,
    init: OwnedFd,
    interval: Duration,
    tell: T,
}

impl<T: FnMut(Event) -> bool> Watcher<T> {
    fn run(mut self) -> Result<(), Failed> {
        let mut next = Instant::now() + self.interval;
        loop {
            let (killed, ended) = self.wait(next).map_err(Failed::Poll)?;
            if killed && !self.tell_kills().map_err(Failed::Cgroup)? {
                return Ok(());
            }
            if ended {
                return Ok(());
            }
            if Instant::now() >= next {
                next += self.interval;
                match self.cgroup.stats() {
                    Ok(stats) => {
                        if !(self.tell)(Event::Stats(Box::new(stats))) {
                            return Ok(());
                        }
                    }
                    // It may end between two files.
                    Err(error) => crate::log::warn(&error.to_string()),
                }
            }
        }
    }

    /// Waits for the next look at the latest; whether memory has something to tell, and whether init has ended.
    fn wait(&self, next: Instant) -> rustix::io::Result<(bool, bool)> {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = vec![PollFd::new(&self.init, PollFlags::IN)];
        if let Some(watch) = &self.watch {
            fds.push(PollFd::from_borrowed_fd(watch.fd(), PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false)),
            Err(errno) => return Err(errno),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ended = is_ready(&fds[0]);
        // A kill and the end that it brings come together: the kill is to be told first.
        Ok((ended || fds.get(1).is_some_and(is_ready), ended))
    }

    /// Tells of what memory has to tell now; whether there may be more later.
    fn tell_kills(&mut self) -> Result<bool, crate::cgroup::CgroupError> {
        let Some(watch) = &mut self.watch else {
            return Ok(true);
        };
        let readable = |watch: &OomWatch| {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::from_borrowed_fd(watch.fd(), PollFlags::IN)];
            matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
        };
        while readable(watch) {
            match watch.take()? {
                Some(OomEvent::Killed) if !(self.tell)(Event::Oom) => return Ok(false),
                Some(OomEvent::Ended) => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }
}
