//! A build that is killed leaves its running command behind, and nobody to end it. A guard does: a process that waits for
//! the end of a pipe, and then removes what the build had not finished.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use dhow_runtime_client::RuntimeClient;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::BuildError;

/// The file in a command's directory that the build holds locked while it lives.
const LOCK: &str = "lock";

/// What the ids of commands' containers, and so the names of their directories, begin with.
const PREFIX: &str = "build-";

/// How to start a guard: a program that calls [`guard`] with its standard input.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Reads what a build says of its containers, and when it says no more, removes those that it had not finished.
pub fn guard(input: impl BufRead, runtime: &RuntimeClient) {
    let mut running: BTreeMap<String, PathBuf> = BTreeMap::new();
    // A line that cannot be read is the end, too.
    for line in input.lines().map_while(Result::ok) {
        if let Some((id, dir)) = line.strip_prefix("begin ").and_then(|l| l.split_once(' ')) {
            running.insert(id.to_owned(), dir.into());
        } else if let Some(id) = line.strip_prefix("end ") {
            running.remove(id);
        }
    }
    for (id, dir) in running {
        remove(&id, &dir, runtime);
    }
}

/// Removes what dead builds have left under the state directory, for the case that their guards were killed, too.
pub fn sweep(state: &Path, runtime: &RuntimeClient) {
    for (id, dir, _lock) in dead_below(state).unwrap_or_default() {
        remove(&id, &dir, runtime);
    }
}

/// The directories that nobody holds, each with its lock, which keeps other sweeps from it. Who is just making one holds the
/// state directory, so none is seen half made; one without a lock is a dead process's.
fn dead_below(state: &Path) -> std::io::Result<Vec<(String, PathBuf, Option<fs_err::File>)>> {
    let _looking = lock(state, FlockOperation::LockExclusive)?;
    let mut dead = Vec::new();
    for entry in fs_err::read_dir(state)?.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let dir = entry.path();
        match lock(&dir.join(LOCK), FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => dead.push((id.to_owned(), dir, Some(lock))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                dead.push((id.to_owned(), dir, None));
            }
            Err(_) => {}
        }
    }
    Ok(dead)
}

/// Opens a file or directory and locks it.
fn lock(path: &Path, operation: FlockOperation) -> std::io::Result<fs_err::File> {
    let file = fs_err::File::open(path)?;
    rustix::fs::flock(&file, operation)?;
    Ok(file)
}

fn remove(id: &str, dir: &Path, runtime: &RuntimeClient) {
    // A runtime that is still making the container would go on after it was deleted.
    end_runtime(id);
    // Both may be gone already, and there is nobody to tell of what cannot be removed; the next build tries again.
    let _ = runtime.delete(id, true);
    let _ = fs_err::remove_dir_all(dir);
}

/// Kills the runtime's processes that were started for this container: those that have its id, which is random, as an argument.
fn end_runtime(id: &str) {
    let Ok(entries) = fs_err::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        // The handle first: what is read then is the words of the process that it stands for, or it is dead already.
        let words = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
        if words
            .split(|byte| *byte == 0)
            .any(|word| word == id.as_bytes())
        {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

/// A running guard. It ends when this is dropped, or with the process that holds it.
pub(crate) struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    pub(crate) fn start(program: &GuardProgram) -> Result<Self, BuildError> {
        let failed = |source| BuildError::File {
            doing: "starting",
            path: program.program.clone(),
            source,
        };
        let mut child = Command::new(&program.program)
            .args(&program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the group that a terminal interrupts.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}

/// The directory of one running command, known to the guard.
pub(crate) struct Watched<'a> {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    guard: &'a mut Guard,
    /// Held for as long as this process lives.
    _lock: fs_err::File,
}

impl<'a> Watched<'a> {
    /// Makes a directory below `state` for a container with a new id.
    pub(crate) fn new(state: &Path, guard: &'a mut Guard) -> Result<Self, BuildError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| BuildError::File {
                doing,
                path,
                source,
            }
        };
        fs_err::create_dir_all(state).map_err(failed("making", state))?;
        // No sweep looks before the lock is held.
        let making = lock(state, FlockOperation::LockShared).map_err(failed("locking", state))?;
        let (id, dir) = loop {
            let id = format!("{PREFIX}{}", random_name());
            let dir = state.join(&id);
            match fs_err::create_dir(&dir) {
                Ok(()) => break (id, dir),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("making", &dir)(error)),
            }
        };
        let path = dir.join(LOCK);
        let lock = fs_err::File::create(&path).map_err(failed("making", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| failed("locking", &path)(errno.into()))?;
        drop(making);
        guard
            .say(&format!("begin {id} {}\n", dir.display()))
            .map_err(failed("telling the guard of", &dir))?;
        Ok(Self {
            id,
            dir,
            guard,
            _lock: lock,
        })
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.dir);
        let _ = self.guard.say(&format!("end {}\n", self.id));
    }
}

/// Twelve random letters and digits.
fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's seed for its hash maps is the kernel's randomness.
    let number = RandomState::new().hash_one(std::process::id());
    format!("{number:016x}")[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_the_dead_and_waits_for_who_is_making() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path();
        for name in ["build-dead", "build-cut", "build-alive", "other"] {
            fs_err::create_dir(state.join(name)).unwrap();
        }
        for name in ["build-dead", "build-alive"] {
            fs_err::write(state.join(name).join(LOCK), "").unwrap();
        }
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let _alive = super::lock(&state.join("build-alive").join(LOCK), exclusive).unwrap();
        let runtime = RuntimeClient::new("/bin/true", state.join("runtime"));
        let making = super::lock(state, FlockOperation::LockShared).unwrap();
        std::thread::scope(|scope| {
            let sweeping = scope.spawn(|| sweep(state, &runtime));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!sweeping.is_finished() && state.join("build-cut").exists());
            drop(making);
        });
        let left = |name: &str| state.join(name).exists();
        assert!(!left("build-dead") && !left("build-cut"));
        assert!(left("build-alive") && left("other"));
    }

    #[test]
    fn what_was_not_finished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs_err::create_dir(dir.path().join(name)).unwrap();
        }
        let said = format!(
            "begin a {0}/a\nbegin b {0}/b\nend a\nbegin c",
            dir.path().display()
        );
        let runtime = RuntimeClient::new("/bin/true", dir.path().join("runtime"));
        guard(said.as_bytes(), &runtime);
        assert!(dir.path().join("a").exists());
        assert!(!dir.path().join("b").exists());
    }
}
