//! A seccomp profile to a program for the kernel, made here without libseccomp.
//!
//! The program is a search tree over the numbers of system calls, in which neighbours that are treated alike are one leaf:
//! with a profile of 370 calls it takes 7 comparisons for a call where a list takes some hundreds. What it decides is what
//! runc with libseccomp would have it decide, and a test holds it against libseccomp.

mod architecture;
mod code;
#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod oracle;
mod rules;

use dhow_sys::seccomp::{Instruction, NEW_LISTENER};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

/// A filter that can be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For `dhow_sys::seccomp::install_filter`.
    pub instructions: Vec<Instruction>,
    /// Its flags, with `NEW_LISTENER` when the profile asks somebody about calls.
    pub flags: u32,
}

impl Program {
    /// Whether installing it gives a listener, which the profile's listenerPath is to get.
    pub fn has_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A machine whose system calls are not known.
    #[error("seccomp filters cannot be made on this machine's architecture, {0}")]
    Machine(&'static str),
    /// An argument that does not exist.
    #[error(
        "the seccomp rule for {syscall} looks at argument {index}; a system call has arguments 0 to 5"
    )]
    Argument {
        /// The call.
        syscall: String,
        /// The argument.
        index: usize,
    },
    /// An errno that does not fit.
    #[error("the seccomp rule for {syscall} answers with errno {errno}; the largest is 4095")]
    Errno {
        /// The call, or "all others".
        syscall: String,
        /// The number.
        errno: u32,
    },
    /// An errno for an action that has none.
    #[error(
        "the seccomp rule for {syscall} has an errnoRet, which {action} does not take; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"
    )]
    NoErrno {
        /// The call, or "all others".
        syscall: String,
        /// The action.
        action: LinuxSeccompAction,
    },
    /// A profile in which somebody is asked about a call that is needed to tell him.
    #[error(
        "the seccomp profile asks about {0}, which the runtime itself needs to hand over the listener; allow it instead"
    )]
    Notify(&'static str),
    /// A listener that nobody was named for.
    #[error("the seccomp profile has SCMP_ACT_NOTIFY but no listenerPath")]
    NoListener,
    /// Words for nobody.
    #[error("the seccomp profile has a listenerMetadata but no listenerPath")]
    NobodyForMetadata,
    /// Too long for the kernel.
    #[error("the seccomp profile needs {0} instructions; the kernel takes 4096")]
    TooLong(usize),
}

/// The kernel's bound on a program (BPF_MAXINSNS).
const LONGEST: usize = 4096;

const RETURN_KILL_THREAD: u32 = 0;
const RETURN_ENOSYS: u32 = 0x0005_0000 | 38;

/// Compiles a profile for the architectures that it names and this machine's own.
///
/// As in runc: calls of other architectures end the thread; names that no kernel has are left out, since profiles are
/// written for many kernels; a call that is newer than all that the profile names gets ENOSYS where it would be denied, so
/// that a C library falls back on an older one.
///
/// # Errors
/// When the profile cannot be.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let flags = flags(seccomp)?;
    let instructions = assemble(seccomp, answers_newer_calls(seccomp))?;
    if instructions.len() > LONGEST {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    Ok(Program {
        instructions,
        flags,
    })
}

/// Whether a profile asks somebody about calls (SCMP_ACT_NOTIFY).
pub fn asks(seccomp: &LinuxSeccomp) -> bool {
    let notify = LinuxSeccompAction::ScmpActNotify;
    seccomp.default_action() == notify
        || seccomp
            .syscalls()
            .iter()
            .flatten()
            .any(|rule| rule.action() == notify)
}

/// Whether calls that the profile does not know yet get ENOSYS: not where they are let through or looked at anyway.
fn answers_newer_calls(seccomp: &LinuxSeccomp) -> bool {
    use LinuxSeccompAction as Action;
    !matches!(
        seccomp.default_action(),
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
    )
}

fn assemble(seccomp: &LinuxSeccomp, newer: bool) -> Result<Vec<Instruction>, SeccompError> {
    let profile = rules::Profile::new(seccomp)?;
    let mut program = code::Code::new();
    for group in architecture::groups(seccomp.architectures().as_deref().unwrap_or(&[]))? {
        let spans = profile.spans(&group, newer);
        program.section(group.audit, &spans);
    }
    Ok(program.finish(RETURN_KILL_THREAD))
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32, SeccompError> {
    use LinuxSeccompFilterFlag as Flag;
    const SPEC_ALLOW: u32 = 1 << 2;
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    if seccomp.listener_metadata().is_some() && !has_listener_path(seccomp) {
        return Err(SeccompError::NobodyForMetadata);
    }
    // As runc: where nothing is said, a filter does not slow its process down by what guards against speculation.
    let mut flags = match seccomp.flags() {
        None => SPEC_ALLOW,
        Some(_) => 0,
    };
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            // There is one thread when the filter is installed.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => 1 << 1,
            Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
        };
    }
    if seccomp.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompError::Notify("every call"));
    }
    let mut asking = seccomp
        .syscalls()
        .iter()
        .flatten()
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
        .peekable();
    if asking.peek().is_none() {
        // The kernel takes this one only with a listener, on which it has a meaning.
        return Ok(flags & !WAIT_KILLABLE_RECV);
    }
    if asking.any(|rule| rule.names().iter().any(|name| name == "write")) {
        return Err(SeccompError::Notify("write"));
    }
    if !has_listener_path(seccomp) {
        return Err(SeccompError::NoListener);
    }
    Ok(flags | NEW_LISTENER)
}

fn has_listener_path(seccomp: &LinuxSeccomp) -> bool {
    seccomp
        .listener_path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::interpreter::{Call, run};
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const X86_64: u32 = 0xc000_003e;

    fn profile(json: &str) -> LinuxSeccomp {
        serde_json::from_str(json).unwrap()
    }

    fn call(number: u32, args: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Call {
            number,
            audit: X86_64,
            args: all,
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_are_decided_by_number_and_arguments() {
        let program = compile(&profile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["read","write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
                {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"op":"SCMP_CMP_EQ"}]},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
        ))
        .unwrap()
        .instructions;
        for (expected, call) in [
            (ALLOW, call(0, &[])),
            (EPERM, call(2, &[])),
            (ALLOW, call(135, &[0xffff_ffff])),
            (EPERM, call(135, &[0x1_ffff_ffff])),
            (ALLOW, call(56, &[0x11])),
            (EPERM, call(56, &[0x1000_0000])),
            (RETURN_ENOSYS, call(435, &[])),
            (EPERM, call(434, &[])),
            // Newer than all that the profile names.
            (RETURN_ENOSYS, call(436, &[])),
            // x32, which the profile does not name.
            (RETURN_KILL_THREAD, call(0x4000_0000, &[])),
        ] {
            assert_eq!(run(&program, &call), expected, "{call:?}");
        }
        let other = Call {
            audit: 0x4000_0003,
            ..call(0, &[])
        };
        assert_eq!(run(&program, &other), RETURN_KILL_THREAD);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn an_old_socket_call_is_as_its_new_one() {
        let program = compile(&profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                "syscalls":[{"names":["connect"],"action":"SCMP_ACT_ERRNO"}]}"#,
        ))
        .unwrap()
        .instructions;
        for (expected, number, first) in [
            (EPERM, 362, 0),
            (EPERM, 102, 3),
            (ALLOW, 102, 2),
            (ALLOW, 361, 3),
        ] {
            let call = Call {
                audit: 0x4000_0003,
                ..call(number, &[first])
            };
            assert_eq!(run(&program, &call), expected, "{call:?}");
        }
    }

    #[test]
    fn architectures_that_this_machine_cannot_be_are_left_out() {
        let program = |architectures: &str| {
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":{architectures},
                    "syscalls":[{{"names":["mkdirat"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            );
            compile(&profile(&json)).unwrap().instructions
        };
        let all = r#"["SCMP_ARCH_PARISC","SCMP_ARCH_S390X","SCMP_ARCH_MIPS64N32","SCMP_ARCH_SHEB","SCMP_ARCH_M68K"]"#;
        assert_eq!(program(all), program("[]"));
        assert_ne!(program(r#"["SCMP_ARCH_ARM"]"#), program("[]"));
    }

    #[test]
    fn flags_are_the_kernels() {
        let flags = |json: &str| compile(&profile(json)).unwrap().flags;
        assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#), 4);
        assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#), 0);
        let all = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
        assert_eq!(flags(all), 2 | 4);
        let asking = all.replacen(
            '{',
            r#"{"listenerPath":"/s","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}],"#,
            1,
        );
        assert_eq!(flags(&asking), 2 | 4 | 8 | 32);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (json, expected) in [
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
                "argument 6",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#,
                "4095",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#,
                "listenerPath",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#,
                "listenerMetadata",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
                "SCMP_ACT_ALLOW does not take",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/s"}"#,
                "every call",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{"names":["write"],"action":"SCMP_ACT_NOTIFY"}]}"#,
                "write",
            ),
        ] {
            let error = compile(&profile(json)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
