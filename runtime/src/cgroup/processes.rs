//! The processes of a cgroup: who they are, stopping them, ending them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::directory::{Directory, find_entry};
use super::{Cgroup, CgroupError};
use crate::procfs::read_record;

/// How long processes may take until they are stopped.
const FREEZE_SECONDS: u64 = 10;

impl Cgroup {
    /// The ids of all processes in it and below it.
    ///
    /// # Errors
    /// When it cannot be read; a cgroup that is gone has none.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut found = BTreeSet::new();
        if let Some(directory) = self.leading() {
            collect(directory, &mut found)?;
        }
        Ok(found.into_iter().collect())
    }

    /// Every process is in every hierarchy, so one tells of all: the v2 tree, or a v1 controller that only root moves
    /// processes in.
    fn leading(&self) -> Option<&Directory> {
        self.v2()
            .or_else(|| self.v1("pids"))
            .or_else(|| self.v1("devices"))
            .or_else(|| self.v1("memory"))
            .or_else(|| self.places.first().map(|place| &place.directory))
    }

    /// Sends a signal to every process in it and below it, until none is left that was not signalled.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kill_all(&self, signal: i32) -> Result<(), CgroupError> {
        // The kernel ends them all at once, also those that come into being meanwhile (5.14).
        if let Some(v2) = self.v2()
            && signal == Signal::KILL.as_raw()
            && v2.try_write("cgroup.kill", "1").is_ok()
        {
            return Ok(());
        }
        // Where they can be stopped, none can be missed.
        let frozen = !self.is_frozen().unwrap_or(false) && self.freeze().is_ok();
        let sent = self.signal_each(signal);
        if frozen {
            self.thaw()?;
        }
        sent
    }

    fn signal_each(&self, signal: i32) -> Result<(), CgroupError> {
        let mut signalled = BTreeSet::new();
        loop {
            let new: Vec<i32> = self
                .processes()?
                .into_iter()
                .filter(|process| signalled.insert(*process))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for process in new {
                match dhow_sys::signal::kill(process, signal) {
                    // One that has ended meanwhile needs none.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        return Err(CgroupError::Signal {
                            process,
                            signal,
                            source: errno.into(),
                        });
                    }
                }
            }
        }
    }

    /// Stops every process in it, and returns when all are stopped, or somebody lets them go on meanwhile.
    ///
    /// # Errors
    /// When there is no freezer, or a process cannot be stopped; they go on then.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let frozen = match self.freezer()? {
            Freezer::V1(directory) => freeze_v1(directory),
            Freezer::V2(directory) => freeze_v2(directory),
        };
        if frozen.is_err() {
            // Half stopped is worst; the first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When there is no freezer.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let thawed = self.freezer().and_then(|freezer| match freezer {
            Freezer::V1(directory) => directory.write(V1_STATE, "THAWED"),
            Freezer::V2(directory) => directory.write(V2_FREEZE, "0"),
        });
        match thawed {
            // Whoever attends to the container may remove the cgroup at this moment; nobody is in it then.
            Err(_) if self.is_removed() => Ok(()),
            thawed => thawed,
        }
    }

    /// Whether it was there and is not any more.
    fn is_removed(&self) -> bool {
        self.leading()
            .is_some_and(|directory| !directory.path().exists())
    }

    /// Whether its processes are stopped.
    ///
    /// # Errors
    /// When the freezer cannot be read; without a freezer it is `false`.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self.freezer() {
            Ok(Freezer::V1(directory)) => Ok(directory.read(V1_STATE)?.trim() != "THAWED"),
            Ok(Freezer::V2(directory)) => Ok(directory.read(V2_FREEZE)?.trim() == "1"),
            Err(_) => Ok(false),
        }
    }

    /// v2's is preferred on a hybrid host: what it has stopped can still be killed.
    fn freezer(&self) -> Result<Freezer<'_>, CgroupError> {
        if let Some(directory) = self.v2().filter(|directory| directory.has(V2_FREEZE)) {
            return Ok(Freezer::V2(directory));
        }
        self.v1("freezer")
            .map(Freezer::V1)
            .ok_or(CgroupError::MissingController {
                controller: "freezer",
                limit: "stopping processes",
            })
    }
}

enum Freezer<'a> {
    V1(&'a Directory),
    V2(&'a Directory),
}

const V1_STATE: &str = "freezer.state";
const V2_FREEZE: &str = "cgroup.freeze";

/// A v1 freezer may stay at FREEZING while processes come into being, and is then asked again.
fn freeze_v1(directory: &Directory) -> Result<(), CgroupError> {
    let until = Instant::now() + Duration::from_secs(FREEZE_SECONDS);
    let mut turn = 0u32;
    loop {
        directory.write(V1_STATE, "FROZEN")?;
        if directory.read(V1_STATE)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(still_running(directory));
        }
        turn += 1;
        if turn.is_multiple_of(50) {
            directory.write(V1_STATE, "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn still_running(directory: &Directory) -> CgroupError {
    CgroupError::Freeze {
        directory: directory.path().to_owned(),
        seconds: FREEZE_SECONDS,
    }
}

/// v2 tells through `cgroup.events` when all are stopped.
fn freeze_v2(directory: &Directory) -> Result<(), CgroupError> {
    const TURN: Duration = Duration::from_millis(50);
    let file = "cgroup.events";
    let failed = |source: io::Error| CgroupError::Read {
        file: directory.path().join(file),
        source,
    };
    let events = directory
        .open(file, OFlags::RDONLY)
        .map_err(|errno| failed(errno.into()))?;
    directory.write(V2_FREEZE, "1")?;
    let until = Instant::now() + Duration::from_secs(FREEZE_SECONDS);
    loop {
        let mut text = [0; 256];
        let read =
            rustix::io::pread(&events, &mut text, 0).map_err(|errno| failed(errno.into()))?;
        let text = String::from_utf8_lossy(&text[..read]);
        // Nobody there is as good as everybody stopped.
        if find_entry(&text, "frozen") == Some(1) || find_entry(&text, "populated") == Some(0) {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(still_running(directory));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: TURN.min(left).subsec_nanos().into(),
        };
        let mut waited = [PollFd::new(&events, PollFlags::PRI)];
        match rustix::event::poll(&mut waited, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        // Who lets them go on, or removes the cgroup, wakes nobody.
        if directory.read(V2_FREEZE)?.trim() == "0" {
            return Ok(());
        }
    }
}

/// Whether the cgroup of a file was removed, before or after the file was opened.
fn is_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NODEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The processes of a directory and those below it. What is gone has none.
fn collect(directory: &Directory, found: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    let failed = |source: io::Error| CgroupError::Read {
        file: directory.path().to_owned(),
        source,
    };
    let threaded = Some(Errno::OPNOTSUPP.raw_os_error());
    match directory.try_read("cgroup.procs") {
        // 0 stands for a process that is not in this one's pid namespace; to kill(2) it is the caller's own group.
        Ok(text) => found.extend(
            text.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|process| *process > 0),
        ),
        Err(error) if is_gone(&error) => return Ok(()),
        // The kernel tells the processes of a threaded cgroup in the one above only, where others may be too.
        Err(error) if error.raw_os_error() == threaded => {
            let threads = directory.try_read("cgroup.threads").map_err(failed)?;
            let threads = threads.lines().filter_map(|line| line.parse().ok());
            found.extend(threads.filter_map(process_of));
        }
        Err(error) => return Err(failed(error)),
    }
    for below in below(directory).map_err(failed)? {
        collect(&below, found)?;
    }
    Ok(())
}

/// The process of a thread; none when it has ended, or is not in this pid namespace.
fn process_of(thread: i32) -> Option<i32> {
    let text = read_record(Path::new(&format!("/proc/{thread}/status"))).ok()?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    number.trim().parse().ok()
}

/// The cgroups directly below one.
pub(super) fn below(directory: &Directory) -> io::Result<Vec<Directory>> {
    let entries = match directory.fd().and_then(Dir::read_from) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            // The directory was removed meanwhile.
            Err(Errno::NOENT) => break,
            other => other?,
        };
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(name);
            found.push(Directory::new(
                directory.path().join::<&std::ffi::OsStr>(name),
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::{CgroupRecord, PlaceRecord};
    use super::*;

    #[test]
    fn in_a_cgroup_that_was_removed_nobody_is_stopped() {
        let cgroup = |controllers: &[&str], directory: &Path| {
            let place = PlaceRecord {
                controllers: controllers.iter().map(ToString::to_string).collect(),
                directory: directory.to_owned(),
            };
            let record = CgroupRecord {
                places: vec![place],
                unit: None,
            };
            Cgroup::open(&record).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        for controllers in [&["freezer"] as &[_], &[]] {
            cgroup(controllers, &gone).thaw().unwrap();
            // One that is there, and has no freezer.
            let there = cgroup(&["pids"], dir.path()).thaw();
            assert!(
                matches!(there, Err(CgroupError::MissingController { .. })),
                "{there:?}"
            );
        }
    }

    #[test]
    fn who_is_in_no_pid_namespace_of_ours_is_not_signalled() {
        let dir = std::env::temp_dir().join(format!("dhow-cgroup-procs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // As the kernel tells a process of another pid namespace: signalled, 0 would be this process and its group.
        std::fs::write(dir.join("cgroup.procs"), "0\n17\n0\n").unwrap();
        let mut found = BTreeSet::new();
        collect(&Directory::new(dir.clone()), &mut found).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, BTreeSet::from([17]));
    }
}
