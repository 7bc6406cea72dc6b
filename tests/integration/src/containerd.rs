//! containerd (package containerd) on a root and a socket of its own, whose runc shim calls dhow's runtime.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::enclosure::Enclosure;
use crate::{Ran, Sandbox, program, ran};

/// The name under which it knows the test's image.
pub const IMAGE: &str = "docker.io/library/bb:latest";

/// A daemon, gone with its sandbox's test. Its images are `bb` and, for pods, `pause`.
pub struct Containerd {
    // Ended before the sandbox's files go.
    enclosure: Enclosure,
    sandbox: Sandbox,
}

impl Containerd {
    /// Starts it, and imports what dhow built into both of its namespaces.
    ///
    /// # Panics
    /// When it does not start (package containerd).
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let containerd = Self {
            enclosure: Enclosure::new(&sandbox.path("")),
            sandbox,
        };
        let archive = containerd.archive();
        let config = containerd
            .sandbox
            .write("containerd.toml", containerd.config());
        let mut daemon = containerd.enclosure.command("containerd");
        daemon.arg("--config").arg(config);
        let log = containerd.sandbox.path("containerd.log");
        containerd.enclosure.daemon(daemon, &log);
        containerd.enclosure.until("containerd answers", || {
            containerd.ctr(["version"]).status == 0
        });
        for namespace in ["default", "k8s.io"] {
            containerd
                .ctr(["--namespace", namespace, "images", "import", &archive])
                .ok();
        }
        containerd
    }

    /// An archive of dhow's with both images.
    fn archive(&self) -> String {
        let sandbox = &self.sandbox;
        sandbox.import_busybox();
        sandbox.dhow(["tag", "busybox", "bb"]).ok();
        let text = "FROM bb\nENTRYPOINT [\"sleep\", \"1000000\"]\n";
        let file = sandbox.write("pause/Dockerfile", text);
        let context = file.parent().and_then(|dir| dir.to_str());
        let context = context.expect("a path in UTF-8");
        sandbox
            .dhow(["build", "--quiet", "--tag", "pause", context])
            .ok();
        let archive = sandbox.path("images.tar");
        let archive = archive.to_str().expect("a path in UTF-8").to_owned();
        sandbox.dhow(["save", "-o", &archive, "bb", "pause"]).ok();
        archive
    }

    /// The README's config.toml, and places of its own.
    fn config(&self) -> String {
        let place = self.sandbox.path("containerd");
        let place = place.display();
        let runtime = program("dhow-runtime");
        let runtime = runtime.display();
        format!(
            r#"version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:latest"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{place}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dhow]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dhow.options]
        BinaryName = "{runtime}"
"#
        )
    }

    /// The socket that its clients call.
    pub fn socket(&self) -> PathBuf {
        self.sandbox.path("containerd.sock")
    }

    /// A command of ctr's.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        // ctr waits for ever in some of its own mistakes.
        let mut command = self.enclosure.command("timeout");
        command
            .args(["--foreground", "--kill-after=1", "60", "ctr", "--address"])
            .arg(self.socket())
            .args(args);
        command
    }

    /// Runs a command of ctr's to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn ctr<I, S>(&self, args: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        ran(self.command(args), b"")
    }

    /// The words of `ctr run` up to the image, with dhow's runtime and a cgroup of the test's.
    pub fn run_words(&self, name: &str, options: &[&str]) -> Vec<String> {
        let binary = program("dhow-runtime").display().to_string();
        let cgroup = format!("/{}/{name}", self.enclosure.cgroup());
        let mut words: Vec<String> = ["run", "--runc-binary", &binary, "--cgroup", &cgroup]
            .map(str::to_owned)
            .to_vec();
        words.extend(options.iter().map(|option| (*option).to_owned()));
        words.extend([IMAGE.to_owned(), name.to_owned()]);
        words
    }

    /// Runs a shell script with a container of dhow's runtime to its end, and removes the container. The container stays a
    /// moment after its last words: at the end ctr hangs up without having read all (with any runtime, once in some hundred runs).
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str], script: &str) -> Ran {
        let lingering = format!("( {script}\n); status=$?; sleep 0.5; exit $status");
        self.run_briefly(name, options, &lingering)
    }

    /// The same without the moment; what it says may be lost.
    ///
    /// # Panics
    /// As [`Containerd::run`].
    #[track_caller]
    pub fn run_briefly(&self, name: &str, options: &[&str], script: &str) -> Ran {
        let mut all = vec!["--rm"];
        all.extend(options);
        let mut words = self.run_words(name, &all);
        words.extend(["sh", "-c", script].map(str::to_owned));
        self.ctr(words)
    }

    /// Starts a container of dhow's runtime in the background, with nothing on its standard streams.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn background(&self, name: &str, options: &[&str], script: &str) {
        let mut all = vec!["--detach", "--null-io"];
        all.extend(options);
        let mut words = self.run_words(name, &all);
        words.extend(["sh", "-c", script].map(str::to_owned));
        self.ctr(words).ok();
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
        for namespace in ["default", "k8s.io"] {
            let list = self.ctr(["--namespace", namespace, "containers", "list", "--quiet"]);
            assert_eq!(list.ok(), "");
        }
        // A shim ends a moment after its container was removed.
        self.enclosure.until("the shims are gone", || {
            self.enclosure.processes("containerd-shim").is_empty()
        });
        assert_eq!(self.enclosure.cgroups(), Vec::<PathBuf>::new());
        let records = self
            .enclosure
            .shell("ls -A /run/containerd/runc/* 2>/dev/null");
        let left: Vec<&str> = records
            .stdout
            .lines()
            .filter(|line| !line.is_empty() && !line.ends_with(':'))
            .collect();
        assert!(left.is_empty(), "records: {left:?}");
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self::new()
    }
}
