//! File systems of their own, each in a file behind a loop device: small ones to fill, and ones whose disk can be copied.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ran;

/// A file system that is mounted as long as this lives.
pub struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    /// Makes a file system of `kind` (`ext4`, `xfs`) and so many MiB in the file `image`, and mounts it at `mount`.
    ///
    /// # Panics
    /// When it cannot be made (packages e2fsprogs, xfsprogs, mount).
    pub fn make(kind: &str, megabytes: u64, image: &Path, mount: &Path) -> Self {
        let file = fs_err::File::create(image).expect("make the image");
        file.set_len(megabytes << 20).expect("size the image");
        let image_text = image.to_str().expect("a path");
        run(&format!("mkfs.{kind}"), &["-q", image_text]);
        Self::attach(image, mount)
    }

    /// Mounts the file system that is in `image` already, for this thread and what it starts from now on: in the mounts of
    /// everybody else, whoever happens to make a namespace just then would keep it busy. What is left of it by a test that is
    /// killed goes with the test.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn attach(image: &Path, mount: &Path) -> Self {
        enter_private_mounts();
        fs_err::create_dir_all(mount).expect("make the mount point");
        let place = mount.to_str().expect("a path");
        run(
            "mount",
            &["-o", "loop", image.to_str().expect("a path"), place],
        );
        let device = run("findmnt", &["-n", "-o", "SOURCE", "--mountpoint", place]);
        Self {
            device,
            mount: mount.to_owned(),
        }
    }

    /// The loop device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The device goes with the mount. A panic while another unwinds would hide that one. What a removal has started to
        // sweep may be at work still.
        for _ in 0..2400 {
            match Command::new("umount").arg(&self.mount).output() {
                Ok(done) if String::from_utf8_lossy(&done.stderr).contains("busy") => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                _ => return,
            }
        }
    }
}

/// A mount namespace of the thread's own, once.
fn enter_private_mounts() {
    let own = |process: &str| fs_err::read_link(format!("/proc/{process}/ns/mnt")).expect("read");
    if own("thread-self") != own("self") {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let flags =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).expect("make mounts private");
}

fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args);
    ran(command, b"").ok()
}
