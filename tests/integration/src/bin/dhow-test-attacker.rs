//! What an attacker does inside a container, for the tests: static, so that it runs in any. It is no part of dhow.
//!
//! `attacker LOG PROGRAM...` looks at every process that it sees, for ever. Whose program is neither its own nor one of
//! those named, is caught: its file is held open, made writable by changing its mount, and written over while it runs and
//! after its end; its root and working directory are looked into; it is traced. Where /tmp/hammer exists it tries to write without a
//! pause: while the kernel counts a writer, nobody can execute the file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::MsFlags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

struct Attack {
    log: File,
    said: HashSet<String>,
    /// The programs that are the container's own, by device and number.
    own: Vec<(u64, u64)>,
    /// Files of others' programs, to be written over when they have ended.
    caught: HashMap<(u64, u64), OwnedFd>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let log = args.next().expect("a log");
    let own = args
        .chain(["/proc/self/exe".to_owned()])
        .filter_map(|path| identity(Path::new(&path)))
        .collect();
    let mut attack = Attack {
        log: OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log"),
        said: HashSet::new(),
        own,
        caught: HashMap::new(),
    };
    attack.say("begins");
    loop {
        attack.turn();
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Attack {
    /// Notes something, once.
    fn say(&mut self, what: &str) {
        if self.said.insert(what.to_owned()) {
            // The container may have been taken away.
            let _ = writeln!(self.log, "{what}");
        }
    }

    fn turn(&mut self) {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            self.look_at(pid, &entry.path());
        }
        let held: Vec<OwnedFd> = self
            .caught
            .values()
            .filter_map(|fd| fd.try_clone().ok())
            .collect();
        for fd in held {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            self.make_writable(&fd, &path);
            self.overwrite(&path);
            if Path::new("/tmp/hammer").exists() {
                for _ in 0..20_000 {
                    let _ = OpenOptions::new().write(true).open(&path);
                }
            }
        }
    }

    fn look_at(&mut self, pid: i32, dir: &Path) {
        let exe = dir.join("exe");
        // Whose file is not to be seen (a process of the kernel's, or one that hides) may still be traced.
        let Some(found) = identity(&exe) else {
            return;
        };
        if self.own.contains(&found) {
            return;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        if !self.caught.contains_key(&found)
            && let Ok(fd) = rustix::fs::openat(CWD, &exe, flags, Mode::empty())
            // It may have executed a program of the container's own since it was looked at, which is not to be written over.
            && rustix::fs::fstat(&fd).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == found)
        {
            self.caught.insert(found, fd);
            if let Ok(path) = std::fs::read_link(&exe) {
                self.say(&format!("program {}", path.display()));
            }
            self.say("caught");
        }
        for place in ["root", "cwd"] {
            // A file that is only on the host, which the test made.
            if dir.join(place).join("tmp/dhow-test-host-only").exists() {
                self.say("host");
            }
        }
        self.steal(pid);
        self.trace(pid);
    }

    /// Takes descriptors out of it; a directory's is a way to the host.
    fn steal(&mut self, pid: i32) {
        let Some(pid) = Pid::from_raw(pid) else {
            return;
        };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        for number in 3..32 {
            let stolen =
                rustix::process::pidfd_getfd(pidfd.as_fd(), number, PidfdGetfdFlags::empty());
            let Ok(fd) = stolen else { continue };
            let up = "../../../../../../../../tmp/dhow-test-host-only";
            let flags = rustix::fs::AtFlags::empty();
            if rustix::fs::statat(&fd, up, flags).is_ok() {
                self.say("host by a stolen descriptor");
            }
        }
    }

    fn trace(&mut self, pid: i32) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let none = nix::sys::ptrace::Options::empty();
        if nix::sys::ptrace::seize(pid, none).is_ok() {
            self.say("traced");
            let _ = nix::sys::ptrace::interrupt(pid);
            let flags = nix::sys::wait::WaitPidFlag::__WALL;
            let _ = nix::sys::wait::waitpid(pid, Some(flags));
            let _ = nix::sys::ptrace::detach(pid, None);
        }
    }

    /// The mount that a file is on, by both ways that there are.
    fn make_writable(&mut self, fd: &OwnedFd, path: &str) {
        let none: Option<&str> = None;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        if nix::mount::mount(none, path, none, flags, none).is_ok() {
            self.say("remounted");
        }
        let change = dhow_sys::mount::Attributes {
            clear: dhow_sys::mount::ATTR_RDONLY,
            ..Default::default()
        };
        if dhow_sys::mount::set_attributes(fd.as_fd(), &change, false).is_ok() {
            self.say("made writable");
        }
    }

    fn overwrite(&mut self, path: &str) {
        let written = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"overwritten"));
        match written {
            Ok(()) => self.say("overwritten"),
            Err(error) => self.say(&error.to_string()),
        }
    }
}
