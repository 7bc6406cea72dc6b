//! The root file systems that images start from, made once and shared by all tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program;

/// The root file system of a base image (`busybox`, `debian`) as a tar, made from the distribution's packages when it is not there.
///
/// It stands beside the built programs and is only read. Tests may ask at the same time: one makes it, the others wait.
///
/// # Panics
/// When it cannot be made; the packages that it takes are installed by `make packages`.
pub fn base_image(name: &str) -> PathBuf {
    // The programs are target/TRIPLE/release/NAME.
    let programs = program("dhow");
    let target = programs.ancestors().nth(3).expect("the target directory");
    let directory = target.join("base-images");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/base-images.sh");
    let made = Command::new(script)
        .args([directory.as_os_str(), name.as_ref()])
        .output()
        .expect("base-images.sh");
    assert!(
        made.status.success(),
        "no base image {name} (are the packages there? make packages): {}",
        String::from_utf8_lossy(&made.stderr)
    );
    directory.join(format!("{name}.tar"))
}
