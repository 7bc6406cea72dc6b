//! What commands answer at each place of a container's life, beside runc on the same bundle.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use dhow_integration_tests::{Bundle, Ran, Sandbox, program, until};
use serde_json::{Value, json};

/// A runtime with a root of its own.
struct Runtime<'a> {
    name: &'static str,
    root: PathBuf,
    bundle: &'a Bundle,
}

impl<'a> Runtime<'a> {
    fn both(bundle: &'a Bundle) -> [Self; 2] {
        ["dhow-runtime", "runc"].map(|name| Self {
            name,
            root: bundle.path(format!("root-{name}")),
            bundle,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=1", "60"]);
        match self.name {
            "runc" => command.arg("runc"),
            _ => command.arg(program("dhow-runtime")),
        };
        command
            .arg("--root")
            .arg(&self.root)
            .args(args)
            .current_dir(self.bundle.path(""))
            .stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("start a runtime").into()
    }

    /// A command whose container's standard streams lead nowhere.
    #[track_caller]
    fn quiet(&self, args: &[&str]) {
        let status = self
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("start a runtime");
        assert!(status.success(), "{} {args:?}", self.name);
    }

    fn id(&self) -> String {
        format!("{}-{}", self.bundle.id(), self.name)
    }

    fn state(&self) -> Value {
        let ran = self.call(&["state", &self.id()]);
        serde_json::from_str(&ran.stdout).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn await_status(&self, status: &str) {
        until(&format!("{} is {status}", self.name), || {
            self.state()["status"] == status
        });
    }

    /// Asserts that a command fails with these words.
    #[track_caller]
    fn refuses(&self, args: &[&str], status: i32, words: &str) {
        let ran = self.call(args);
        let name = self.name;
        assert_eq!(ran.status, status, "{name} {args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(words),
            "{name} {args:?}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("os error"), "{}", ran.stderr);
    }
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id()]);
    }
}

fn keys(document: &Value) -> Vec<String> {
    let mut keys: Vec<String> = document.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys
}

#[test]
fn each_place_in_life_refuses_what_runc_refuses() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    bundle.cgroup_by_id();
    bundle.write_config();
    let mut states = Vec::new();
    for runtime in Runtime::both(&bundle) {
        let id = runtime.id();
        let id = id.as_str();
        runtime.quiet(&["create", id]);
        assert_eq!(runtime.state()["status"], "created");
        states.push(runtime.state());
        // Debian's runc has older words for it.
        let exists = match runtime.name {
            "runc" => "exist",
            _ => "container with given ID already exists",
        };
        runtime.refuses(&["create", id], 1, exists);
        runtime.refuses(&["run", id], 1, exists);
        runtime.refuses(&["resume", id], 1, "not paused");
        runtime.refuses(
            &["checkpoint", id],
            1,
            "cannot be checkpointed in created state",
        );

        runtime.quiet(&["start", id]);
        runtime.await_status("running");
        runtime.refuses(
            &["start", id],
            1,
            "cannot start an already running container",
        );
        runtime.refuses(
            &["delete", id],
            1,
            &format!("cannot delete container {id} that is not stopped: running"),
        );
        runtime.refuses(&["kill", id, "NOSUCH"], 1, "unknown signal");
        runtime.refuses(&["exec", id], 255, "args cannot be empty");
        runtime.refuses(&["exec", "-u", "me", id, "true"], 255, "me");

        runtime.quiet(&["pause", id]);
        runtime.await_status("paused");
        runtime.refuses(
            &["exec", id, "true"],
            255,
            "cannot exec in a paused container (use --ignore-paused to override)",
        );
        runtime.refuses(
            &["start", id],
            1,
            "cannot start a container in the paused state",
        );
        runtime.refuses(&["delete", id], 1, "that is not stopped: paused");
        runtime.quiet(&["resume", id]);
        runtime.await_status("running");

        runtime.quiet(&["kill", id, "KILL"]);
        runtime.await_status("stopped");
        assert_eq!(runtime.state()["pid"], 0);
        runtime.refuses(
            &["start", id],
            1,
            "cannot start a container that has stopped",
        );
        runtime.refuses(&["kill", id], 1, "container not running");
        runtime.refuses(&["pause", id], 1, "container not running");
        runtime.refuses(
            &["update", "--pids-limit", "9", id],
            1,
            "container not running",
        );
        runtime.refuses(
            &["exec", id, "true"],
            255,
            "cannot exec in a stopped container",
        );
        runtime.refuses(
            &["events", "--stats", id],
            1,
            &format!("container with id {id} is not running"),
        );
        runtime.refuses(
            &["checkpoint", id],
            1,
            "cannot be checkpointed in stopped state",
        );
        // With --all it is no mistake.
        runtime.quiet(&["kill", "--all", id, "KILL"]);
        runtime.quiet(&["delete", id]);
        runtime.refuses(&["delete", id], 1, "container does not exist");
    }
    assert_eq!(keys(&states[0]), keys(&states[1]));
    assert_eq!(states[0]["annotations"], states[1]["annotations"]);
    assert_eq!(states[0]["bundle"], states[1]["bundle"]);
    assert_eq!(states[0]["rootfs"], states[1]["rootfs"]);
}

#[test]
fn a_created_container_is_paused_and_resumed() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.cgroup_by_id();
    bundle.write_config();
    for runtime in Runtime::both(&bundle) {
        let id = runtime.id();
        runtime.quiet(&["create", &id]);
        runtime.quiet(&["pause", &id]);
        assert_eq!(runtime.state()["status"], "paused", "{}", runtime.name);
        let words = "cannot start a container in the paused state";
        runtime.refuses(&["start", &id], 1, words);
        runtime.quiet(&["resume", &id]);
        assert_eq!(runtime.state()["status"], "created", "{}", runtime.name);
        runtime.quiet(&["start", &id]);
        assert_eq!(runtime.state()["status"], "running", "{}", runtime.name);
    }
}

#[test]
fn a_created_container_is_deleted_with_its_process() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.cgroup_by_id();
    bundle.write_config();
    for runtime in Runtime::both(&bundle) {
        runtime.quiet(&["create", &runtime.id()]);
        let pid = runtime.state()["pid"].to_string();
        runtime.quiet(&["delete", &runtime.id()]);
        let command = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(
            command.is_empty(),
            "{}: {:?}",
            runtime.name,
            String::from_utf8_lossy(&command)
        );
        assert_eq!(runtime.state(), Value::Null);
    }
}

#[test]
fn a_program_that_is_not_there_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("");
    bundle.cgroup_by_id();
    for (args, words) in [
        (
            json!(["nothing"]),
            "exec: \"nothing\": executable file not found in $PATH",
        ),
        (
            json!(["/nothing"]),
            "exec: \"/nothing\": stat /nothing: no such file or directory",
        ),
        (
            json!(["/etc/passwd"]),
            "exec: \"/etc/passwd\": permission denied",
        ),
    ] {
        bundle.config["process"]["args"] = args;
        bundle.write_config();
        for runtime in Runtime::both(&bundle) {
            for verb in ["run", "create"] {
                let ran = runtime.call(&[verb, &runtime.id()]);
                assert_eq!(ran.status, 1, "{} {verb}: {}", runtime.name, ran.stderr);
                let before = match runtime.name {
                    "runc" => format!("runc {verb} failed: unable to start container process: "),
                    _ => format!("dhow-runtime {verb} failed: unable to start container process: "),
                };
                // In the log's text the quotes are escaped.
                let said = ran.stderr.replace('\\', "");
                assert!(
                    said.contains(&(before + words)),
                    "{} {verb}: {said}",
                    runtime.name
                );
                assert_eq!(runtime.state(), Value::Null, "{} {verb}", runtime.name);
            }
        }
    }
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.write_config();
    for runtime in Runtime::both(&bundle) {
        runtime.quiet(&["run", "--detach", &runtime.id()]);
        runtime.refuses(
            &["exec", &runtime.id(), "nothing"],
            255,
            "executable file not found in $PATH",
        );
    }
}

#[test]
fn statuses_of_exec_and_run_are_the_processs() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("exit 42");
    bundle.cgroup_by_id();
    bundle.write_config();
    for runtime in Runtime::both(&bundle) {
        assert_eq!(
            runtime.call(&["run", &runtime.id()]).status,
            42,
            "{}",
            runtime.name
        );
    }
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.write_config();
    for runtime in Runtime::both(&bundle) {
        let id = runtime.id();
        let pid_file = bundle.path(format!("{}.pid", runtime.name));
        runtime.quiet(&["run", "-d", "--pid-file", pid_file.to_str().unwrap(), &id]);
        assert_eq!(
            fs_err::read_to_string(&pid_file).unwrap(),
            runtime.state()["pid"].to_string()
        );
        for (script, status) in [
            ("exit 0", 0),
            ("exit 9", 9),
            ("kill -TERM $$", 143),
            ("kill -9 $$", 137),
            ("kill -USR1 $$", 138),
        ] {
            let ran = runtime.call(&["exec", &id, "sh", "-c", script]);
            assert_eq!(ran.status, status, "{} {script}", runtime.name);
        }
        // Every name and number of a signal is understood.
        for signal in ["WINCH", "SIGWINCH", "winch", "28", "SIGCONT", "URG"] {
            runtime.quiet(&["kill", &id, signal]);
        }
        assert_eq!(runtime.state()["status"], "running");
        let list = runtime.call(&["list"]).ok();
        let head: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!((row[0], row[2], row[5]), (&*id, "running", "root"));
        // The columns begin where runc's do.
        let (name, words) = (list.lines().next().unwrap(), list.lines().nth(1).unwrap());
        assert_eq!(name.find("PID"), words.find(row[1]), "{list}");
        assert_eq!(runtime.call(&["list", "-q"]).ok(), id);
        let listed: Value =
            serde_json::from_str(&runtime.call(&["list", "-f", "json"]).ok()).unwrap();
        assert_eq!(listed[0]["owner"], "root");
        let processes = runtime.call(&["ps", &id]).ok();
        assert_eq!(
            processes.lines().count(),
            2,
            "{}: {processes}",
            runtime.name
        );
    }
}

/// Without a pid namespace of its own, what a container started ends with it all the same.
#[test]
fn killing_a_container_in_the_hosts_pid_namespace_leaves_nobody() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 98765 & sleep 98765");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.start();
    let processes = || -> Vec<i32> {
        let said = bundle.runtime(["ps", "--format", "json", bundle.id()]).ok();
        serde_json::from_str(&said).unwrap()
    };
    until("both are there", || processes().len() == 2);
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    bundle.await_status("stopped");
    until("both are gone", || processes().is_empty());
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}
