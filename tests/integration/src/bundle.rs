//! An OCI bundle of busybox, and the runtime's commands on its container.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::{Ran, Sandbox, copy_program, program, until};

/// A bundle with its container's id. The container goes with it.
pub struct Bundle {
    dir: PathBuf,
    root: PathBuf,
    id: String,
    program: PathBuf,
    /// The words before each call of the runtime, where it is not the test that calls it.
    caller: Option<Vec<OsString>>,
    /// The configuration; written at each command.
    pub config: Value,
}

impl Sandbox {
    /// A bundle of busybox from the runtime's own template, without a terminal, whose program is `sh -c SCRIPT`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn bundle(&self, script: &str) -> Bundle {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("dhow-test-{}-{number}", std::process::id());
        let dir = self.path(&id);
        let rootfs = dir.join("rootfs");
        for name in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
            fs_err::create_dir_all(rootfs.join(name)).expect("create");
        }
        copy_program("/bin/busybox", rootfs.join("bin/busybox"));
        for applet in [
            "sh", "cat", "ls", "id", "ps", "sleep", "echo", "mount", "mkdir", "touch", "grep",
            "true", "false", "stat", "readlink", "hostname", "kill", "head", "wc", "tty", "stty",
            "pwd", "env", "chmod", "umask", "test", "ip", "dd", "mknod", "ln", "rm", "unshare",
            "setsid", "date",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet))
                .expect("symlink");
        }
        fs_err::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n",
        )
        .expect("passwd");
        let made = Command::new(program("dhow-runtime"))
            .args(["spec", "--bundle"])
            .arg(&dir)
            .status()
            .expect("start dhow-runtime");
        assert!(made.success());
        let mut bundle = Bundle {
            dir,
            root: self.path("runtime"),
            program: program("dhow-runtime"),
            config: Value::Null,
            caller: None,
            id,
        };
        bundle.read_config(script);
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        bundle
    }
}

impl Bundle {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A path in the bundle.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of the runtime's records.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The runtime that is called.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// From here on a copy of the runtime is called that is this bundle's own: whatever happens to its file, nobody else executes it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn use_own_runtime(&mut self) {
        let own = self.path("dhow-runtime");
        copy_program(&self.program, &own);
        self.program = own;
    }

    /// The same runtime is called as for another bundle.
    pub fn use_runtime_of(&mut self, other: &Self) {
        self.program.clone_from(&other.program);
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_config(&self) {
        fs_err::write(self.path("config.json"), self.config.to_string()).expect("config.json");
    }

    /// Gives each container that is made of this bundle the cgroup of its own id.
    ///
    /// # Panics
    /// When the configuration has no part for Linux.
    pub fn cgroup_by_id(&mut self) {
        let linux = self.config["linux"].as_object_mut();
        linux.expect("an object").remove("cgroupsPath");
    }

    /// Takes the template that the runtime wrote, without a terminal, for the program `sh -c SCRIPT`.
    pub(crate) fn read_config(&mut self, script: &str) {
        let text = fs_err::read(self.path("config.json")).expect("config.json");
        self.config = serde_json::from_slice(&text).expect("JSON");
        self.config["process"]["terminal"] = json!(false);
        self.config["process"]["args"] = json!(["sh", "-c", script]);
    }

    /// From here on the runtime `program` is called, after these words, and with records where it has them by itself: `root`.
    pub(crate) fn hand_over(&mut self, words: Vec<OsString>, program: PathBuf, root: PathBuf) {
        self.caller = Some(words);
        self.program = program;
        self.root = root;
    }

    /// A command of the runtime's with this root, ended by force if it hangs.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let limit = ["--foreground", "--kill-after=1", "60"];
        let mut command = match &self.caller {
            Some(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).arg("timeout").args(limit);
                command.arg(&self.program);
                command
            }
            None => {
                let mut command = Command::new("timeout");
                command.args(limit).arg(&self.program);
                command.arg("--root").arg(&self.root);
                command
            }
        };
        command
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime's to its end. What a detached container writes goes nowhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn runtime<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(args)
            .output()
            .expect("start dhow-runtime")
            .into()
    }

    /// Runs the container in the foreground.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self) -> Ran {
        self.write_config();
        self.runtime(["run", &self.id])
    }

    /// Creates the container with nothing on its standard streams.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn create(&self) -> Ran {
        self.write_config();
        self.quiet(["create", &self.id])
    }

    /// Runs a command whose container's standard streams lead nowhere; its own words come through a log.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn quiet<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let log = self.path("log.json");
        let _ = fs_err::remove_file(&log);
        let mut all: Vec<std::ffi::OsString> = vec![
            "--log".into(),
            log.clone().into(),
            "--log-format".into(),
            "json".into(),
        ];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let status = self
            .command(all)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("start dhow-runtime");
        Ran {
            status: Ran::status_of(status),
            stdout: String::new(),
            stderr: fs_err::read_to_string(&log).unwrap_or_default(),
        }
    }

    /// Creates and starts the container in the background.
    ///
    /// # Panics
    /// When it fails.
    pub fn start(&self) {
        self.create().ok();
        self.runtime(["start", &self.id]).ok();
    }

    /// Executes a shell script in the container.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn exec(&self, script: &str) -> Ran {
        self.runtime(["exec", &self.id, "sh", "-c", script])
    }

    /// The container's state; null when there is none.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn state(&self) -> Value {
        let ran = self.runtime(["state", &self.id]);
        match ran.status {
            0 => serde_json::from_str(&ran.stdout).expect("JSON"),
            _ => Value::Null,
        }
    }

    /// Waits until the container has a status.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn await_status(&self, status: &str) {
        until(&format!("the container is {status}"), || {
            self.state()["status"] == status
        });
    }

    /// The directories of the container's cgroup that are there.
    ///
    /// # Panics
    /// When /sys/fs/cgroup cannot be read.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let path = self.config["linux"]["cgroupsPath"]
            .as_str()
            .unwrap_or(&self.id);
        let below = |top: PathBuf| top.join(path.trim_start_matches('/'));
        let mut places = vec![below(PathBuf::from("/sys/fs/cgroup"))];
        for entry in fs_err::read_dir("/sys/fs/cgroup").expect("cgroups") {
            places.push(below(entry.expect("entry").path()));
        }
        places.retain(|place| place.is_dir());
        places
    }

    /// Asserts that nothing of the container is left: record, cgroup, mount.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert!(!self.root.join(&self.id).exists(), "a record is left");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "a cgroup is left");
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = self.dir.display().to_string();
        assert!(!mounts.contains(&dir), "a mount is left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command(["delete", "--force", &self.id]).output();
    }
}
