//! containerd's runc shim over dhow-runtime: by ctr (`--runc-binary`), and by CRI with a runtime handler whose BinaryName it is.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use dhow_integration_tests::{Containerd, Cri, IMAGE, Message, four_at_a_time, ran};

#[test]
fn ctr_runs_and_says_what_the_program_says() {
    let containerd = Containerd::new();
    assert_eq!(containerd.run("one", &[], "exit 42").status, 42);
    let both = containerd.run("one", &[], "echo out; echo err >&2; exit 3");
    assert_eq!(
        (both.status, both.stdout.as_str(), both.stderr.as_str()),
        (3, "out\n", "err\n")
    );
    let mut words = containerd.run_words("one", &["--rm"]);
    // ctr does not tell of the input's end, so the program must not wait for it.
    words.extend(["sh", "-c", "head -n 1; sleep 0.5"].map(str::to_owned));
    assert_eq!(ran(containerd.command(&words), b"in\n").ok(), "in");

    let mut words = containerd.run_words("one", &["--detach", "--null-io"]);
    words.push("nosuch".to_owned());
    let said = containerd.ctr(&words).fails(1);
    assert!(said.contains("OCI runtime create failed"), "{said}");
    assert!(
        said.contains("executable file not found in $PATH"),
        "{said}"
    );
    containerd.ctr(["containers", "delete", "one"]).ok();

    // A terminal of the caller's, by script(1).
    let mut words = containerd.run_words("one", &["--rm", "--tty"]);
    words.extend(["tty"].map(str::to_owned));
    let ctr = format!(
        "ctr --address {} {}",
        containerd.socket().display(),
        words.join(" ")
    );
    let said = containerd.enclosure().shell(&format!(
        "timeout 60 script --quiet --return --command '{ctr}' /dev/null </dev/null"
    ));
    assert!(said.ok().contains("/dev/pts/0"));
    containerd.nothing_is_left();
}

#[test]
fn ctr_gives_what_is_asked() {
    let containerd = Containerd::new();
    let run = |options: &[&str], script: &str| containerd.run("one", options, script);
    // Its containers have no view of cgroups; the host has.
    containerd.background(
        "limited",
        &["--memory-limit=33554432", "--cpus=0.5"],
        "sleep 1000",
    );
    let limit = |controller: &str, file: &str| {
        let cgroup = containerd.enclosure().cgroup();
        let path = format!("/sys/fs/cgroup/{controller}/{cgroup}/limited/{file}");
        fs_err::read_to_string(path).unwrap().trim().to_owned()
    };
    assert_eq!(limit("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(limit("cpu", "cpu.cfs_quota_us"), "50000");
    containerd
        .ctr(["task", "delete", "--force", "limited"])
        .ok();
    containerd.ctr(["containers", "delete", "limited"]).ok();
    assert_eq!(run(&["--env=A=b"], "echo $A").ok(), "b");
    let status = |options: &[&str], word: &str| {
        run(options, &format!("grep ^{word}: /proc/self/status")).ok()
    };
    assert_eq!(status(&[], "NoNewPrivs"), "NoNewPrivs:\t1");
    assert_eq!(
        status(&["--allow-new-privs"], "NoNewPrivs"),
        "NoNewPrivs:\t0"
    );
    assert_eq!(status(&[], "Seccomp"), "Seccomp:\t0");
    assert_eq!(status(&["--seccomp"], "Seccomp"), "Seccomp:\t2");
    assert_eq!(status(&[], "CapEff"), "CapEff:\t00000000a80425fb");
    assert_eq!(
        status(&["--cap-drop=CAP_CHOWN"], "CapEff"),
        "CapEff:\t00000000a80425fa"
    );
    assert_ne!(status(&["--privileged"], "CapEff"), status(&[], "CapEff"));
    run(&["--read-only"], "touch /x").fails(1);
    run(
        &["--mount=type=bind,src=/tmp,dst=/b,options=rbind:ro"],
        "touch /b/x",
    )
    .fails(1);
    assert!(
        run(&["--device=/dev/fuse"], "ls -l /dev/fuse")
            .ok()
            .contains("10, 229")
    );
    let net = containerd
        .enclosure()
        .shell("readlink /proc/self/ns/net")
        .ok();
    assert_eq!(run(&["--net-host"], "readlink /proc/self/ns/net").ok(), net);
    assert_ne!(run(&[], "readlink /proc/self/ns/net").ok(), net);
    run(&["--no-pivot"], "ls /bin/busybox").ok();
    let eaten = run(&["--memory-limit=16777216"], "tail /dev/zero");
    assert_eq!(eaten.status, 137, "{eaten:?}");
    containerd.nothing_is_left();
}

#[test]
fn ctr_task_verbs_work() {
    let containerd = Containerd::new();
    let task = |args: &[&str]| {
        let mut all = vec!["task"];
        all.extend(args);
        containerd.ctr(all)
    };
    let state = || {
        let list = task(&["list"]).ok();
        let line = list
            .lines()
            .find(|line| line.starts_with("one "))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(2)
            .unwrap_or_default()
            .to_owned()
    };
    containerd.background(
        "one",
        &[],
        "trap 'exit 3' TERM; while :; do sleep 0.1; done",
    );
    assert_eq!(state(), "RUNNING");
    let exec = |options: &[&str], words: &[&str]| {
        let mut all = vec!["exec", "--exec-id", "e"];
        all.extend(options);
        all.push("one");
        all.extend(words);
        task(&all)
    };
    assert_eq!(
        exec(
            &["--cwd=/tmp", "--user=5"],
            &["sh", "-c", "id -u; pwd; sleep 0.5"]
        )
        .ok(),
        "5\n/tmp"
    );
    assert_eq!(exec(&[], &["sh", "-c", "exit 7"]).status, 7);
    let missing = exec(&[], &["nosuch"]).fails(1);
    assert!(missing.contains("OCI runtime exec failed"), "{missing}");
    assert!(
        missing.contains("executable file not found in $PATH"),
        "{missing}"
    );

    task(&["pause", "one"]).ok();
    assert_eq!(state(), "PAUSED");
    exec(&[], &["true"]).fails(1);
    task(&["resume", "one"]).ok();
    assert_eq!(state(), "RUNNING");

    exec(&["--detach"], &["sleep", "1001"]).ok();
    let listed = task(&["ps", "one"]).ok();
    assert!(listed.lines().count() >= 3, "{listed}");
    let metrics: serde_json::Value =
        serde_json::from_str(&task(&["metrics", "--format", "json", "one"]).ok()).unwrap();
    assert!(metrics["pids"]["current"].as_u64() >= Some(2), "{metrics}");
    assert!(
        metrics["memory"]["usage"]["usage"].as_u64() > Some(0),
        "{metrics}"
    );
    task(&["kill", "--exec-id", "e", "--signal", "KILL", "one"]).ok();
    containerd.enclosure().until("the sleep is gone", || {
        containerd.enclosure().processes("sleep 1001").is_empty()
    });

    task(&["delete", "one"]).fails(1);
    task(&["kill", "one"]).ok();
    containerd
        .enclosure()
        .until("it has stopped", || state() == "STOPPED");
    let ended = |status: &str| {
        let ran = task(&["delete", "--force", "one"]);
        assert!(
            ran.stderr.contains(&format!("non-zero exit code {status}")),
            "{ran:?}"
        );
    };
    ended("3");
    task(&["start", "--detach", "--null-io", "one"]).ok();
    task(&["kill", "--all", "--signal", "KILL", "one"]).ok();
    containerd
        .enclosure()
        .until("it has stopped", || state() == "STOPPED");
    ended("137");
    task(&["start", "--detach", "--null-io", "one"]).ok();
    task(&["pause", "one"]).ok();
    ended("137");
    containerd.ctr(["containers", "delete", "one"]).ok();
    containerd.nothing_is_left();
}

/// The two ways to run a container's pod: on the node's network, with the limits' parent.
fn pod(name: &str, cgroup: &str, logs: &str) -> Message {
    let node = Message::new().number(1, 2).number(2, 1);
    let security = Message::new().message(1, &node);
    let linux = Message::new().text(1, cgroup).message(2, &security);
    let metadata = Message::new()
        .text(1, name)
        .text(2, "uid")
        .text(3, "default");
    Message::new()
        .message(1, &metadata)
        .text(3, logs)
        .message(8, &linux)
}

#[test]
fn kubernetes_interface_runs_a_pod() {
    let containerd = Containerd::new();
    let cri = Cri::new(containerd.socket(), containerd.sandbox());
    let logs = containerd.sandbox().path("pod-logs");
    let cgroup = format!("/{}/pods", containerd.enclosure().cgroup());
    let pod = pod("pod", &cgroup, logs.to_str().unwrap());
    let request = Message::new().message(1, &pod).text(2, "dhow");
    let pod_id = cri.call("RunPodSandbox", &request).text_of(1);

    let resources = Message::new()
        .number(1, 100_000)
        .number(2, 50_000)
        .number(3, 512)
        .number(4, 33_554_432);
    let resources = resources.number(5, 500);
    let user = Message::new().number(1, 1000);
    let security = Message::new()
        .message(3, &Message::new().number(1, 2).number(2, 1))
        .message(5, &user)
        .number(7, 1)
        .number(11, 1);
    let linux = Message::new().message(1, &resources).message(2, &security);
    let script = "echo begun; id -u; trap 'echo ended; exit 3' TERM; while :; do sleep 0.1; done";
    let container = Message::new()
        .message(1, &Message::new().text(1, "one"))
        .message(2, &Message::new().text(1, IMAGE))
        .text(3, "sh")
        .text(3, "-c")
        .text(3, script)
        .message(6, &Message::new().text(1, "A").text(2, "b"))
        .text(11, "one.log")
        .message(15, &linux);
    let request = Message::new()
        .text(1, &pod_id)
        .message(2, &container)
        .message(3, &pod);
    let id = cri.call("CreateContainer", &request).text_of(1);
    let this = Message::new().text(1, &id);
    let status = || cri.call("ContainerStatus", &this).message_of(1);
    assert_eq!(status().number_of(3), 0, "created");
    cri.call("StartContainer", &this);
    assert_eq!(status().number_of(3), 1, "running");

    let exec = |script: &str| {
        let request = this
            .clone()
            .text(2, "sh")
            .text(2, "-c")
            .text(2, script)
            .number(3, 30);
        let answer = cri.call("ExecSync", &request);
        (answer.number_of(3), answer.text_of(1))
    };
    let look = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /proc/self/oom_score_adj; echo $A; touch /x; exit 7";
    assert_eq!(exec(look), (7, "33554432\n500\nb\n".to_owned()));
    let more = Message::new().number(4, 67_108_864);
    cri.call("UpdateContainerResources", &this.clone().message(2, &more));
    assert_eq!(
        exec("cat /sys/fs/cgroup/memory/memory.limit_in_bytes").1,
        "67108864\n"
    );
    let stats = cri.call("ContainerStats", &this).message_of(1);
    assert!(
        stats.message_of(3).message_of(2).number_of(1) > 0,
        "memory in use"
    );
    let missing = Message::new().text(1, &id).text(2, "nosuch");
    let error = cri.try_call("ExecSync", &missing).unwrap_err();
    assert!(error.contains("executable file not found"), "{error}");

    cri.call("StopContainer", &this.clone().number(2, 10));
    let ended = status();
    assert_eq!(
        (ended.number_of(3), ended.number_of(7)),
        (2, 3),
        "exited with 3"
    );
    let text = fs_err::read_to_string(logs.join("one.log")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(" stdout F "))
        .map(|(_, said)| said)
        .collect();
    assert_eq!(lines, ["begun", "1000", "ended"]);
    cri.call("RemoveContainer", &this);
    let pod = Message::new().text(1, &pod_id);
    cri.call("StopPodSandbox", &pod);
    cri.call("RemovePodSandbox", &pod);
    for top in containerd.enclosure().cgroups() {
        // The pod's own cgroup is the kubelet's to remove.
        fs_err::remove_dir(top).unwrap();
    }
    containerd.nothing_is_left();
}

#[test]
fn two_hundred_four_at_a_time_are_all_right() {
    let containerd = Containerd::new();
    // ctr sometimes ends before it has read the output, with any runtime; a file is not lost.
    let out = containerd.sandbox().path("out");
    fs_err::create_dir(&out).unwrap();
    let mount = format!(
        "--mount=type=bind,src={},dst=/out,options=rbind:rw",
        out.display()
    );
    four_at_a_time(200, |number| {
        let code = i32::try_from(number % 100).unwrap();
        let script = format!("echo {number} >/out/{number}; exit {code}");
        let ran = containerd.run_briefly(&format!("c{number}"), &[&mount], &script);
        assert_eq!(ran.status, code, "{number}: {ran:?}");
    });
    for number in 0..200 {
        let text = fs_err::read_to_string(out.join(number.to_string())).unwrap();
        assert_eq!(text.trim(), number.to_string());
    }
    containerd.nothing_is_left();
}
