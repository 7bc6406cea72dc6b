//! Where the built programs are, and copies of them that can be executed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ran;

/// The path of a program of the workspace (`dhow`, `dhow-runtime`, `dhow-monitor`), built by the same command as the test.
///
/// # Panics
/// When it was not built.
pub fn program(name: &str) -> PathBuf {
    // A test is target/.../release/deps/NAME-HASH; the programs are two levels up.
    let test = std::env::current_exe().expect("the test's own path");
    let release = test.ancestors().nth(2).expect("target directory");
    let path = release.join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `make build` first",
        path.display()
    );
    path
}

/// Copies a program so that it can be executed at once.
///
/// Nobody executes a file that somebody has open for writing (ETXTBSY). A test program has threads, and what one of them starts holds, until
/// it executes its program, the descriptors of all: also the one that another has just copied through. So a process of its own copies.
///
/// # Panics
/// When it cannot be copied.
#[track_caller]
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut command = Command::new("install");
    command
        .args(["--mode", "755", "--"])
        .args([from.as_ref(), to.as_ref()]);
    ran(command, b"").ok();
}

/// Writes a script, or anything else that is to be executed at once, for the reason that [`copy_program`] tells.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn write_program(path: impl AsRef<Path>, content: &str) {
    let path = path.as_ref();
    fs_err::create_dir_all(path.parent().expect("a parent")).expect("create parents");
    let mut command = Command::new("sh");
    command
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path);
    ran(command, content.as_bytes()).ok();
}
