//! Where the built programs are.

use std::path::PathBuf;

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
