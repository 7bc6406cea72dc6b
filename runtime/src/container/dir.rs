//! A container's directory: locked, read, and its files replaced whole.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;

use super::dead_mount::{self, Look};
use super::{ContainerError, Record, Status, check_id, is_alive};
use crate::spec::Spec;

/// The socket on which init waits.
pub const START_SOCKET: &str = "start.sock";

/// Its name until the container is created; of `run` it is a plain file.
pub const COMING_START_SOCKET: &str = ".start.sock";

/// The bundle's configuration as it was at creation.
const CONFIGURATION: &str = "config.json";

/// Sees that the directory of all containers can be looked at: on a dead mount every command would wait for ever. Says whether
/// anything is there, as far as it is known.
///
/// # Errors
/// When it does not answer.
pub fn check_root(root: &Path) -> Result<bool, ContainerError> {
    const LIMIT: Duration = Duration::from_secs(10);
    match dead_mount::look(root, LIMIT) {
        Look::Nothing => Ok(false),
        Look::Answers => Ok(true),
        Look::Waits => Err(ContainerError::Unanswered {
            path: root.to_owned(),
            seconds: LIMIT.as_secs(),
        }),
    }
}

/// A container's directory.
#[derive(Debug)]
pub struct ContainerDir {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
    /// Whether this value has the lock.
    locked: Cell<bool>,
}

impl ContainerDir {
    /// Makes the directory of a new container, locked.
    ///
    /// # Errors
    /// When there is one already; when the directory of all containers does not answer.
    pub fn create(root: &Path, id: &str) -> Result<Self, ContainerError> {
        check_id(id)?;
        loop {
            let path = Self::make_directory(root, id)?;
            match Self::open_directory(path, id).and_then(Self::locked_and_empty) {
                // Between its making and its lock a `delete` took it for what a crash had left.
                Err(ContainerError::NotFound(_)) => {}
                answer => return answer,
            }
        }
    }

    /// Locks a directory that was just made by this name. After a `delete` of that moment it may be what another `create` has
    /// made since, who is to have it then.
    fn locked_and_empty(self) -> Result<Self, ContainerError> {
        self.lock()?;
        match self.has(CONFIGURATION) {
            true => Err(ContainerError::Exists(self.id)),
            false => Ok(self),
        }
    }

    /// Makes the directory of a container, and that of all where there is none yet.
    fn make_directory(root: &Path, id: &str) -> Result<PathBuf, ContainerError> {
        let is_there = check_root(root)?;
        let path = root.join(id);
        let system = |doing, path: &Path, errno| ContainerError::System {
            doing,
            path: path.to_owned(),
            errno,
        };
        let mode = Mode::from_raw_mode(0o700);
        let made = match is_there {
            true => rustix::fs::mkdir(&path, mode),
            false => Err(Errno::NOENT),
        };
        match made {
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(root).map_err(|error| {
                    system(
                        "make",
                        root,
                        Errno::from_io_error(&error).unwrap_or(Errno::IO),
                    )
                })?;
                rustix::fs::chmod(root, Mode::from_raw_mode(0o711))
                    .map_err(|errno| system("make", root, errno))?;
                rustix::fs::mkdir(&path, mode)
            }
            answer => answer,
        }
        .map_err(|errno| match errno {
            Errno::EXIST => ContainerError::Exists(id.to_owned()),
            errno => system("make", &path, errno),
        })?;
        Ok(path)
    }

    /// The directory of a container that is there.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path, id: &str) -> Result<Self, ContainerError> {
        check_id(id)?;
        check_root(root)?;
        Self::open_directory(root.join(id), id)
    }

    fn open_directory(path: PathBuf, id: &str) -> Result<Self, ContainerError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self {
                id: id.to_owned(),
                path,
                fd,
                locked: Cell::new(false),
            }),
            Err(Errno::NOENT) => Err(ContainerError::NotFound(id.to_owned())),
            Err(errno) => Err(ContainerError::System {
                doing: "open",
                path,
                errno,
            }),
        }
    }

    fn system(&self, doing: &'static str, name: &str, errno: Errno) -> ContainerError {
        ContainerError::System {
            doing,
            path: self.path.join(name),
            errno,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for the lock, which lasts as long as this value.
    ///
    /// # Errors
    /// Not found when the container was deleted in the meantime.
    pub fn lock(&self) -> Result<(), ContainerError> {
        rustix::fs::flock(&self.fd, FlockOperation::LockExclusive)
            .map_err(|errno| self.system("lock", "", errno))?;
        self.locked.set(true);
        // Whoever had the lock before may have removed the directory; one of the same name would be another container.
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| self.system("lock", "", errno))?;
        match stat.st_nlink {
            0 => Err(ContainerError::NotFound(self.id.clone())),
            _ => Ok(()),
        }
    }

    /// As [`lock`](Self::lock), but waits no longer than this: who has the lock may be stuck in a hook or on a dead mount.
    ///
    /// # Errors
    /// Not found when the container was deleted in the meantime; held when the lock is not let go.
    pub fn lock_within(&self, limit: Duration) -> Result<(), ContainerError> {
        let end = Instant::now() + limit;
        while !self.try_lock() {
            if Instant::now() > end {
                return Err(ContainerError::Held(self.id.clone()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.lock()
    }

    /// Who has the lock. The kernel tells who has taken it, which may be a process that has ended since: what that one made
    /// may have the lock now, and its id may be another's. So only who has the directory open is told.
    pub fn lock_holder(&self) -> Option<Pid> {
        self.lock_taker().filter(|pid| self.is_open_in(*pid))
    }

    /// Whether a process has a descriptor of the directory.
    fn is_open_in(&self, pid: Pid) -> bool {
        let Ok(own) = rustix::fs::fstat(&self.fd) else {
            return false;
        };
        let own_link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let Ok(path) = std::fs::read_link(own_link) else {
            return false;
        };
        let entries = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).into_iter();
        entries.flatten().flatten().any(|entry| {
            // By its text first: to look at what is on a dead mount would take for ever.
            std::fs::read_link(entry.path()).is_ok_and(|other| other == path)
                && rustix::fs::stat(entry.path())
                    .is_ok_and(|of| (of.st_dev, of.st_ino) == (own.st_dev, own.st_ino))
        })
    }

    /// Who has taken the lock, as the kernel tells it.
    fn lock_taker(&self) -> Option<Pid> {
        let stat = rustix::fs::fstat(&self.fd).ok()?;
        let (major, minor) = (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        );
        let file = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match &*words {
                [_, "FLOCK", _, "WRITE", pid, of, ..] if *of == file => {
                    Pid::from_raw(pid.parse().ok()?)
                }
                _ => None,
            }
        })
    }

    /// Takes the lock if it is free; whether it was.
    pub fn try_lock(&self) -> bool {
        let taken = rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_ok();
        self.locked.set(self.locked.get() || taken);
        taken
    }

    /// Lets the lock go before this value ends.
    pub fn unlock(&self) {
        // The lock is ours; giving it back cannot fail.
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        self.locked.set(false);
    }

    /// Replaces a file whole.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), ContainerError> {
        let new = format!(".{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        self.write_file(&new, flags, content)
            .and_then(|()| rustix::fs::renameat(&self.fd, &*new, &self.fd, name))
            .map_err(|errno| self.system("write", name, errno))
    }

    /// Writes the container's configuration, once: nobody reads it before there is a record.
    ///
    /// # Errors
    /// The system's.
    pub fn write_configuration(&self, content: &[u8]) -> Result<(), ContainerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.write_file(CONFIGURATION, flags, content)
            .map_err(|errno| self.system("write", CONFIGURATION, errno))
    }

    fn write_file(&self, name: &str, flags: OFlags, content: &[u8]) -> rustix::io::Result<()> {
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?;
        let mut left = content;
        while !left.is_empty() {
            left = &left[rustix::io::write(&file, left)?..];
        }
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Not found when it is not there.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ContainerError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(ContainerError::NotFound(self.id.clone())),
            Err(errno) => return Err(self.system("read", name, errno)),
        };
        crate::procfs::read_open(file).map_err(|errno| self.system("read", name, errno))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The system's.
    pub fn write_record(&self, record: &Record) -> Result<(), ContainerError> {
        let text = serde_json::to_vec(record).map_err(|source| ContainerError::Broken {
            path: self.path.join("state.json"),
            source,
        })?;
        self.write("state.json", &text)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn record(&self) -> Result<Record, ContainerError> {
        let text = self.read("state.json")?;
        serde_json::from_slice(&text).map_err(|source| ContainerError::Broken {
            path: self.path.join("state.json"),
            source,
        })
    }

    /// The configuration that the container was made from.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn spec(&self) -> Result<Spec, ContainerError> {
        let text = self.read(CONFIGURATION)?;
        serde_json::from_slice(&text).map_err(|source| ContainerError::Broken {
            path: self.path.join(CONFIGURATION),
            source,
        })
    }

    /// Whether init waits for `start`. A socket on which nobody listens any more is what a `start` left that was killed.
    pub fn waits_for_start(&self) -> bool {
        self.has(START_SOCKET)
            && self.call_init(SocketFlags::NONBLOCK).err() != Some(Errno::CONNREFUSED)
    }

    fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A connection to init, which waits for `start`.
    ///
    /// # Errors
    /// The system's; `ECONNREFUSED` when it has been let go.
    pub fn call_init(&self, flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
        let address = SocketAddrUnix::new(self.short_path(START_SOCKET).as_str())?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            flags | SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    }

    /// The path of a name in the directory: short, however deep the directory is, as a socket's address must be.
    pub fn short_path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd())
    }

    /// What `run` makes is no container to enter before it is whole, though nobody will wait for `start`.
    ///
    /// # Errors
    /// The system's.
    pub fn mark_coming(&self) -> Result<(), ContainerError> {
        let (name, mode) = (COMING_START_SOCKET, Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(&self.fd, name, FileType::RegularFile, mode, 0)
            .map_err(|errno| self.system("make", name, errno))
    }

    /// What `run` made has become its program.
    pub fn unmark_coming(&self) {
        // Nobody else removes it.
        let _ = rustix::fs::unlinkat(&self.fd, COMING_START_SOCKET, AtFlags::empty());
    }

    /// The container is created: from here on it can be started.
    ///
    /// # Errors
    /// The system's.
    pub fn publish_start_socket(&self) -> Result<(), ContainerError> {
        rustix::fs::renameat(&self.fd, COMING_START_SOCKET, &self.fd, START_SOCKET)
            .map_err(|errno| self.system("rename", COMING_START_SOCKET, errno))
    }

    /// Init has been let go.
    pub fn remove_start_socket(&self) {
        // It may be gone already.
        let _ = rustix::fs::unlinkat(&self.fd, START_SOCKET, AtFlags::empty());
    }

    /// Where a container is in its life.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            // Whoever makes it holds the lock; without one, or with our own, it was given up.
            return if self.locked.get() {
                Status::Stopped
            } else if self.try_lock() {
                self.unlock();
                Status::Stopped
            } else {
                Status::Creating
            };
        }
        if !is_alive(record.pid, record.start_time) {
            return Status::Stopped;
        }
        if self.has(COMING_START_SOCKET) && !self.creator_is_gone() {
            return Status::Creating;
        }
        let frozen = record
            .cgroup()
            .is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false));
        if frozen {
            // Also before or in the middle of `start`, which goes on only when somebody may resume it.
            Status::Paused
        } else if self.waits_for_start() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Whether nobody makes the container any more. An init that is there without its creator has had the creator's last word
    /// (or it would have ended), so the container is created: what the creator did not come to do is done here.
    fn creator_is_gone(&self) -> bool {
        let had = self.locked.get();
        if !had && !self.try_lock() {
            return false;
        }
        // The creator may just have done it itself.
        let _ = self.publish_start_socket();
        if !had {
            self.unlock();
        }
        true
    }

    /// The record and the status, for a command that the status must allow.
    ///
    /// # Errors
    /// When it does not.
    pub fn require(&self, verb: &'static str) -> Result<(Record, Status), ContainerError> {
        let record = self.record()?;
        let status = self.status(&record);
        if status.allows(verb) {
            return Ok((record, status));
        }
        Err(ContainerError::Status {
            verb,
            id: self.id.clone(),
            status,
        })
    }

    /// Removes the directory and all in it.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(self) -> Result<(), ContainerError> {
        // Mostly these are all that is in it.
        for name in ["state.json", CONFIGURATION] {
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        }
        if rustix::fs::rmdir(&self.path).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.system(
                "remove",
                "",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn one_creator_has_the_directory_whatever_deletes_do_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        let delete = || {
            while !done.load(Ordering::Relaxed) {
                if let Ok(dir) = ContainerDir::open(root.path(), "c")
                    && dir.lock().is_ok()
                {
                    dir.remove().unwrap();
                }
            }
        };
        let create = || {
            for _ in 0..3000 {
                match ContainerDir::create(root.path(), "c") {
                    // Two who believed to have made it would both write.
                    Ok(dir) => dir.write_configuration(b"{}").unwrap(),
                    Err(error) => assert!(matches!(error, ContainerError::Exists(_)), "{error}"),
                }
            }
        };
        std::thread::scope(|scope| {
            let creators = [scope.spawn(create), scope.spawn(create)];
            for _ in 0..2 {
                scope.spawn(delete);
            }
            let ended = creators.map(std::thread::ScopedJoinHandle::join);
            done.store(true, Ordering::Relaxed);
            for end in ended {
                end.unwrap();
            }
        });
    }

    #[test]
    fn who_has_taken_the_lock_and_let_the_directory_go_is_not_its_holder() {
        let root = tempfile::tempdir().unwrap();
        let dir = ContainerDir::create(root.path(), "c").unwrap();
        let own = Pid::from_raw(std::process::id() as i32);
        assert_eq!(dir.lock_holder(), own);
        // A child has the lock with the directory, on its standard input; the kernel goes on naming this process, whose id may
        // be anybody's when it has ended.
        let passed = std::process::Stdio::from(dir.fd.try_clone().unwrap());
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .stdin(passed)
            .spawn()
            .unwrap();
        drop(dir);
        let dir = ContainerDir::open(root.path(), "c").unwrap();
        let (link, flags) = (dir.path.clone(), OFlags::PATH | OFlags::CLOEXEC);
        assert!(!dir.try_lock());
        assert_eq!(dir.lock_taker(), own);
        // This very process looks, and so has it open once more; without that it has not.
        let other = ContainerDir {
            id: dir.id.clone(),
            fd: rustix::fs::open(root.path(), flags, Mode::empty()).unwrap(),
            path: link,
            locked: Cell::new(false),
        };
        let child_pid = Pid::from_raw(child.id() as i32).unwrap();
        assert!(dir.is_open_in(child_pid));
        assert!(!other.is_open_in(child_pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!dir.is_open_in(child_pid));
        assert!(dir.try_lock());
    }
}
