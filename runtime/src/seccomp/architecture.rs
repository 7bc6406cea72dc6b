//! Architectures: how the kernel tells them apart in a filter, and their system calls by name.

use oci_spec::runtime::Arch;

use super::SeccompError;

/// A calling convention of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
    /// x86_64 with 32-bit pointers: the same audit value, with a bit in the number.
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
}

/// The architectures that share an audit value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    pub(super) audit: u32,
    pub(super) members: Vec<Architecture>,
}

/// The bit that tells an x32 call.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// How wide arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// 32 bits: the rest is not looked at.
    Narrow,
    /// 64 bits.
    Wide,
}

/// This machine's own architecture and those that a profile names, by audit value, the own one first.
pub(super) fn groups(named: &[Arch]) -> Result<Vec<Group>, SeccompError> {
    let native = native()?;
    let mut groups = vec![Group {
        audit: native.audit(),
        members: vec![native],
    }];
    for name in named {
        let architecture = match name {
            Arch::ScmpArchNative => native,
            other => match Architecture::from_name(*other) {
                Some(architecture) => architecture,
                // None of the machines that this program runs on can make calls of the others, so nothing is said of them.
                None => continue,
            },
        };
        let audit = architecture.audit();
        match groups.iter_mut().find(|group| group.audit == audit) {
            None => groups.push(Group {
                audit,
                members: vec![architecture],
            }),
            Some(group) if !group.members.contains(&architecture) => {
                group.members.push(architecture);
            }
            Some(_) => {}
        }
    }
    Ok(groups)
}

fn native() -> Result<Architecture, SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Architecture::X86_64),
        "aarch64" => Ok(Architecture::Aarch64),
        "riscv64" => Ok(Architecture::Riscv64),
        "loongarch64" => Ok(Architecture::Loongarch64),
        other => Err(SeccompError::Machine(other)),
    }
}

impl Architecture {
    fn from_name(name: Arch) -> Option<Self> {
        Some(match name {
            Arch::ScmpArchX86_64 => Self::X86_64,
            Arch::ScmpArchX86 => Self::X86,
            Arch::ScmpArchX32 => Self::X32,
            Arch::ScmpArchAarch64 => Self::Aarch64,
            Arch::ScmpArchArm => Self::Arm,
            Arch::ScmpArchRiscv64 => Self::Riscv64,
            Arch::ScmpArchLoongarch64 => Self::Loongarch64,
            _ => return None,
        })
    }

    fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Loongarch64 => 0xc000_0102,
        }
    }

    /// How wide its arguments are. x32 has 64-bit registers, of which libseccomp compares the lower half.
    pub(super) fn word(self) -> Word {
        match self {
            Self::X86 | Self::Arm | Self::X32 => Word::Narrow,
            _ => Word::Wide,
        }
    }

    /// Visits its system calls by name and number; a call with two names twice.
    pub(super) fn visit(self, mut visit: impl FnMut(&'static str, u32)) {
        /// Every call of one of the crate's tables.
        macro_rules! table {
            ($table:ident, $visit:expr) => {{
                use syscalls::$table::Sysno;
                let visit: &mut dyn FnMut(&'static str, u32) = $visit;
                for number in Sysno::first().id()..=Sysno::last().id() {
                    let number = number.unsigned_abs();
                    if let Some(call) = Sysno::new(number as usize) {
                        visit(call.name(), number);
                    }
                }
            }};
        }
        // The numbers that only 32-bit kernels have in the common table.
        let is_time64 = |number| (403..=423).contains(&number);
        let mut generic = |name, number| {
            if name == "fstatat" {
                // The kernel's own name for it.
                visit("newfstatat", number);
            }
            if !is_time64(number) {
                visit(name, number);
            }
        };
        match self {
            Self::Aarch64 => table!(aarch64, &mut generic),
            Self::Riscv64 => table!(riscv64, &mut generic),
            Self::Loongarch64 => table!(loongarch64, &mut generic),
            Self::X86_64 => table!(x86_64, &mut visit),
            Self::X86 => table!(x86, &mut visit),
            Self::X32 => table!(x86_64, &mut |name, number| {
                if let Some(number) = x32_number(name, number) {
                    visit(name, number);
                }
            }),
            Self::Arm => {
                for (name, number) in ARM_PRIVATE {
                    visit(name, 0x000f_0000 + number);
                }
                table!(arm, &mut visit);
            }
        }
    }

    /// Whether old programs of this architecture made some calls through others.
    pub(super) fn multiplexes(self) -> bool {
        self == Self::X86
    }

    /// The call through which old programs of this architecture made one that has a number of its own since, and its first
    /// argument then.
    pub(super) fn multiplexed(self, name: &str) -> Option<(u32, u32)> {
        if !self.multiplexes() {
            return None;
        }
        let find = |list: &[(&str, u32)]| {
            list.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, first)| *first)
        };
        find(&SOCKET_CALLS)
            .map(|first| (X86_SOCKETCALL, first))
            .or_else(|| find(&IPC_CALLS).map(|first| (X86_IPC, first)))
    }
}

/// arm's calls outside of the common table (asm/unistd.h).
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 1),
    ("cacheflush", 2),
    ("usr26", 3),
    ("usr32", 4),
    ("set_tls", 5),
    ("get_tls", 6),
];

/// x32's numbers for calls whose arguments have pointers in memory; 512 and up (syscall_64.tbl).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// What only 64-bit programs can call.
const NOT_X32: [&str; 14] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
    "map_shadow_stack",
];

fn x32_number(name: &str, number: u32) -> Option<u32> {
    if let Some(at) = X32_OWN.iter().position(|own| *own == name) {
        return u32::try_from(at).ok().map(|at| X32_BIT + 512 + at);
    }
    (!NOT_X32.contains(&name)).then_some(X32_BIT | number)
}

const X86_SOCKETCALL: u32 = 102;
const X86_IPC: u32 = 117;

/// First arguments of socketcall(2) (linux/net.h).
const SOCKET_CALLS: [(&str, u32); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// First arguments of ipc(2) (linux/ipc.h).
const IPC_CALLS: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn number(architecture: Architecture, wanted: &str) -> Option<u32> {
        let mut found = None;
        architecture.visit(|name, number| {
            if name == wanted {
                found = Some(number);
            }
        });
        found
    }

    #[test]
    fn calls_have_the_numbers_of_their_architecture() {
        use Architecture as A;
        for (architecture, name, expected) in [
            (A::X86_64, "execve", Some(59)),
            (A::X86, "execve", Some(11)),
            (A::X32, "execve", Some(X32_BIT + 520)),
            (A::X32, "pwritev2", Some(X32_BIT + 547)),
            (A::X32, "getpid", Some(X32_BIT + 39)),
            (A::X32, "uselib", None),
            (A::Aarch64, "execve", Some(221)),
            (A::Aarch64, "newfstatat", Some(79)),
            (A::Aarch64, "futex_time64", None),
            (A::Aarch64, "pidfd_send_signal", Some(424)),
            (A::Riscv64, "newfstatat", Some(79)),
            (A::Loongarch64, "execve", Some(221)),
            (A::Arm, "set_tls", Some(0xf_0005)),
            (A::Arm, "futex_time64", Some(422)),
        ] {
            assert_eq!(
                number(architecture, name),
                expected,
                "{architecture:?} {name}"
            );
        }
    }

    #[test]
    fn architectures_of_one_audit_value_are_one_group() {
        let groups = groups(&[Arch::ScmpArchX86_64, Arch::ScmpArchX32, Arch::ScmpArchX86]).unwrap();
        let x86_64 = groups
            .iter()
            .find(|group| group.audit == 0xc000_003e)
            .unwrap();
        assert_eq!(x86_64.members, [Architecture::X86_64, Architecture::X32]);
    }
}
