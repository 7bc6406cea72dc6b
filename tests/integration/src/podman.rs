//! podman and buildah (packages of these names) on a store of their own, with dhow's runtime or another.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::enclosure::Enclosure;
use crate::{Ran, Sandbox, base_image, program, ran};

/// What containers.conf says: limits that a machine without CAP_SYS_RESOURCE can give, and the words that podman takes from the
/// runtime's log.
const CONFIG: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/pause"
runtime_supports_json = ["dhow-runtime", "runc"]
"#;

/// A store, gone with its sandbox's test. Its images are `bb`, and `pause` for pods.
pub struct Podman {
    // Ended before the sandbox's files go.
    enclosure: Enclosure,
    runtime: PathBuf,
    sandbox: Sandbox,
}

impl Podman {
    /// A store for dhow's runtime.
    ///
    /// # Panics
    /// When it cannot be made (package podman).
    pub fn new() -> Self {
        Self::with_runtime(program("dhow-runtime"))
    }

    /// A store for another runtime.
    ///
    /// # Panics
    /// When it cannot be made (package podman).
    pub fn with_runtime(runtime: PathBuf) -> Self {
        let sandbox = Sandbox::new();
        let podman = Self {
            enclosure: Enclosure::new(&sandbox.path("")),
            runtime,
            sandbox,
        };
        podman.sandbox.write("containers.conf", CONFIG);
        // `--userns=auto` takes its ids from here; the machine's own file stays as it is.
        let ids = podman.sandbox.write("ids", "containers:200000:1000000\n");
        let ids = ids.display();
        podman
            .enclosure
            .shell(&format!(
                "for file in subuid subgid; do mount --bind {ids} /etc/$file || exit; done"
            ))
            .ok();
        let tar = base_image("busybox");
        let tar = tar.to_str().expect("a path in UTF-8");
        let import = |change: &str, name: &str| {
            podman
                .podman(["import", "--quiet", "--change", change, tar, name])
                .ok();
        };
        import("CMD [\"sh\"]", "bb");
        import("CMD [\"sleep\", \"1000000\"]", "pause");
        podman
    }

    /// A command of podman's.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.tool("podman");
        command
            .arg("--tmpdir")
            .arg(self.sandbox.path("tmp"))
            .arg("--runtime")
            .arg(&self.runtime)
            .args(args);
        command
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = self.enclosure.command(name);
        command
            .env("CONTAINERS_CONF", self.sandbox.path("containers.conf"))
            .arg("--root")
            .arg(self.sandbox.path("store"))
            .arg("--runroot")
            .arg(self.sandbox.path("run"));
        command
    }

    /// Runs a command of podman's to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn podman<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        ran(self.command(args), b"")
    }

    /// Runs a shell script with a container to its end, and removes the container.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run(&self, options: &[&str], script: &str) -> Ran {
        let cgroup = format!("--cgroup-parent=/{}", self.enclosure.cgroup());
        let mut args = vec!["run", "--rm", &cgroup];
        args.extend(options);
        args.extend(["bb", "sh", "-c", script]);
        self.podman(args)
    }

    /// Starts a container in the background.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn background(&self, name: &str, options: &[&str], script: &str) {
        let cgroup = format!("--cgroup-parent=/{}", self.enclosure.cgroup());
        let mut args = vec!["run", "--detach", "--name", name, &cgroup];
        args.extend(options);
        args.extend(["bb", "sh", "-c", script]);
        self.podman(args).ok();
    }

    /// Runs a command of buildah's to its end, on the same store.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn buildah<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.tool("buildah");
        // Without a terminal and conmon there is nothing else to be told; the runtime is named where something runs.
        command.args(args);
        ran(command, b"")
    }

    /// The runtime's path.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn runtime(&self) -> &str {
        self.runtime.to_str().expect("a path in UTF-8")
    }

    /// Where it runs.
    pub fn enclosure(&self) -> &Enclosure {
        &self.enclosure
    }

    /// Its files.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Asserts that no container, monitor, cgroup or record of the runtime's is left.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        assert_eq!(self.podman(["ps", "--all", "--quiet"]).ok(), "");
        self.enclosure.until("the monitors are gone", || {
            self.enclosure.processes("conmon").is_empty()
        });
        // podman itself leaves those of its monitors and, where there is no controller, of its pods.
        let is_container = |cgroup: &PathBuf| {
            let name = cgroup.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libpod-") && !name.starts_with("libpod-conmon-")
        };
        let mut cgroups = self.enclosure.cgroups();
        cgroups.retain(is_container);
        assert_eq!(cgroups, Vec::<PathBuf>::new());
        // The runtime's default place: podman and buildah name none.
        let records = self.enclosure.shell("ls -A /run/dhow/runtime 2>/dev/null");
        assert_eq!(records.stdout, "", "records");
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}
