//! A container with an attacker in it, and what it has come to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Bundle, PATIENCE, Sandbox, copy_program, program};

/// What no container sees, and the attacker looks for.
pub const HOST_ONLY: &str = "/tmp/dhow-test-host-only";

/// A running container whose first process is the attacker, with the powers that make attacks easy.
pub struct Attacker {
    /// Its bundle.
    pub bundle: Bundle,
}

impl Attacker {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not begin.
    pub fn start(sandbox: &Sandbox) -> Self {
        // Left behind: other tests may look for it at the same time.
        fs_err::write(HOST_ONLY, "").expect("a file on the host");
        let mut bundle = sandbox.bundle("");
        copy_program(
            program("dhow-test-attacker"),
            bundle.path("rootfs/bin/attacker"),
        );
        // Whose runtime it gets hold of, others would find busy or spoilt.
        bundle.use_own_runtime();
        bundle.config["process"]["args"] = json!(["attacker", "/tmp/log", "/bin/busybox"]);
        bundle.config["root"]["readonly"] = json!(false);
        let sets = json!([
            "CAP_SYS_ADMIN",
            "CAP_SYS_PTRACE",
            "CAP_DAC_OVERRIDE",
            "CAP_SYS_CHROOT",
            "CAP_KILL"
        ]);
        bundle.config["process"]["capabilities"] =
            json!({ "bounding": sets, "effective": sets, "permitted": sets });
        bundle.start();
        let attacker = Self { bundle };
        assert!(attacker.comes_to("begins"), "the attacker does not begin");
        attacker
    }

    /// Its first process on the host.
    ///
    /// # Panics
    /// When the container is gone.
    pub fn pid(&self) -> i64 {
        self.bundle.state()["pid"].as_i64().expect("a pid")
    }

    /// What it has noted.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.bundle.path("rootfs/tmp/log")).unwrap_or_default()
    }

    /// Whether it notes something, before patience ends.
    pub fn comes_to(&self, what: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.log().lines().any(|line| line == what) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// The same as [`comes_to`](Self::comes_to), now.
    pub fn has_come_to(&self, what: &str) -> bool {
        self.log().lines().any(|line| line.starts_with(what))
    }
}

/// A copy of a program that may be written over without harm.
///
/// # Panics
/// When it cannot be made.
pub fn victim(sandbox: &Sandbox, of: &Path) -> (PathBuf, Vec<u8>) {
    let copy = sandbox.path("victim");
    copy_program(of, &copy);
    let before = fs_err::read(&copy).expect("the copy");
    (copy, before)
}
