//! Attributes of the calling process.

use rustix::io::Result;

/// Joins a new session keyring named `name` and makes it searchable by its owner.
///
/// # Errors
/// The kernel's; `ENOSYS` where it has no keyrings.
pub fn new_session_keyring(name: &std::ffi::CStr) -> Result<()> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING reads a null-terminated name.
    let key = crate::check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    /// View, read, write, search, link and set attributes for the possessor; view and search for the owner.
    const PERMISSIONS: u32 = 0x3f08_0000 | 0x0009_0000;
    // SAFETY: KEYCTL_SETPERM takes two numbers.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key, PERMISSIONS) };
    crate::check(answer).map(drop)
}

/// personality(2).
///
/// # Errors
/// The kernel's.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: personality takes a number.
    let answer = unsafe { libc::personality(persona) };
    crate::check(libc::c_long::from(answer)).map(drop)
}

/// ioprio_set(2) of the calling process.
///
/// # Errors
/// The kernel's.
pub fn set_io_priority(class: u8, level: u16) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = (libc::c_int::from(class) << 13) | libc::c_int::from(level);
    // SAFETY: ioprio_set takes three numbers; process 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    crate::check(answer).map(drop)
}

/// set_mempolicy(2) of the calling thread; `nodes` is a set of bits, the first node's the lowest bit of the first word.
///
/// # Errors
/// The kernel's; `ENOSYS` where it knows no nodes.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel looks at one bit less than it is told; no nodes are a null pointer, and nothing else.
    let (nodes, bits) = match nodes.len() {
        0 => (std::ptr::null(), 0),
        words => (nodes.as_ptr(), words * 64 + 1),
    };
    // SAFETY: the kernel reads `bits - 1` bits from `nodes`, which has as many; from a null pointer it reads nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            libc::c_long::from(mode),
            nodes,
            bits,
        )
    };
    crate::check(answer).map(drop)
}

/// The arguments of sched_setattr(2).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedulingAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the normal policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// For the deadline policy, nanoseconds.
    pub runtime: u64,
    /// For the deadline policy, nanoseconds.
    pub deadline: u64,
    /// For the deadline policy, nanoseconds.
    pub period: u64,
}

/// The user that this process began as; until it becomes another one, its effective user id. The kernel has told it with the
/// program, so that it costs no call.
pub fn user_at_start() -> u32 {
    // SAFETY: getauxval takes any number. The kernel tells this one to every program.
    unsafe { libc::getauxval(libc::AT_EUID) as u32 }
}

/// What this process was executed as: the path that was given to execve(2), as far as the kernel tells.
pub fn executed_as() -> Option<&'static std::ffi::CStr> {
    // SAFETY: getauxval takes any number and answers from what the kernel gave this process at its start: 0 or, for this one, the
    // address of a null-terminated string that lasts as long as the process.
    unsafe {
        let address = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!address.is_null()).then(|| std::ffi::CStr::from_ptr(address))
    }
}

/// sched_setattr(2) of the calling process.
///
/// # Errors
/// The kernel's.
pub fn set_scheduling(attributes: &SchedulingAttributes) -> Result<()> {
    /// The kernel's structure with the two fields since Linux 5.3, without which it takes no flag about them. Older ones
    /// take the longer structure, too, since what they do not know in it is zero.
    #[repr(C)]
    struct Extended {
        attributes: libc::sched_attr,
        util_min: u32,
        util_max: u32,
    }
    let attributes = libc::sched_attr {
        size: size_of::<Extended>() as u32,
        sched_policy: attributes.policy,
        sched_flags: attributes.flags,
        sched_nice: attributes.nice,
        sched_priority: attributes.priority,
        sched_runtime: attributes.runtime,
        sched_deadline: attributes.deadline,
        sched_period: attributes.period,
    };
    let args = Extended {
        attributes,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: `args` lives through the call and names its own size; process 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&args), 0) };
    crate::check(answer).map(drop)
}

/// prlimit(2) of a process, or the calling one, by the kernel's number of the resource; `u64::MAX` is no limit.
///
/// # Errors
/// The kernel's.
pub fn set_resource_limit(process: Option<i32>, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` lives through the call; no old value is asked for; process 0 is the caller.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            process.unwrap_or(0),
            resource,
            std::ptr::from_ref(&limit),
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    crate::check(answer).map(drop)
}
