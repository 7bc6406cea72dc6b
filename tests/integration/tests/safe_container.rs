//! The container that nobody asked anything special of is a safe one: seen from inside, in a `dhow run` without flags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use dhow_integration_tests::{Sandbox, program, ran};

/// Docker's default capabilities: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
/// sys_chroot, mknod, audit_write, setfcap.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

/// What a script says inside a container of the busybox image.
#[track_caller]
fn inside(sandbox: &Sandbox, flags: &[&str], script: &str) -> String {
    let mut words = vec!["run", "--rm"];
    words.extend(flags);
    words.extend(["busybox", "sh", "-c", script]);
    sandbox.dhow(words).ok()
}

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

/// The fields of /proc/PID/status.
fn status_fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

#[test]
fn root_inside_has_dockers_capabilities_and_a_filter_of_system_calls() {
    let sandbox = with_busybox();
    let text = inside(&sandbox, &[], "cat /proc/self/status");
    let fields = status_fields(&text);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(fields[set], DEFAULT_CAPABILITIES, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["Seccomp"], "2");
}

#[test]
fn another_user_has_no_capability_in_force() {
    let sandbox = with_busybox();
    let text = inside(
        &sandbox,
        &["-u", "nobody"],
        "cat /proc/self/status; id; touch /etc/x 2>&1; true",
    );
    let fields = status_fields(&text);
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["CapBnd"], DEFAULT_CAPABILITIES);
    assert_eq!(fields["Uid"], "65534\t65534\t65534\t65534");
    // The groups are the image's, not those of whoever typed the command.
    let id = text.lines().find(|line| line.starts_with("uid=")).unwrap();
    assert!(
        id.starts_with("uid=65534(nobody) gid=65534(nogroup)"),
        "{id}"
    );
    assert!(id.contains("50(staff)") && !id.contains("0(root)"), "{id}");
}

#[test]
fn calls_that_reach_into_the_kernel_are_refused() {
    let sandbox = with_busybox();
    let probe = sandbox.path("calls");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes/calls.c");
    let mut compile = Command::new("cc");
    compile
        .args(["-static", "-o"])
        .args([probe.as_os_str(), source.as_os_str()]);
    ran(compile, b"").ok();
    let bind = format!("{}:/calls:ro", probe.display());

    for user in ["root", "nobody"] {
        let said = sandbox
            .dhow(["run", "--rm", "-v", &bind, "-u", user, "busybox", "/calls"])
            .ok();
        let mut answers: BTreeMap<_, _> = said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let chroot = if user == "root" { "allowed" } else { "EPERM" };
        let expected = [
            ("clone3", "ENOSYS"),
            ("ptrace", "allowed"),
            ("chroot", chroot),
            ("getpid", "allowed"),
        ];
        for (call, answer) in expected {
            assert_eq!(answers.remove(call), Some(answer), "{call} as {user}");
        }
        assert!(answers.len() > 20, "{said}");
        for (call, answer) in answers {
            assert_eq!(answer, "EPERM", "{call} as {user}");
        }
    }
}

#[test]
fn what_proc_and_sys_tell_of_the_host_is_masked() {
    let sandbox = with_busybox();
    let said = inside(
        &sandbox,
        &[],
        "for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
             /proc/sched_debug /proc/scsi /proc/timer_list /sys/firmware /sys/devices/virtual/powercap; do
             [ -e $path ] || continue
             if [ -d $path ]; then found=$(ls -A $path); else found=$(head -c 64 $path); fi
             echo $path=$found
         done",
    );
    assert!(said.contains("/proc/keys="), "{said}");
    for line in said.lines() {
        assert!(line.ends_with('='), "not masked: {line}");
    }
    // The host has something to say there, or this test would prove nothing.
    assert!(!fs_err::read("/proc/keys").unwrap().is_empty());
}

#[test]
fn the_kernels_switches_cannot_be_turned() {
    let sandbox = with_busybox();
    let said = inside(
        &sandbox,
        &[],
        "for file in /proc/sys/kernel/panic /proc/sys/vm/swappiness /proc/sysrq-trigger /proc/irq/default_smp_affinity \
             /sys/kernel/mm/transparent_hugepage/enabled /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/tasks; do
             [ -e $file ] || continue
             (echo 0 >$file) 2>/dev/null && echo written: $file || echo refused: $file
         done
         mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x /sys/fs/cgroup/unified/x 2>/dev/null && echo written: cgroup
         cat /proc/self/mountinfo",
    );
    assert!(!said.contains("written:"), "{said}");
    assert!(said.matches("refused: ").count() >= 3, "{said}");
    for line in said.lines().filter(|line| line.contains(" - ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let (target, flags) = (fields[4], fields[5]);
        // What is mounted on the host later does not come in, and what is mounted here does not go out.
        assert!(!line.contains("shared:"), "{line}");
        if target == "/sys" || target.starts_with("/sys/") {
            assert!(flags.split(',').any(|flag| flag == "ro"), "{line}");
        }
        if target == "/proc" || target == "/sys" || target.starts_with("/sys/fs/cgroup") {
            for flag in ["nosuid", "nodev", "noexec"] {
                assert!(flags.split(',').any(|have| have == flag), "{flag}: {line}");
            }
        }
    }
}

/// A command that is called with two directories of the host open.
fn with_open_directories(sandbox: &Sandbox, words: &[&str]) -> Command {
    let mut caller = Command::new("sh");
    caller
        .args(["-c", "exec 7<. 8</; exec \"$0\" \"$@\""])
        .arg(program("dhow"))
        .args(words)
        .current_dir(sandbox.path(""))
        .env("DHOW_ROOT", sandbox.path("root"))
        .env("DHOW_STATE", sandbox.path("state"));
    caller
}

#[test]
fn nothing_of_the_callers_files_environment_and_directory_comes_in() {
    let sandbox = with_busybox();
    let list = ["run", "--rm", "-i", "busybox", "ls", "/proc/self/fd"];
    let said = ran(with_open_directories(&sandbox, &list), b"").ok();
    // The last is the directory that it lists.
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);

    let script = "echo cwd $(pwd) $(readlink /proc/1/cwd); echo root $(readlink /proc/1/root); env";
    let words = ["run", "--rm", "busybox", "sh", "-c", script];
    let mut caller = with_open_directories(&sandbox, &words);
    caller
        .env("A_SECRET_OF_THE_HOST", "1")
        .env("http_proxy", "http://127.0.0.1:9");
    let said = ran(caller, b"").ok();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("cwd / /"));
    assert_eq!(lines.next(), Some("root /"));
    let names: BTreeSet<&str> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // PWD and SHLVL are the shell's own.
    let expected = BTreeSet::from(["HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"]);
    assert_eq!(names, expected, "{said}");
}

#[test]
fn no_working_directory_leads_out_by_a_descriptor() {
    // CVE-2024-21626: a runtime that leaks a directory of the host lets /proc/self/fd/N be the working directory.
    let sandbox = with_busybox();
    sandbox.write("witness", "of the host");
    for fd in 3..14 {
        let directory = format!("/proc/self/fd/{fd}");
        let words = ["run", "--rm", "-w", &directory, "busybox", "ls", ".", ".."];
        let caller = with_open_directories(&sandbox, &words);
        let said = ran(caller, b"");
        assert!(
            !said.stdout.contains("witness") && !said.stdout.contains("busybox.tar"),
            "descriptor {fd}: {said:?}"
        );
    }
}

#[test]
fn its_namespaces_are_its_own() {
    let sandbox = with_busybox();
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let said = inside(
        &sandbox,
        &[],
        "for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done; hostname; echo $$; ls /proc",
    );
    let mut lines = said.lines();
    for kind in kinds {
        let own = fs_err::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(lines.next(), own.to_str(), "{kind}");
    }
    let hostname = lines.next().unwrap();
    assert_ne!(
        hostname,
        fs_err::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim()
    );
    assert_eq!(hostname.len(), 12, "the container's short id: {hostname}");
    assert_eq!(lines.next(), Some("1"));
    let processes = lines.filter(|name| name.parse::<u32>().is_ok()).count();
    assert!(processes <= 2, "{said}");
}

#[test]
fn its_cgroup_is_the_root_of_what_it_sees() {
    let sandbox = with_busybox();
    let said = inside(&sandbox, &[], "cat /proc/self/cgroup");
    assert!(!said.is_empty());
    for line in said.lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
}

#[test]
fn without_a_network_there_is_only_loopback() {
    let sandbox = with_busybox();
    for flags in [&["--network", "none"][..], &[]] {
        let said = inside(&sandbox, flags, "ip -o link; ip -o addr; ls /sys/class/net");
        let links: Vec<&str> = said.lines().filter(|line| line.contains("mtu")).collect();
        assert_eq!(links.len(), 1, "{said}");
        assert!(
            links[0].contains("lo:") && links[0].contains("UP"),
            "{said}"
        );
        assert!(said.contains("127.0.0.1/8"), "{said}");
        assert!(said.ends_with("lo"), "{said}");
    }
    let said = inside(
        &sandbox,
        &["--network", "host"],
        "readlink /proc/self/ns/net",
    );
    let own = fs_err::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(Some(said.as_str()), own.to_str());
}

#[test]
fn only_harmless_devices_are_there_and_others_do_not_open() {
    let sandbox = with_busybox();
    let said = inside(&sandbox, &[], "ls /dev");
    // And a link to the kernel's memory where the kernel shows it; it is masked.
    let found: Vec<_> = said.lines().filter(|name| *name != "core").collect();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(found, expected);

    // CAP_MKNOD is among Docker's defaults, so it is the cgroup that says no: a loop device, fuse, the kernel's messages.
    let said = inside(
        &sandbox,
        &[],
        "mknod /tmp/null c 1 3 && echo x >/tmp/null && echo null works
         for node in 'b 7 0' 'c 10 229' 'c 1 11' 'b 254 0'; do
             mknod /tmp/node $node && head -c 1 /tmp/node 2>&1 | grep -o 'Operation not permitted' || echo opened: $node
             rm /tmp/node
         done",
    );
    let refused = "Operation not permitted";
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["null works", refused, refused, refused, refused]
    );
}

#[test]
fn a_read_only_root_is_read_only() {
    let sandbox = with_busybox();
    let said = inside(
        &sandbox,
        &["--read-only"],
        "touch /x 2>&1; touch /etc/x /tmp/x /root/x 2>/dev/null; touch /dev/shm/x && echo shm is not; ls /x /etc/x /tmp/x 2>/dev/null; true",
    );
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["touch: /x: Read-only file system", "shm is not"]
    );
}

#[test]
fn a_read_only_bind_is_read_only() {
    let sandbox = with_busybox();
    sandbox.write("shared/file", "kept");
    let bind = format!("{}:/shared:ro", sandbox.path("shared").display());
    let said = inside(
        &sandbox,
        &["-v", &bind],
        "(echo lost >/shared/file) 2>&1 | grep -o 'Read-only file system'; cat /shared/file",
    );
    assert_eq!(said, "Read-only file system\nkept");
}

#[test]
fn a_process_that_joins_later_is_confined_alike() {
    let sandbox = with_busybox();
    let _box = sandbox.removed_at_end("box");
    sandbox
        .dhow([
            "run",
            "-d",
            "--name",
            "box",
            "busybox",
            "sh",
            "-c",
            "sleep 60 & wait",
        ])
        .ok();
    let script = "cat /proc/self/status; cat /proc/self/cgroup; pwd; env";
    let mut exec = sandbox.command(["exec", "box", "sh", "-c", script]);
    exec.env("A_SECRET_OF_THE_HOST", "1");
    let said = ran(exec, b"").ok();
    let fields = status_fields(&said);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(fields[set], DEFAULT_CAPABILITIES, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["Seccomp"], "2");
    assert!(!said.contains("A_SECRET_OF_THE_HOST"), "{said}");
    assert!(said.contains("\n/\n"), "{said}");
    let list = ["exec", "box", "ls", "/proc/self/fd"];
    let fds = ran(with_open_directories(&sandbox, &list), b"").ok();
    assert_eq!(fds.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for line in said.lines().filter(|line| line.contains(":/")) {
        assert!(line.ends_with(":/") || line.starts_with("PATH="), "{line}");
    }
}
