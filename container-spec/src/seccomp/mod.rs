//! The default filter of system calls, equal in effect to Docker's.
//!
//! It says what is allowed; all else gets EPERM, as if a privilege were missing, which programs know to handle. What can
//! only be done with a capability is allowed to who has it. Docker's has a condition on the kernel's version too (ptrace
//! since 4.8, before which it got around a filter); dhow needs a newer kernel anyway.

mod tables;

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use tables::{ALLOWED, BY_ARCHITECTURE, BY_CAPABILITY};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Flags of clone(2) that make namespaces; CLONE_NEWTIME is not among them, since clone cannot make one.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Address families of socket(2) that reach past the container: the kernel's crypto and the hypervisor.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains of personality(2): Linux, with or without 16-bit uname, 32-bit, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default filter for a container whose bounding set has these capabilities, on a machine of this architecture.
pub fn default_seccomp(capabilities: &HashSet<Capability>, machine: Arch) -> LinuxSeccomp {
    let administers = capabilities.contains(&Capability::SysAdmin);
    let mut rules = vec![allow(ALLOWED.iter().copied())];
    rules.extend(sockets());
    rules.extend(
        PERSONALITIES
            .iter()
            .map(|persona| on("personality", LinuxSeccompOperator::ScmpCmpEq, *persona)),
    );
    for (architectures, names) in BY_ARCHITECTURE {
        if architectures.contains(&machine) {
            rules.push(allow([*names]));
        }
    }
    for (capability, names) in BY_CAPABILITY {
        if capabilities.contains(capability) {
            rules.push(allow([*names]));
        }
    }
    if !administers {
        rules.extend(clones());
    }
    let mut filter = LinuxSeccomp::default();
    filter
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures(machine)))
        .set_syscalls(Some(rules));
    filter
}

/// The architecture that this program was built for; where there is none of these the runtime refuses the filter by name.
pub(crate) fn machine() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => Arch::ScmpArchX86_64,
        "aarch64" => Arch::ScmpArchAarch64,
        "riscv64" => Arch::ScmpArchRiscv64,
        "loongarch64" => Arch::ScmpArchLoongarch64,
        _ => Arch::ScmpArchNative,
    }
}

/// The machine's own and those whose programs its kernel runs too.
fn architectures(machine: Arch) -> Vec<Arch> {
    match machine {
        Arch::ScmpArchX86_64 => vec![machine, Arch::ScmpArchX86, Arch::ScmpArchX32],
        Arch::ScmpArchAarch64 => vec![machine, Arch::ScmpArchArm],
        other => vec![other],
    }
}

/// Calls that are allowed whatever their arguments are; each text is names with white space between.
fn allow<'a>(names: impl IntoIterator<Item = &'a str>) -> LinuxSyscall {
    let names = names
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect();
    let mut rule = LinuxSyscall::default();
    rule.set_names(names)
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_errno_ret(None)
        .set_args(None);
    rule
}

/// A call that is allowed when its first argument compares so.
fn on(name: &str, operator: LinuxSeccompOperator, value: u64) -> LinuxSyscall {
    on_argument(name, argument(0, operator, value, 0))
}

fn on_argument(name: &str, argument: LinuxSeccompArg) -> LinuxSyscall {
    let mut rule = allow([name]);
    rule.set_args(Some(vec![argument]));
    rule
}

fn argument(
    index: usize,
    operator: LinuxSeccompOperator,
    value: u64,
    second: u64,
) -> LinuxSeccompArg {
    // The type has no setters, and its builder's error cannot occur: every field has a default.
    LinuxSeccompArgBuilder::default()
        .index(index)
        .op(operator)
        .value(value)
        .value_two(second)
        .build()
        .unwrap_or_default()
}

/// Sockets of every family but two.
fn sockets() -> [LinuxSyscall; 3] {
    use LinuxSeccompOperator as Operator;
    [
        on("socket", Operator::ScmpCmpLt, AF_ALG),
        on("socket", Operator::ScmpCmpEq, AF_ALG + 1),
        on("socket", Operator::ScmpCmpGt, AF_VSOCK),
    ]
}

/// New processes and threads, but no namespaces. clone3 has its flags in memory where a filter cannot see them; ENOSYS makes
/// C libraries use clone.
fn clones() -> [LinuxSyscall; 2] {
    let flags = argument(0, LinuxSeccompOperator::ScmpCmpMaskedEq, NEW_NAMESPACES, 0);
    let mut clone3 = allow(["clone3"]);
    clone3
        .set_action(LinuxSeccompAction::ScmpActErrno)
        .set_errno_ret(Some(ENOSYS));
    [on_argument("clone", flags), clone3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::{all_capabilities, default_capabilities};
    use LinuxSeccompAction::{ScmpActAllow as Allow, ScmpActErrno as Errno};

    /// What a filter does with a call, as the specification has it.
    fn decide(filter: &LinuxSeccomp, name: &str, args: [u64; 2]) -> (LinuxSeccompAction, u32) {
        use LinuxSeccompOperator as Operator;
        let holds = |arg: &LinuxSeccompArg| {
            let value = args[arg.index()];
            match arg.op() {
                Operator::ScmpCmpEq => value == arg.value(),
                Operator::ScmpCmpLt => value < arg.value(),
                Operator::ScmpCmpGt => value > arg.value(),
                Operator::ScmpCmpMaskedEq => value & arg.value() == arg.value_two().unwrap_or(0),
                other => panic!("{other}"),
            }
        };
        filter
            .syscalls()
            .iter()
            .flatten()
            .find(|rule| {
                rule.names().iter().any(|known| known == name)
                    && rule.args().iter().flatten().all(holds)
            })
            .map_or(
                (
                    filter.default_action(),
                    filter.default_errno_ret().unwrap_or(0),
                ),
                |rule| (rule.action(), rule.errno_ret().unwrap_or(0)),
            )
    }

    fn default() -> LinuxSeccomp {
        default_seccomp(&default_capabilities(), Arch::ScmpArchX86_64)
    }

    #[test]
    fn ordinary_programs_run() {
        for name in [
            "read",
            "openat2",
            "execve",
            "futex",
            "mmap",
            "clone",
            "ptrace",
            "chroot",
            "io_setup",
            "landlock_create_ruleset",
            "memfd_secret",
            "arch_prctl",
            "modify_ldt",
            "mseal",
            "process_vm_readv",
            "fchmodat2",
        ] {
            assert_eq!(decide(&default(), name, [0, 0]).0, Allow, "{name}");
        }
    }

    #[test]
    fn what_reaches_past_the_container_is_denied() {
        for name in [
            "mount",
            "umount2",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "init_module",
            "kexec_load",
            "keyctl",
            "add_key",
            "open_by_handle_at",
            "reboot",
            "swapon",
            "userfaultfd",
            "io_uring_setup",
            "pivot_root",
            "settimeofday",
            "iopl",
            "syslog",
            "acct",
            "fsopen",
            "move_mount",
            "kcmp",
            "mbind",
            "quotactl",
            "vhangup",
            "nfsservctl",
        ] {
            assert_eq!(decide(&default(), name, [0, 0]), (Errno, 1), "{name}");
        }
    }

    #[test]
    fn arguments_decide_where_a_call_does_many_things() {
        for (name, first, expected) in [
            ("clone", 0x0100_0011, (Allow, 0)),
            ("clone", 0x1000_0000, (Errno, 1)),
            ("clone", 0x0200_0000, (Errno, 1)),
            ("clone3", 0, (Errno, 38)),
            ("socket", 2, (Allow, 0)),
            ("socket", 38, (Errno, 1)),
            ("socket", 39, (Allow, 0)),
            ("socket", 40, (Errno, 1)),
            ("socket", 44, (Allow, 0)),
            ("personality", 0xffff_ffff, (Allow, 0)),
            ("personality", 0x0004_0000, (Errno, 1)),
        ] {
            assert_eq!(
                decide(&default(), name, [first, 0]),
                expected,
                "{name} {first:#x}"
            );
        }
    }

    #[test]
    fn a_capability_brings_its_calls() {
        let with = |capability| {
            let mut capabilities = default_capabilities();
            capabilities.insert(capability);
            default_seccomp(&capabilities, Arch::ScmpArchX86_64)
        };
        for (capability, name) in [
            (Capability::SysAdmin, "mount"),
            (Capability::SysAdmin, "clone3"),
            (Capability::SysTime, "clock_settime"),
            (Capability::SysPtrace, "pidfd_getfd"),
            (Capability::Bpf, "bpf"),
            (Capability::Perfmon, "perf_event_open"),
            (Capability::Syslog, "syslog"),
            (Capability::SysNice, "mbind"),
            (Capability::DacReadSearch, "open_by_handle_at"),
            (Capability::SysBoot, "reboot"),
            (Capability::SysModule, "finit_module"),
        ] {
            assert_eq!(decide(&with(capability), name, [0, 0]).0, Allow, "{name}");
        }
        let all = default_seccomp(&all_capabilities(), Arch::ScmpArchX86_64);
        assert_eq!(decide(&all, "clone", [0x1000_0000, 0]).0, Allow);
        assert_eq!(decide(&all, "keyctl", [0, 0]).0, Errno);
    }

    #[test]
    fn an_architecture_brings_its_calls_and_its_kin() {
        let arm = default_seccomp(&default_capabilities(), Arch::ScmpArchAarch64);
        assert_eq!(decide(&arm, "set_tls", [0, 0]).0, Allow);
        assert_eq!(decide(&arm, "arch_prctl", [0, 0]).0, Errno);
        assert_eq!(
            arm.architectures(),
            &Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
        );
    }

    #[test]
    fn no_call_stands_twice() {
        let mut seen = HashSet::new();
        for name in ALLOWED.iter().flat_map(|names| names.split_whitespace()) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
