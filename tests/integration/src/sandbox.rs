//! A store and a state directory for one test, gone with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::program;

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
        use std::os::unix::process::ExitStatusExt;
        Self {
            status: output
                .status
                .code()
                .unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
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
    /// When it cannot be started.
    pub fn dhow<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .expect("start dhow")
            .into()
    }

    /// The root file system of a small image as a tar: the distribution's static busybox and what it needs.
    ///
    /// # Panics
    /// When busybox (package busybox-static) or tar is missing.
    pub fn busybox_tar(&self) -> PathBuf {
        let tar = self.path("busybox.tar");
        if !tar.exists() {
            let script =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/busybox-rootfs.sh");
            let made = Command::new(script)
                .arg(&tar)
                .status()
                .expect("busybox-rootfs.sh");
            assert!(
                made.success(),
                "package busybox-static is missing: make packages"
            );
        }
        tar
    }

    /// Imports the busybox image under the name `busybox` into this place's store.
    ///
    /// # Panics
    /// When the import fails.
    pub fn import_busybox(&self) {
        let tar = self.busybox_tar();
        self.dhow([OsStr::new("import"), tar.as_os_str(), OsStr::new("busybox")])
            .ok();
    }
}
