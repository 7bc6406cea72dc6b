//! A private view of mounts and processes, in which the tools of others and their daemons run. Whatever they start or mount goes with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{PATIENCE, Ran, ran, until};

/// What the enclosure's first process does: it gives the tools places of their own where they insist on fixed paths, says so, and
/// reaps what loses its parent.
const INIT: &str = "mount -t tmpfs run /run && mkdir /run/lock && mount -t tmpfs shm /dev/shm && : >\"$1\" && \
                    sleep infinity & wait";

/// Mount and pid namespaces of a test's own. Its end, and the test's, is the end of all processes in it.
pub struct Enclosure {
    outer: Child,
    init: u32,
    cgroup: String,
}

impl Enclosure {
    /// A new one, with a file in `place` that says that it is ready.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(place: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let ready = place.join("enclosure-is-ready");
        // A test that is killed takes unshare with it, and unshare all the rest.
        let outer = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid"])
            .args(["--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", INIT, "sh"])
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("package util-linux");
        let mut enclosure = Self {
            init: 0,
            cgroup: format!("dhow-test-{}-{number}-tool", std::process::id()),
            outer,
        };
        enclosure.until("the enclosure is there", || ready.exists());
        let pid = enclosure.outer.id();
        let children = fs_err::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("the children of unshare");
        enclosure.init = children.trim().parse().expect("one child");
        enclosure
    }

    /// A command inside, with the distribution's programs first.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--pid", "--target", &self.init.to_string()])
            .arg("--")
            .arg(program)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a shell script inside to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Ran {
        let mut command = self.command("sh");
        command.args(["-c", script]);
        ran(command, b"")
    }

    /// Starts a daemon inside, whose words go to a file.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn daemon(&self, mut command: Command, log: &Path) {
        let file = fs_err::File::create(log).expect("a log");
        let error = file.try_clone().expect("the log's second descriptor");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.into_file()))
            .stderr(Stdio::from(error.into_file()))
            .spawn()
            .expect("a daemon");
        // It ends with the enclosure; somebody has to look at how.
        std::thread::spawn(move || child.wait());
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        until(what, holds);
    }

    /// The name of the cgroup, directly below each hierarchy's root, that the containers of these tools go under.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The cgroups below that name that are there now.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut unseen = in_hierarchies(&self.cgroup);
        while let Some(cgroup) = unseen.pop() {
            let below = directories(&cgroup);
            found.extend(below.iter().cloned());
            unseen.extend(below);
        }
        found
    }

    /// Removes a cgroup that a tool left, and those below it, from all hierarchies.
    pub fn remove_cgroup(&self, path: &str) {
        for cgroup in in_hierarchies(path.trim_start_matches('/')) {
            remove(&cgroup);
        }
    }

    /// Command lines of the processes inside that have these words in them.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[track_caller]
    pub fn processes(&self, words: &str) -> Vec<String> {
        let list = self.shell("ps -eo pid=,stat=,args=").ok();
        list.lines()
            .filter(|line| line.contains(words) && !line.contains(" Z"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        // The kernel ends every process of a pid namespace whose first one is killed.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let end = Instant::now() + PATIENCE;
        // A cgroup can be removed when the last process in it is gone.
        while Instant::now() < end {
            let tops = in_hierarchies(&self.cgroup);
            if tops.is_empty() {
                return;
            }
            for top in &tops {
                remove(top);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The cgroups of this path, in all hierarchies that have it.
fn in_hierarchies(path: &str) -> Vec<PathBuf> {
    let mut tops = vec![PathBuf::from("/sys/fs/cgroup")];
    tops.extend(directories(&tops[0]));
    tops.into_iter()
        .map(|top| top.join(path))
        .filter(|cgroup| cgroup.is_dir())
        .collect()
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Removes a cgroup and those below it, as far as they can be.
fn remove(cgroup: &Path) {
    for below in directories(cgroup) {
        remove(&below);
    }
    let _ = fs_err::remove_dir(cgroup);
}
