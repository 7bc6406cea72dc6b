//! A store and a state directory for one test, gone with it.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{base_image, program};

/// A place of its own for one test: root, state, and files.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// What a program that ended left.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; -N for an end by signal N.
    pub status: i32,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Ran {
    /// An exit status as it stands here: -N for an end by signal N.
    pub fn status_of(status: ExitStatus) -> i32 {
        let signal = || -status.signal().unwrap_or(0);
        status.code().unwrap_or_else(signal)
    }

    /// Asserts success and gives the output without the white space at its end.
    ///
    /// # Panics
    /// When the program failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.status, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout.trim_end().to_owned()
    }

    /// Asserts an exit status and gives standard error.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn fails(self, status: i32) -> String {
        assert_eq!(
            self.status, status,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: Self::status_of(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Where its store has the blob with these bytes.
    pub fn blob(&self, content: &[u8]) -> PathBuf {
        self.path("root/blobs")
            .join(crate::registry::sha256(content).replace(':', "/"))
    }

    /// Asserts that all of its store is what it should be.
    #[track_caller]
    pub fn assert_whole(&self) {
        let checked = self.dhow(["system", "check"]).ok();
        assert_eq!(checked, "0 damaged, 0 left");
    }

    /// A new, empty place.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("dhow-test-")
            .tempdir()
            .expect("a temporary directory");
        Self { dir }
    }

    /// A path in this place.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in this place, with the directories above it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("create parents");
        fs_err::write(&path, content).expect("write");
        path
    }

    /// A `dhow` command with this place's store and state.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(program("dhow"));
        command
            .env("DHOW_ROOT", self.path("root"))
            .env("DHOW_STATE", self.path("state"))
            .args(args);
        command
    }

    /// Runs `dhow` to its end, with nothing on standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    #[track_caller]
    pub fn dhow<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        ran(self.command(args), b"")
    }

    /// The root file system of a small image as a tar: the distribution's static busybox and what it needs.
    ///
    /// # Panics
    /// When busybox (package busybox-static) or tar is missing.
    pub fn busybox_tar(&self) -> PathBuf {
        base_image("busybox")
    }

    /// Imports the busybox image under the name `busybox` into this place's store.
    ///
    /// # Panics
    /// When the import fails.
    pub fn import_busybox(&self) {
        self.import("busybox");
    }

    /// Imports a minimal Debian under the name `debian` into this place's store. Its `apt-get` reaches the packages as this
    /// machine's does.
    ///
    /// # Panics
    /// When it cannot be made (package mmdebstrap) or the import fails.
    pub fn import_debian(&self) {
        self.import("debian");
    }

    fn import(&self, name: &str) {
        let tar = base_image(name);
        self.dhow([OsStr::new("import"), tar.as_os_str(), OsStr::new(name)])
            .ok();
    }

    /// Removes a container with this name when the answer goes out of scope, so that a test that fails leaves none running.
    pub fn removed_at_end(&self, container: &str) -> RemovedAtEnd<'_> {
        RemovedAtEnd {
            sandbox: self,
            container: container.to_owned(),
        }
    }
}

/// The longest that a program of a test may take; the slowest step is a package's installation in a build.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a program to its end with this on standard input. It has ended when nobody holds its output open any more, so a
/// program that leaves another behind with its output is found too.
///
/// # Panics
/// When it cannot be started or does not end within five minutes.
#[track_caller]
pub fn ran(mut command: Command, input: &[u8]) -> Ran {
    let words = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{words}: {error}"));
    let handle = Pid::from_child(&child);
    let handle = pidfd_open(handle, PidfdFlags::empty()).expect("a handle of the child");
    let input = input.to_owned();
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stdin = child.stdin.take().expect("standard input");
        // A program that does not read it is no fault of the test.
        let _ = stdin.write_all(&input);
        drop(stdin);
        let _ = done.send(child.wait_with_output());
    });
    match wait.recv_timeout(LIMIT) {
        Ok(output) => output.expect("wait").into(),
        Err(_) => {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
            panic!("{words} did not end in {LIMIT:?}")
        }
    }
}

/// Calls `act` with the numbers below `count`, four at a time.
///
/// # Panics
/// When one of them does.
pub fn four_at_a_time(count: u32, act: impl Fn(u32) + Sync) {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        number if number < count => act(number),
                        _ => return,
                    }
                }
            });
        }
    });
}

/// Removes a container at the end of a test, however it ends.
#[must_use = "the container is removed when this goes out of scope"]
pub struct RemovedAtEnd<'a> {
    sandbox: &'a Sandbox,
    container: String,
}

impl Drop for RemovedAtEnd<'_> {
    fn drop(&mut self) {
        // It may be gone already, and a failure here must not hide the test's own.
        self.sandbox.dhow(["rm", "-f", &self.container]);
    }
}
