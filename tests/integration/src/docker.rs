//! Docker's daemon (package docker.io) on a root and a socket of its own, with dhow's runtime beside runc.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::enclosure::Enclosure;
use crate::{Ran, Sandbox, base_image, program, ran};

/// A daemon without bridges and firewall rules, gone with its sandbox's test. Its image is `bb`.
pub struct Docker {
    // Ended before the sandbox's files go.
    enclosure: Enclosure,
    socket: PathBuf,
    option: Option<&'static str>,
    sandbox: Sandbox,
}

impl Docker {
    /// Starts it, and imports busybox as `bb`.
    ///
    /// # Panics
    /// When it does not start (package docker.io).
    pub fn new() -> Self {
        Self::with_options(Sandbox::new(), None)
    }

    /// The same, with containers whose root is somebody else on the host (`--userns-remap`).
    ///
    /// # Panics
    /// When it does not start (package docker.io).
    pub fn with_other_ids() -> Self {
        let sandbox = Sandbox::new();
        // The ids of somebody who is on every machine; the machine's own lists of them stay as they are.
        for file in ["subuid", "subgid"] {
            sandbox.write(file, "nobody:300000:65536\n");
        }
        // Who is root in there comes this way, too.
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs_err::set_permissions(sandbox.path(""), passable).expect("a directory of one's own");
        Self::with_options(sandbox, Some("--userns-remap=nobody:nogroup"))
    }

    fn with_options(sandbox: Sandbox, option: Option<&'static str>) -> Self {
        let enclosure = Enclosure::new(&sandbox.path(""));
        let docker = Self {
            socket: sandbox.path("docker.sock"),
            option,
            enclosure,
            sandbox,
        };
        if option.is_some() {
            let place = docker.sandbox.path("");
            let place = place.display();
            docker
                .enclosure
                .shell(&format!(
                    "for file in subuid subgid; do mount --bind {place}/$file /etc/$file || exit; done"
                ))
                .ok();
        }
        docker.start_with_default("runc");
        let tar = base_image("busybox");
        let tar = tar.to_str().expect("a path in UTF-8");
        docker
            .docker(["import", "--change", "CMD [\"sh\"]", tar, "bb"])
            .ok();
        docker
    }

    /// Starts the daemon, with the runtime of this name for who asks for none.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with_default(&self, runtime: &str) {
        let path = |name: &str| self.sandbox.path(name);
        // The README's daemon.json.
        let config = serde_json::json!({
            "default-runtime": runtime,
            "runtimes": {"dhow": {"path": program("dhow-runtime")}}
        });
        let config = self.sandbox.write("daemon.json", config.to_string());
        let mut daemon = self.enclosure.command("dockerd");
        daemon
            .arg("--config-file")
            .arg(config)
            .arg("--data-root")
            .arg(path("docker"))
            .arg("--exec-root")
            .arg(path("docker-exec"))
            .arg("--pidfile")
            .arg(path("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()))
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.enclosure.cgroup()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            // Its own words are looked at when a test has failed.
            .args(["--userland-proxy=false", "--debug"])
            .args(self.option);
        let log = path("docker.log");
        self.enclosure.daemon(daemon, &log);
        self.enclosure
            .until("dockerd answers", || self.docker(["version"]).status == 0);
    }

    /// Ends the daemon, as its administrator does.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) {
        let file = self.sandbox.path("docker.pid");
        self.enclosure
            .shell(&format!("kill $(cat {})", file.display()))
            .ok();
        self.enclosure.until("dockerd has ended", || !file.exists());
    }

    /// A command of Docker's.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.client("docker");
        command.args(args);
        command
    }

    /// A program that finds the daemon.
    fn client(&self, program: &str) -> Command {
        let mut command = self.enclosure.command(program);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", self.sandbox.path("docker-config"))
            .env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Runs a command of Docker's to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn docker<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        ran(self.command(args), b"")
    }

    /// Runs a shell script with a container of dhow's runtime to its end, and removes the container.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run(&self, options: &[&str], script: &str) -> Ran {
        self.run_with("dhow", options, script)
    }

    /// The same with a runtime that the daemon knows by this name.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run_with(&self, runtime: &str, options: &[&str], script: &str) -> Ran {
        let mut args = vec!["run", "--rm", "--network=none", "--runtime", runtime];
        args.extend(options);
        args.extend(["bb", "sh", "-c", script]);
        self.docker(args)
    }

    /// Starts a container of dhow's runtime in the background.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn background(&self, name: &str, options: &[&str], script: &str) {
        let mut args = vec!["run", "-d", "--runtime=dhow", "--name", name];
        args.extend(options);
        args.extend(["bb", "sh", "-c", script]);
        self.docker(args).ok();
    }

    /// What `docker inspect` says of a container.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.docker(["inspect", "--format", format, name]).ok()
    }

    /// Where it runs.
    pub fn enclosure(&self) -> &Enclosure {
        &self.enclosure
    }

    /// Its files.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Asserts that no container, shim, cgroup or record of the runtime's is left.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        assert_eq!(self.docker(["ps", "--all", "--quiet"]).ok(), "");
        // A shim ends a moment after its container was removed.
        self.enclosure.until("the shims are gone", || {
            self.enclosure.processes("containerd-shim").is_empty()
        });
        assert_eq!(self.enclosure.cgroups(), Vec::<PathBuf>::new());
        // Where containerd's shim tells any runtime to keep its records.
        let records = self.sandbox.path("docker-exec/runtime-runc/moby");
        let left: Vec<_> = fs_err::read_dir(records).expect("records").collect();
        assert!(left.is_empty(), "records: {left:?}");
    }
}

impl Drop for Docker {
    /// Tells what the daemon and its containerd know when a test has failed: of a container that never ended, which of its events
    /// were sent, which came, and what the daemon's threads wait for.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let words = "docker ps --all --no-trunc; ps -eo pid,ppid,stat,wchan:20,args; \
                     kill -USR1 $(cat docker.pid) $(cat docker-exec/containerd/containerd.pid); sleep 2; \
                     tail -n 500 docker-exec/goroutine-stacks-*; tail -n 1000 docker.log";
        let mut shell = self.client("timeout");
        shell
            .args(["30", "sh", "-c", &format!("cd \"$1\"; {words}"), "sh"])
            .arg(self.sandbox.path(""));
        let told = shell.output().map(|ran| ran.stdout);
        eprintln!("{}", String::from_utf8_lossy(&told.unwrap_or_default()));
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::new()
    }
}
