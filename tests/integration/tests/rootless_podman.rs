//! podman and buildah (packages of these names) of a user without privileges, with dhow's runtime.

use dhow_integration_tests::{Ran, Sandbox, Stranger, base_image, ran};

const CONFIG: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["dhow-runtime"]
"#;

/// The user's tools, on a store of his with the image `bb`.
struct Tools<'a> {
    stranger: Stranger<'a>,
    sandbox: &'a Sandbox,
}

impl<'a> Tools<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let tools = Self {
            stranger: Stranger::new(sandbox),
            sandbox,
        };
        sandbox.write("containers.conf", CONFIG);
        fs_err::copy(base_image("busybox"), sandbox.path("bb.tar")).expect("copy");
        let tar = sandbox.path("bb.tar").display().to_string();
        tools
            .podman(&["import", "--quiet", "--change", "CMD [\"sh\"]", &tar, "bb"])
            .ok();
        tools
    }

    fn tool(&self, name: &str, more: &[String], args: &[&str]) -> Ran {
        let config = self.sandbox.path("containers.conf");
        let mut command = self.stranger.command("env");
        command
            .arg(format!("CONTAINERS_CONF={}", config.display()))
            .arg(name)
            .arg("--root")
            .arg(self.sandbox.path("home/store"))
            .arg("--runroot")
            .arg(self.sandbox.path("run/store"))
            .args(["--storage-driver", "vfs"])
            .args(more)
            .args(args);
        ran(command, b"")
    }

    #[track_caller]
    fn podman(&self, args: &[&str]) -> Ran {
        let more = [
            "--tmpdir".to_owned(),
            self.sandbox.path("run/libpod").display().to_string(),
            "--runtime".to_owned(),
            self.stranger.runtime().display().to_string(),
        ];
        self.tool("podman", &more, args)
    }

    #[track_caller]
    fn run(&self, options: &[&str], script: &str) -> Ran {
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend(["bb", "sh", "-c", script]);
        self.podman(&args)
    }
}

#[test]
fn podman_runs_containers_in_its_own_user_namespace() {
    let sandbox = Sandbox::new();
    let tools = Tools::new(&sandbox);
    assert_eq!(
        tools.run(&[], "id -u; cat /proc/self/uid_map | wc -l").ok(),
        "0\n2"
    );
    assert_eq!(
        tools.run(&["--user", "1000:1000"], "id -u; id -g").ok(),
        "1000\n1000"
    );
    // Outside he is himself.
    let id = Stranger::ID.to_string();
    assert_eq!(tools.run(&["--userns", "keep-id"], "id -u").ok(), id);
    tools
        .run(&["--network", "host", "--read-only"], "ls /sys/class/net")
        .ok();
    tools
        .run(
            &["--privileged"],
            "mount -t tmpfs x /mnt || mount -t tmpfs x /tmp",
        )
        .ok();
    let mapped = tools
        .run(&["--userns", "auto:size=1000"], "cat /proc/self/uid_map")
        .ok();
    assert!(mapped.ends_with("1000"), "{mapped}");
    assert_eq!(tools.run(&[], "exit 7").status, 7);
    assert_eq!(
        tools
            .podman(&["run", "--rm", "bb", "no-such-program"])
            .status,
        127
    );
}

#[test]
fn podman_joins_what_another_container_has() {
    let sandbox = Sandbox::new();
    let tools = Tools::new(&sandbox);
    tools
        .podman(&["run", "-d", "--name", "one", "bb", "sleep", "1000"])
        .ok();
    let words = "cat /proc/1/comm";
    // Its pid namespace, from a user namespace that both are in; and that namespace by path, where there is nothing to enter.
    assert_eq!(tools.run(&["--pid", "container:one"], words).ok(), "sleep");
    tools
        .run(
            &["--userns", "container:one", "--network", "container:one"],
            "true",
        )
        .ok();
    assert_eq!(
        tools.podman(&["exec", "one", "cat", "/proc/1/comm"]).ok(),
        "sleep"
    );
    assert_eq!(
        tools
            .podman(&["exec", "--user", "1000", "one", "id", "-u"])
            .ok(),
        "1000"
    );
    assert!(tools.podman(&["top", "one"]).ok().contains("sleep 1000"));
    tools.podman(&["rm", "-f", "-t", "0", "one"]).ok();
    let auto = [
        "run",
        "-d",
        "--name",
        "two",
        "--userns",
        "auto:size=1000",
        "bb",
        "sleep",
        "1000",
    ];
    tools.podman(&auto).ok();
    let joined = ["--userns", "container:two", "--pid", "container:two"];
    assert_eq!(tools.run(&joined, words).ok(), "sleep");
    tools.podman(&["stop", "-t", "0", "two"]).ok();
    tools.podman(&["start", "two"]).ok();
    tools.podman(&["rm", "-f", "-t", "0", "two"]).ok();
    assert_eq!(tools.podman(&["ps", "-aq"]).ok(), "");
}

#[test]
fn buildah_builds() {
    let sandbox = Sandbox::new();
    let tools = Tools::new(&sandbox);
    let context = sandbox.path("home/context");
    sandbox.write(
        "home/context/Dockerfile",
        "FROM bb\nRUN id -u >/who && mkdir /x && chown 5:6 /x\nUSER 1000\nRUN stat -c %u:%g /x && cat /who && id -u\n",
    );
    tools.stranger.give(&context);
    for isolation in ["oci", "rootless"] {
        let runtime = tools.stranger.runtime().display().to_string();
        let context = context.display().to_string();
        let build = [
            "bud",
            "--isolation",
            isolation,
            "--runtime",
            &runtime,
            "--network",
            "host",
            "--no-cache",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
            "-t",
            "made",
            &context,
        ];
        let said = tools.tool("buildah", &[], &build).ok();
        assert!(said.contains("\n5:6\n0\n1000\n"), "{said}");
    }
}
