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
    let Ok(entries) = fs_err::read_dir(state) else {
        return;
    };
    for entry in entries.flatten() {
        let dir = entry.path();
        let Ok(lock) = fs_err::File::open(dir.join(LOCK)) else {
            continue;
        };
        let free = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if let (true, Some(id)) = (free, entry.file_name().to_str()) {
            remove(id, &dir, runtime);
        }
    }
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
        let (id, dir) = loop {
            let id = format!("build-{}", random_name());
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
