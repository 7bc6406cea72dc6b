//! Docker's daemon over dhow-runtime (`--add-runtime`, daemon.json's `runtimes`): what people type works as it does over runc.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::time::Duration;

use dhow_integration_tests::{Docker, four_at_a_time, ran};

#[test]
fn runs_and_says_what_the_program_says() {
    let docker = Docker::new();
    assert_eq!(docker.run(&[], "exit 42").status, 42);
    let both = docker.run(&[], "echo out; echo err >&2; exit 3");
    assert_eq!((both.status, both.stdout.as_str()), (3, "out\n"));
    assert!(both.stderr.contains("err"), "{both:?}");

    let cat = docker.command(["run", "--rm", "-i", "--runtime=dhow", "bb", "wc", "-c"]);
    assert_eq!(ran(cat, &vec![b'x'; 3_000_000]).ok(), "3000000");

    // The words that Docker makes 127 and 126 from.
    let run = |command: &str| docker.docker(["run", "--rm", "--runtime=dhow", "bb", command]);
    let missing = run("nosuch").fails(127);
    assert!(
        missing.contains("executable file not found in $PATH"),
        "{missing}"
    );
    let forbidden = run("/etc/passwd").fails(126);
    assert!(forbidden.contains("permission denied"), "{forbidden}");
    run("").fails(127);

    // A program that ends while one that it left behind holds its output.
    assert_eq!(docker.run(&[], "sleep 1 & echo first").ok(), "first");
    docker.nothing_is_left();
}

#[test]
fn limits_are_set_changed_and_read() {
    let docker = Docker::new();
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
    docker.background("one", &limits, "sleep 1000 & sleep 1001");
    assert_eq!(
        docker.docker(["exec", "one", "sh", "-c", files]).ok(),
        "33554432\n16777216\n50000\n512\n0\n33"
    );
    docker
        .docker([
            "update",
            "--memory=64m",
            "--memory-swap=128m",
            "--cpus=1.5",
            "--pids-limit=44",
            "one",
        ])
        .ok();
    assert_eq!(
        docker.docker(["exec", "one", "sh", "-c", files]).ok(),
        "67108864\n16777216\n150000\n512\n0\n44"
    );
    // What the kernel refuses is said, and the container lives on.
    docker.docker(["update", "--memory=4k", "one"]).fails(1);

    let stats = docker
        .docker([
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.PIDs}} {{.MemUsage}}",
            "one",
        ])
        .ok();
    assert!(stats.starts_with("one 2 "), "{stats}");
    assert!(stats.ends_with("/ 64MiB"), "{stats}");
    let top = docker.docker(["top", "one", "-o", "pid,args"]).ok();
    assert!(
        top.contains("sleep 1000") && top.contains("sleep 1001"),
        "{top}"
    );
    docker.docker(["rm", "-f", "one"]).ok();

    let eater = [
        "run",
        "--name=eater",
        "--runtime=dhow",
        "--memory=16m",
        "--memory-swap=16m",
    ];
    let mut args = eater.to_vec();
    args.extend(["bb", "tail", "/dev/zero"]);
    docker.docker(args).fails(137);
    assert_eq!(
        docker.inspect("eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "true 137"
    );
    docker.docker(["rm", "eater"]).ok();
    docker.nothing_is_left();
}

#[test]
fn lives_through_pause_stop_kill_and_restart() {
    let docker = Docker::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    docker.background("one", &[], script);
    let state = || docker.inspect("one", "{{.State.Status}} {{.State.ExitCode}}");
    docker.enclosure().until("it is up", || {
        docker.docker(["logs", "one"]).stdout == "up\n"
    });

    docker.docker(["pause", "one"]).ok();
    assert_eq!(state(), "paused 0");
    docker.docker(["exec", "one", "true"]).fails(1);
    docker.docker(["unpause", "one"]).ok();
    docker.docker(["stop", "one"]).ok();
    assert_eq!(state(), "exited 3");
    assert_eq!(docker.docker(["logs", "one"]).ok(), "up\nbye");

    docker.docker(["start", "one"]).ok();
    docker.docker(["kill", "--signal=KILL", "one"]).ok();
    assert_eq!(docker.docker(["wait", "one"]).ok(), "137");
    docker.docker(["restart", "--time=1", "one"]).ok();
    assert_eq!(state(), "running 0");
    // One that is frozen dies too.
    docker.docker(["pause", "one"]).ok();
    docker.docker(["kill", "one"]).ok();
    assert_eq!(docker.docker(["wait", "one"]).ok(), "137");
    docker.docker(["start", "one"]).ok();
    docker.docker(["pause", "one"]).ok();
    docker.docker(["rm", "-f", "one"]).ok();

    // A policy starts it again; a check finds it well.
    docker.background("again", &["--restart=on-failure:2"], "exit 4");
    docker.enclosure().until("it was started three times", || {
        docker.inspect("again", "{{.RestartCount}} {{.State.Status}}") == "2 exited"
    });
    docker.docker(["rm", "again"]).ok();
    let check = [
        "--health-cmd=test -f /well",
        "--health-interval=200ms",
        "--health-retries=1",
    ];
    docker.background("ill", &check, "sleep 1000");
    let health = |word: &str| {
        docker.enclosure().until(word, || {
            docker.inspect("ill", "{{.State.Health.Status}}") == word
        });
    };
    health("unhealthy");
    docker.docker(["exec", "ill", "touch", "/well"]).ok();
    health("healthy");
    docker.docker(["rm", "-f", "ill"]).ok();
    docker.nothing_is_left();
}

#[test]
fn executes_inside() {
    let docker = Docker::new();
    docker.background("one", &[], "sleep 1000");
    let exec = |options: &[&str], script: &str| {
        let mut args = vec!["exec"];
        args.extend(options);
        args.extend(["one", "sh", "-c", script]);
        docker.docker(args)
    };
    assert_eq!(
        exec(
            &["-u", "nobody", "-w", "/tmp", "-e", "A=b"],
            "id -u; pwd; echo $A"
        )
        .ok(),
        "65534\n/tmp\nb"
    );
    assert_eq!(exec(&[], "exit 7").status, 7);
    assert_eq!(exec(&[], "kill -9 $$").status, 137);
    assert_eq!(exec(&["-t"], "tty").ok(), "/dev/pts/0");
    exec(&["-d"], "echo x >/tmp/x").ok();
    docker
        .enclosure()
        .until("it wrote", || exec(&[], "cat /tmp/x").stdout == "x\n");
    let cat = docker.command(["exec", "-i", "one", "cat"]);
    assert_eq!(ran(cat, b"in").ok(), "in");
    let missing = docker.docker(["exec", "one", "nosuch"]);
    assert_eq!(missing.status, 126, "{missing:?}");
    assert!((missing.stdout + &missing.stderr).contains("executable file not found"));
    exec(&["-w", "/nosuch"], "true").fails(126);
    let effective = exec(&["--privileged"], "grep CapEff /proc/self/status").ok();
    let plain = exec(&[], "grep CapEff /proc/self/status").ok();
    assert_ne!(effective, plain);
    assert_eq!(plain, "CapEff:\t00000000a80425fb");

    // Twenty at once, each with its own status.
    let statuses: Vec<i32> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|number| scope.spawn(move || (number, format!("exit {number}"))))
            .map(|handle| handle.join().unwrap())
            .map(|(_, script)| scope.spawn(move || exec(&[], &script).status))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, (0..20).collect::<Vec<_>>());
    docker.docker(["rm", "-f", "one"]).ok();
    docker.nothing_is_left();
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
        "grep -E 'Cap|NoNewPrivs|Seccomp' /proc/self/status; umask; ulimit -a",
    ),
    (&["--cap-drop=ALL"], "grep Cap /proc/self/status"),
    (
        &["--cap-drop=ALL", "--cap-add=NET_ADMIN"],
        "grep Cap /proc/self/status; ip link set lo down && ip link",
    ),
    (
        &[
            "--security-opt=no-new-privileges",
            "--security-opt=seccomp=unconfined",
        ],
        "grep -E 'NoNew|Seccomp' /proc/self/status",
    ),
    (
        &["--security-opt=systempaths=unconfined"],
        "grep -c ' /proc/' /proc/self/mountinfo",
    ),
    (
        &["--read-only", "--tmpfs=/run", "--tmpfs=/t:size=1m,mode=700"],
        "touch /x; touch /run/x && mount | grep -E ' /(run|t) ' | sort",
    ),
    (
        &[
            "--ulimit=nofile=100:200",
            "--ulimit=core=0",
            "--ulimit=nproc=50:60",
        ],
        "cat /proc/self/limits",
    ),
    (&["--ulimit=nofile=100:20000000"], "true"),
    (
        &["--hostname=hh", "--domainname=d.example"],
        "ip link; hostname; cat /proc/sys/kernel/domainname",
    ),
    (
        &["-t"],
        "tty; stty size; ls -l /dev/console | cut -c1-40; mount | grep -E 'console|pts'; echo $TERM",
    ),
    (&["--shm-size=1m", "--ipc=shareable"], "df /dev/shm"),
    (
        &["--pid=host", "--uts=host", "--ipc=host"],
        "readlink /proc/self/ns/pid /proc/self/ns/uts /proc/self/ns/ipc",
    ),
    (
        &[
            "--sysctl=net.ipv4.ip_forward=1",
            "--sysctl=kernel.msgmax=9000",
        ],
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
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
        &[
            "--mount=type=tmpfs,dst=/tm,tmpfs-size=100k",
            "--mount=type=volume,dst=/vol",
            "-v=/etc/passwd:/p:ro",
        ],
        "touch /vol/x && ls /vol; echo >/p; wc -l </p; grep -E ' /(tm|p) ' /proc/self/mountinfo | cut -d' ' -f5-7",
    ),
    (&["--cpu-rt-runtime=100"], "true"),
    (
        &["--stop-signal=USR1", "--env=TERM=foo", "--workdir=/new/dir"],
        "env | grep -v HOSTNAME | sort; pwd",
    ),
    (&["--entrypoint=/bin/ls"], "/nosuch"),
];

#[test]
fn looks_from_inside_as_over_runc() {
    let docker = Docker::new();
    for (options, script) in AS_OVER_RUNC {
        let [runc, dhow] = ["runc", "dhow"].map(|name| docker.run_with(name, options, script));
        assert_eq!(
            (runc.status, &runc.stdout),
            (dhow.status, &dhow.stdout),
            "{options:?} {script}: {} {}",
            runc.stderr,
            dhow.stderr
        );
    }
    docker.nothing_is_left();
}

/// The same for containers whose root is nobody on the host.
const AS_OVER_RUNC_WITH_OTHER_IDS: &[(&[&str], &str)] = &[
    (
        &[],
        "id; cat /proc/self/uid_map; touch /x; ls -ln /x | cut -c1-34; grep Cap /proc/self/status",
    ),
    (&["-t"], "tty; ls -ln /dev/console | cut -c1-34"),
    (&[], "stat -c %u /dev/mqueue /dev/shm /dev/pts /dev/null"),
    (
        &["--read-only", "--tmpfs=/t", "--device=/dev/fuse"],
        "touch /t/x; touch /x; ls -ln /dev/fuse | cut -c1-34",
    ),
    (
        &[
            "--sysctl=net.ipv4.ip_forward=1",
            "--sysctl=kernel.msgmax=9000",
        ],
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    ),
    (
        &["--memory=32m", "--volume=/anon", "--user=5"],
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls -lnd /anon | cut -c1-34; id",
    ),
    (&["--userns=host"], "cat /proc/self/uid_map"),
];

#[test]
fn maps_ids_as_over_runc() {
    let docker = Docker::with_other_ids();
    for (options, script) in AS_OVER_RUNC_WITH_OTHER_IDS {
        let [runc, dhow] = ["runc", "dhow"].map(|name| docker.run_with(name, options, script));
        assert_eq!(
            (runc.status, &runc.stdout),
            (dhow.status, &dhow.stdout),
            "{options:?} {script}: {} {}",
            runc.stderr,
            dhow.stderr
        );
    }
    let options = ["--network=none", "--memory=32m"];
    docker.background("one", &options, "sleep 1000");
    let exec = |words: &[&str]| docker.docker([&["exec"], words].concat());
    assert_eq!(
        exec(&["one", "cat", "/proc/self/uid_map"]).ok(),
        "         0     300000      65536"
    );
    assert_eq!(
        exec(&["-t", "-u", "nobody", "one", "tty"]).ok(),
        "/dev/pts/0"
    );
    docker
        .docker(["update", "--memory=64m", "--memory-swap=-1", "one"])
        .ok();
    docker.docker(["pause", "one"]).ok();
    docker.docker(["unpause", "one"]).ok();
    docker.docker(["rm", "-f", "one"]).ok();
    docker.nothing_is_left();
}

#[test]
fn confines_and_shares_as_asked() {
    let docker = Docker::new();
    // All that Docker knows. Where the machine lacks one of them runc fails; dhow gives what there is.
    let script = "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev | wc -l";
    let privileged = docker.run(&["--privileged"], script).ok();
    let lines: Vec<_> = privileged.lines().collect();
    let capabilities = lines[0].trim_start_matches("CapEff:\t");
    let capabilities = u64::from_str_radix(capabilities, 16).unwrap();
    // chown, sys_admin, sys_ptrace, audit_read.
    for number in [0, 21, 19, 37] {
        assert!(capabilities & (1 << number) != 0, "{privileged}");
    }
    assert_eq!(lines[1], "Seccomp:\t0");
    assert!(lines[2].parse::<u32>().unwrap() > 30, "{privileged}");

    let init = docker.run(&["--init"], "ps -o pid,args | head -n 2").ok();
    assert!(init.contains("1 /sbin/docker-init -- sh"), "{init}");

    let net = "readlink /proc/self/ns/net";
    let host = docker.enclosure().shell(net).ok();
    assert_eq!(
        docker
            .docker([
                "run",
                "--rm",
                "--runtime=dhow",
                "--network=host",
                "bb",
                "sh",
                "-c",
                net
            ])
            .ok(),
        host
    );
    docker.background(
        "first",
        &["--network=none", "--ipc=shareable"],
        "sleep 1000",
    );
    let shared = "for n in net pid ipc; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done; ps -o args | head -n 2";
    let options = [
        "--network=container:first",
        "--pid=container:first",
        "--ipc=container:first",
    ];
    let mut args = vec!["run", "--rm", "--runtime=dhow"];
    args.extend(options);
    args.extend(["bb", "sh", "-c", shared]);
    assert_eq!(docker.docker(args).ok(), "COMMAND\nsleep 1000");
    docker.docker(["rm", "-f", "first"]).ok();

    // A profile of one's own.
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}"#;
    let profile = docker.sandbox().write("profile.json", profile);
    let option = format!("--security-opt=seccomp={}", profile.display());
    let refused = docker.run(&[&option], "mkdir /x");
    assert!(refused.stderr.contains("Input/output error"), "{refused:?}");
    docker.nothing_is_left();
}

#[test]
fn builds_commits_and_copies() {
    let docker = Docker::new();
    let text = "FROM bb\nRUN echo made >/made && id -u >>/made\nUSER nobody\nWORKDIR /w\n\
                RUN id -u >/tmp/who\nRUN [\"/bin/sh\", \"-c\", \"exit 0\"]\nCMD [\"cat\", \"/made\", \"/tmp/who\"]\n";
    let file = docker.sandbox().write("context/Dockerfile", text);
    let context = file.parent().unwrap().to_str().unwrap();
    // A build has no flag for the runtime: it takes the daemon's default.
    docker.stop();
    docker.start_with_default("dhow");
    docker
        .docker(["build", "-q", "--network=none", "-t", "built", context])
        .ok();
    let default = docker.docker(["info", "--format", "{{.DefaultRuntime}}"]);
    assert_eq!(default.ok(), "dhow");
    assert_eq!(
        docker.docker(["run", "--rm", "built"]).ok(),
        "made\n0\n65534"
    );
    let broken = docker
        .sandbox()
        .write("broken/Dockerfile", "FROM bb\nRUN exit 5\n");
    let broken = broken.parent().unwrap().to_str().unwrap();
    let said = docker
        .docker(["build", "-q", "--force-rm", broken])
        .fails(5);
    assert!(said.contains("returned a non-zero code: 5"), "{said}");

    docker.background("one", &[], "echo hi >/hi; sleep 1000");
    docker.enclosure().until("it wrote", || {
        docker.docker(["diff", "one"]).stdout.contains("A /hi")
    });
    let copied = docker.sandbox().path("copied");
    docker
        .docker(["cp", "one:/hi", copied.to_str().unwrap()])
        .ok();
    assert_eq!(fs_err::read_to_string(&copied).unwrap(), "hi\n");
    docker.docker(["commit", "one", "committed"]).ok();
    assert_eq!(
        docker
            .docker(["run", "--rm", "committed", "cat", "/hi"])
            .ok(),
        "hi"
    );
    docker.docker(["rm", "-f", "one"]).ok();
    docker.nothing_is_left();
}

#[test]
fn two_hundred_four_at_a_time_are_all_right() {
    let docker = Docker::new();
    four_at_a_time(200, |number| {
        let code = i32::try_from(number % 100).unwrap();
        let ran = docker.run(&[], &format!("echo {number}; exit {code}"));
        assert_eq!(
            (ran.status, ran.stdout.trim_end()),
            (code, number.to_string().as_str()),
            "{ran:?}"
        );
    });
    // The last shims are on their way out.
    std::thread::sleep(Duration::from_millis(100));
    docker.nothing_is_left();
}
