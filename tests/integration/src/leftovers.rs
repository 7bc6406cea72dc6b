//! What containers must not leave behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Sandbox;

impl Sandbox {
    /// Waits for what removals have left to processes of their own to remove.
    ///
    /// # Panics
    /// When that takes minutes.
    #[track_caller]
    pub fn swept(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let mut running = self.processes();
            running.retain(|process| process.trim_end().ends_with(" sweep"));
            if running.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still sweeping: {running:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that this place has no container, and that none left a process, a mount or a directory; for the ids given, no cgroup either.
    ///
    /// # Panics
    /// When something is left.
    #[track_caller]
    pub fn nothing_is_left(&self, ids: &[&str]) {
        assert_eq!(self.dhow(["ps", "-aq"]).ok(), "", "containers");
        self.swept();
        let place = self.path("");
        let place = place.to_str().expect("a path in UTF-8");
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mounts: Vec<_> = mounts.lines().filter(|line| line.contains(place)).collect();
        assert!(mounts.is_empty(), "mounts: {mounts:?}");
        let processes = self.processes();
        assert!(processes.is_empty(), "processes: {processes:?}");
        for dir in [
            "state/pods",
            "state/runtime",
            "root/pods",
            "root/pod-names",
            "root/containers",
        ] {
            let left = entries(&self.path(dir));
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
        for id in ids {
            let left = cgroups(id);
            assert!(left.is_empty(), "cgroups: {left:?}");
        }
    }

    /// The command lines of the processes that were started for this place.
    ///
    /// # Panics
    /// When /proc cannot be read.
    pub fn processes(&self) -> Vec<String> {
        let place = self.path("");
        let place = place.to_str().expect("a path in UTF-8").to_owned();
        let command_line = |entry: fs_err::DirEntry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            // One that has ended in the meantime has none.
            let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
            let is_ours = text.contains(&place) && !text.contains("nothing_is_left");
            is_ours.then(|| format!("{pid} {text}"))
        };
        fs_err::read_dir("/proc")
            .expect("processes")
            .filter_map(Result::ok)
            .filter_map(command_line)
            .collect()
    }
}

/// What is in a directory, but for hidden files and what is kept for next time.
fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// The cgroups of a container, in all hierarchies.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut hierarchies = vec![PathBuf::from("/sys/fs/cgroup")];
    if let Ok(entries) = fs_err::read_dir("/sys/fs/cgroup") {
        hierarchies.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    hierarchies
        .into_iter()
        .map(|hierarchy| hierarchy.join("dhow").join(id))
        .filter(|cgroup| cgroup.exists())
        .collect()
}
