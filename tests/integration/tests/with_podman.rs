//! podman over dhow-runtime (`--runtime`): what people type works as it does over runc.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::path::PathBuf;

use dhow_integration_tests::{Podman, Ran, four_at_a_time, ran};

#[test]
fn runs_and_says_what_the_program_says() {
    let podman = Podman::new();
    assert_eq!(podman.run(&[], "exit 42").status, 42);
    let both = podman.run(&[], "echo out; echo err >&2; exit 3");
    assert_eq!(
        (both.status, both.stdout.as_str(), both.stderr.as_str()),
        (3, "out\n", "err\n")
    );
    let count = podman.command(["run", "--rm", "-i", "bb", "wc", "-c"]);
    assert_eq!(ran(count, &vec![b'x'; 3_000_000]).ok(), "3000000");

    // The words that podman makes 127 and 126 from, read from the runtime's log.
    let missing = podman.podman(["run", "--rm", "bb", "nosuch"]).fails(127);
    assert!(
        missing.contains("executable file not found in $PATH"),
        "{missing}"
    );
    assert!(!missing.contains("level=error"), "{missing}");
    let forbidden = podman
        .podman(["run", "--rm", "bb", "/etc/passwd"])
        .fails(126);
    assert!(forbidden.contains("OCI permission denied"), "{forbidden}");

    // Descriptors of the caller's, and a terminal of its own, by a shell inside.
    let words = podman.runtime();
    let place = podman.sandbox().path("");
    let place = place.display();
    let podman_words = format!(
        "CONTAINERS_CONF={place}/containers.conf podman --root {place}/store --runroot {place}/run --tmpdir {place}/tmp --runtime {words}"
    );
    let said = podman.enclosure().shell(&format!(
        "echo three >{place}/three; echo four >{place}/four; \
         {podman_words} run --rm --preserve-fds 2 bb sh -c 'cat <&3; cat <&4' 3<{place}/three 4<{place}/four"
    ));
    assert_eq!(said.ok(), "three\nfour");
    let said = podman.enclosure().shell(&format!(
        "echo hello | timeout 60 script --quiet --return --command \
         \"{podman_words} run --rm -it bb sh -c 'tty; read x; echo got \\$x; exit 5'\" /dev/null"
    ));
    assert_eq!(said.status, 5, "{said:?}");
    assert!(
        said.stdout.contains("/dev/pts/0") && said.stdout.contains("got hello"),
        "{said:?}"
    );
    podman.nothing_is_left();
}

#[test]
fn limits_are_set_changed_and_read() {
    let podman = Podman::new();
    let files = "cd /sys/fs/cgroup && cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes \
                 cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max";
    let limits = [
        "--memory=32m",
        "--memory-swap=64m",
        "--memory-reservation=16m",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--cpuset-cpus=0",
        "--pids-limit=33",
    ];
    podman.background("one", &limits, "sleep 1000 & sleep 1001");
    let read = || podman.podman(["exec", "one", "sh", "-c", files]).ok();
    assert_eq!(read(), "33554432\n16777216\n50000\n512\n0\n33");
    podman
        .podman(["update", "--memory=48m", "--cpus=1.5", "one"])
        .ok();
    assert_eq!(read(), "50331648\n16777216\n150000\n512\n0\n33");
    let stats = podman.podman([
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}}",
        "one",
    ]);
    assert_eq!(stats.ok(), "one 2");
    let top = podman.podman(["top", "one", "args"]).ok();
    assert!(
        top.contains("sleep 1000") && top.contains("sleep 1001"),
        "{top}"
    );
    let top = podman.podman(["top", "one", "-o", "pid,args"]).ok();
    assert!(top.contains("sleep 1000"), "{top}");
    podman.podman(["rm", "--time=0", "--force", "one"]).ok();

    let eaten = [
        "run",
        "--name=eater",
        "--memory=16m",
        "--memory-swap=16m",
        "bb",
        "tail",
        "/dev/zero",
    ];
    podman.podman(eaten).fails(137);
    podman.podman(["rm", "eater"]).ok();
    podman.nothing_is_left();
}

#[test]
fn lives_through_pause_stop_kill_and_restart() {
    let podman = Podman::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    podman.background("one", &[], script);
    let does = |args: &[&str]| podman.podman(args);
    let state = || {
        does(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            "one",
        ])
        .ok()
    };
    podman
        .enclosure()
        .until("it is up", || does(&["logs", "one"]).stdout == "up\n");
    does(&["pause", "one"]).ok();
    assert_eq!(state(), "paused 0");
    does(&["exec", "one", "true"]).fails(255);
    does(&["unpause", "one"]).ok();
    does(&["stop", "one"]).ok();
    assert_eq!(state(), "exited 3");
    assert_eq!(does(&["logs", "one"]).ok(), "up\nbye");
    does(&["start", "one"]).ok();
    does(&["kill", "--signal=KILL", "one"]).ok();
    assert_eq!(does(&["wait", "one"]).ok(), "137");
    does(&["restart", "--time=1", "one"]).ok();
    assert_eq!(state(), "running 0");
    does(&["pause", "one"]).ok();
    does(&["rm", "--time=0", "--force", "one"]).ok();

    // Prepared, then started with its output shown.
    does(&["create", "--name=two", "bb", "echo", "made"]).ok();
    does(&["init", "two"]).ok();
    assert_eq!(does(&["start", "--attach", "two"]).ok(), "made");
    does(&["rm", "two"]).ok();
    podman.background("again", &["--restart=on-failure:2"], "echo run; exit 4");
    podman.enclosure().until("it was started three times", || {
        let format = "{{.RestartCount}} {{.State.ExitCode}} {{.State.Status}}";
        does(&["inspect", "--format", format, "again"])
            .stdout
            .trim()
            == "2 4 exited"
    });
    assert_eq!(does(&["logs", "again"]).ok(), "run\nrun\nrun");
    does(&["rm", "again"]).ok();
    let check = [
        "--health-cmd=test -f /well",
        "--health-interval=disable",
        "--health-retries=1",
    ];
    podman.background("ill", &check, "sleep 1000");
    does(&["healthcheck", "run", "ill"]).fails(1);
    does(&["exec", "ill", "touch", "/well"]).ok();
    does(&["healthcheck", "run", "ill"]).ok();
    does(&["rm", "--time=0", "--force", "ill"]).ok();
    let late = podman.run(&["--timeout=1"], "sleep 100");
    assert_ne!(late.status, 0, "{late:?}");
    podman.nothing_is_left();
}

#[test]
fn executes_inside() {
    let podman = Podman::new();
    podman.background("one", &[], "echo hi >/hi; sleep 1000");
    let exec = |options: &[&str], script: &str| {
        let mut args = vec!["exec"];
        args.extend(options);
        args.extend(["one", "sh", "-c", script]);
        podman.podman(args)
    };
    let options = ["--user=nobody", "--workdir=/tmp", "--env=A=b"];
    assert_eq!(exec(&options, "id -u; pwd; echo $A").ok(), "65534\n/tmp\nb");
    assert_eq!(exec(&[], "exit 7").status, 7);
    assert_eq!(exec(&[], "kill -9 $$").status, 137);
    assert_eq!(exec(&["--tty"], "tty").ok(), "/dev/pts/0");
    exec(&["--detach"], "echo x >/tmp/x").ok();
    podman
        .enclosure()
        .until("it wrote", || exec(&[], "cat /tmp/x").stdout == "x\n");
    assert_eq!(
        ran(podman.command(["exec", "-i", "one", "cat"]), b"in").ok(),
        "in"
    );
    podman.podman(["exec", "one", "nosuch"]).fails(127);
    podman.podman(["exec", "one", "/etc/passwd"]).fails(126);
    exec(&["--workdir=/nosuch"], "true").fails(127);
    assert_eq!(
        exec(&[], "grep CapEff /proc/self/status").ok(),
        "CapEff:\t00000000a80425fb"
    );
    assert_ne!(
        exec(&["--privileged"], "grep CapEff /proc/self/status").ok(),
        "CapEff:\t00000000a80425fb"
    );

    assert!(podman.podman(["diff", "one"]).ok().contains("A /hi"));
    let copied = podman.sandbox().path("copied");
    podman
        .podman(["cp", "one:/hi", copied.to_str().unwrap()])
        .ok();
    assert_eq!(fs_err::read_to_string(copied).unwrap(), "hi\n");
    podman
        .podman(["commit", "--quiet", "one", "committed"])
        .ok();
    assert_eq!(
        podman
            .podman(["run", "--rm", "committed", "cat", "/hi"])
            .ok(),
        "hi"
    );
    podman.podman(["rm", "--time=0", "--force", "one"]).ok();
    podman.nothing_is_left();
}

/// Options and a script; what it prints and how it ends is the same over runc.
const AS_OVER_RUNC: &[(&[&str], &str)] = &[
    (
        &["--user=1000:50", "--group-add=77", "--group-add=staff"],
        "id",
    ),
    (
        &["--user=nobody"],
        "id; grep -E 'Cap|Groups' /proc/self/status",
    ),
    (
        &[],
        "grep -E 'Cap|NoNewPrivs|Seccomp' /proc/self/status; ulimit -a",
    ),
    (&["--umask=077"], "umask"),
    (&["--cap-drop=ALL"], "grep Cap /proc/self/status"),
    (
        &["--user=1000", "--cap-add=net_raw"],
        "grep Cap /proc/self/status",
    ),
    (&["--privileged"], "grep -E 'Cap|Seccomp' /proc/self/status"),
    (
        &[
            "--security-opt=no-new-privileges",
            "--security-opt=seccomp=unconfined",
        ],
        "grep -E 'NoNew|Seccomp' /proc/self/status",
    ),
    (
        &["--security-opt=mask=/etc", "--security-opt=unmask=ALL"],
        "ls /etc; grep -c ' /proc/' /proc/self/mountinfo",
    ),
    (&["--read-only"], "touch /x; touch /run/x /tmp/x && echo ok"),
    (
        &[
            "--tmpfs=/t:size=1m,mode=700",
            "--mount=type=tmpfs,dst=/t2,tmpfs-size=4096,tmpcopyup",
        ],
        "mount | grep -E ' /t2? ' | sort",
    ),
    (
        &[
            "--volume=/etc/passwd:/p:ro",
            "--mount=type=bind,src=/etc,dst=/b,bind-propagation=rslave,ro",
        ],
        "touch /b/x; echo >/p; wc -l </p",
    ),
    (&["--mount=type=devpts,destination=/pts"], "ls /pts"),
    (&["--hostname=hh"], "ip link; hostname"),
    (
        &["--tty"],
        "tty; stty size; ls -l /dev/console | cut -c1-40; mount | grep -E 'console|pts'; echo $TERM",
    ),
    (
        &["--uts=host", "--pid=host", "--ipc=host", "--network=host"],
        "readlink /proc/self/ns/pid /proc/self/ns/uts /proc/self/ns/ipc | wc -l",
    ),
    (
        &["--sysctl=net.ipv4.ip_forward=1"],
        "cat /proc/sys/net/ipv4/ip_forward",
    ),
    (
        &[
            "--device=/dev/null:/dev/mine:rw",
            "--device-cgroup-rule=c 10:* rwm",
        ],
        "ls -l /dev/mine | cut -c1-10; echo x >/dev/mine && mknod /x b 7 0 && dd if=/x of=/dev/null count=1",
    ),
    (
        &["--device-read-bps=/dev/vda:1mb"],
        "cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device",
    ),
    (&["--oom-score-adj=500"], "cat /proc/self/oom_score_adj"),
    (&["--cgroupns=private"], "cat /proc/self/cgroup"),
    (
        &["--init", "--init-path=/usr/bin/tini-static"],
        "ps -o args",
    ),
    (
        &["--uidmap=0:100000:65536", "--gidmap=0:100000:65536"],
        "id; cat /proc/self/uid_map; touch /x; ls -ln /x | cut -c1-40; stat -c %u /dev/mqueue; grep Cap /proc/self/status",
    ),
    (
        &["--uidmap=0:100000:65536", "--tty"],
        "id; tty; ls -ln /dev/console | cut -c1-40",
    ),
    (
        &["--userns=auto:size=1000"],
        "id; cut -c 20- /proc/self/uid_map",
    ),
    (
        &["--systemd=always"],
        "ls -d /sys/fs/cgroup/systemd; echo $container",
    ),
    (
        &["--stop-signal=USR1", "--env=TERM=foo", "--workdir=/new/dir"],
        "env | grep -v HOSTNAME | sort; pwd",
    ),
];

#[test]
fn looks_from_inside_as_over_runc() {
    let [runc, dhow] = [
        Podman::with_runtime(PathBuf::from("/usr/sbin/runc")),
        Podman::new(),
    ];
    let shown = |ran: &Ran| (ran.status, ran.stdout.clone());
    for (options, script) in AS_OVER_RUNC {
        let [runc, dhow] = [&runc, &dhow].map(|podman| podman.run(options, script));
        assert_eq!(
            shown(&runc),
            shown(&dhow),
            "{options:?} {script}: {} {}",
            runc.stderr,
            dhow.stderr
        );
    }
    dhow.nothing_is_left();
}

#[test]
fn pods_share_namespaces() {
    let podman = Podman::new();
    let does = |args: &[&str]| podman.podman(args);
    let cgroup = format!("--cgroup-parent=/{}", podman.enclosure().cgroup());
    let pod = [
        "pod",
        "create",
        "--name=pod",
        "--network=none",
        "--share=net,ipc,uts,pid",
    ];
    does(&[pod.as_slice(), &[&cgroup]].concat()).ok();
    does(&["create", "--pod=pod", "--init-ctr=once", "bb", "true"]).ok();
    does(&[
        "run",
        "--detach",
        "--pod=pod",
        "--name=one",
        "bb",
        "sleep",
        "1000",
    ])
    .ok();
    let seen = does(&["run", "--rm", "--pod=pod", "bb", "ps", "-o", "args"]).ok();
    assert_eq!(seen, "COMMAND\nsleep 1000000\nsleep 1000\nps -o args");
    does(&["pod", "pause", "pod"]).ok();
    does(&["pod", "unpause", "pod"]).ok();
    let status = || does(&["pod", "ps", "--format", "{{.Status}}"]).ok();
    assert_eq!(status(), "Running");
    does(&["pod", "stop", "--time=0", "pod"]).ok();
    does(&["pod", "start", "pod"]).ok();
    assert_eq!(status(), "Running");
    does(&["pod", "rm", "--time=0", "--force", "pod"]).ok();

    // Namespaces of another container's, a user namespace among them.
    podman.background("one", &["--uidmap=0:100000:65536"], "sleep 1000");
    let joined = [
        "--network=container:one",
        "--pid=container:one",
        "--userns=container:one",
    ];
    let same = "for n in net pid user; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done; cut -c 1-22 /proc/self/uid_map";
    assert_eq!(podman.run(&joined, same).ok(), "         0     100000");
    assert_eq!(does(&["exec", "one", "id", "-u"]).ok(), "0");
    // podman's own clean-up after the joined one may still have a mount in its hands; then it says so, and can be asked again.
    podman.enclosure().until("podman lets go of it", || {
        does(&["rm", "--time=0", "--force", "--ignore", "one"]).status == 0
    });
    podman.nothing_is_left();
}

#[test]
fn plays_a_kubernetes_manifest() {
    let podman = Podman::new();
    let manifest = r#"apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: true
  restartPolicy: Never
  initContainers:
  - name: i
    image: localhost/bb
    imagePullPolicy: Never
    command: [sh, -c, "echo init >/v/f"]
    volumeMounts: [{name: v, mountPath: /v}]
  containers:
  - name: c
    image: localhost/bb
    imagePullPolicy: Never
    command: [sh, -c, "cat /v/f; sleep 1000"]
    volumeMounts: [{name: v, mountPath: /v}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {runAsUser: 5, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  volumes: [{name: v, emptyDir: {}}]
"#;
    let file = podman.sandbox().write("pod.yaml", manifest);
    let file = file.to_str().unwrap();
    podman.podman(["kube", "play", file]).ok();
    podman.enclosure().until("it read", || {
        podman.podman(["logs", "p-c"]).stdout == "init\n"
    });
    let inside =
        "id -u; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; grep CapBnd /proc/self/status";
    assert_eq!(
        podman.podman(["exec", "p-c", "sh", "-c", inside]).ok(),
        "5\n67108864\nCapBnd:\t0000000000000000"
    );
    let format = ["pod", "inspect", "--format", "{{.CgroupPath}}", "p"];
    let cgroup = podman.podman(format).ok();
    podman.podman(["kube", "down", file]).ok();
    // podman leaves a pod's own cgroup in the hierarchies without a controller, with any runtime.
    podman.enclosure().remove_cgroup(&cgroup);
    podman.nothing_is_left();
}

#[test]
fn two_hundred_four_at_a_time_are_all_right() {
    let podman = Podman::new();
    four_at_a_time(200, |number| {
        let code = i32::try_from(number % 100).unwrap();
        let ran = podman.run(&[], &format!("echo {number}; exit {code}"));
        assert_eq!(
            (ran.status, ran.stdout.trim_end()),
            (code, number.to_string().as_str()),
            "{ran:?}"
        );
    });
    podman.nothing_is_left();
}
