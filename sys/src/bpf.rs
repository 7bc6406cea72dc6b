//! bpf(2): the programs that decide about devices in a v2 cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Result;

use crate::check;

/// One eBPF instruction as the kernel takes it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// The destination register in the low four bits, the source register in the high ones.
    pub registers: u8,
    /// How far a jump goes, or the offset of a load.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads up to the program's name.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_ATTACH and BPF_PROG_DETACH read.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_GET_FD_BY_ID reads.
#[repr(C)]
struct ByIdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: every T here has the layout of the beginning of bpf_attr for its command, and its size is told; the
    // addresses in it are those of slices that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    })
}

fn descriptor(answer: libc::c_long) -> OwnedFd {
    // SAFETY: only called with what commands answer that make a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(answer as RawFd) }
}

/// Loads a program of the type that decides about devices.
///
/// # Errors
/// The kernel's: `EPERM` without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN), `EINVAL` when the verifier refuses it.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| rustix::io::Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    bpf(BPF_PROG_LOAD, &mut attr).map(descriptor)
}

/// Attaches a program to a cgroup beside those of its ancestors; all of them must agree to an access.
///
/// # Errors
/// The kernel's.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(|_| ())
}

/// Takes a program off a cgroup.
///
/// # Errors
/// The kernel's.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(|_| ())
}

/// The device programs that are attached to a cgroup itself (at most 64, which is also the kernel's bound).
///
/// # Errors
/// The kernel's.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        padding: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids[..(attr.prog_cnt as usize).min(ids.len())]
        .iter()
        .map(|id| {
            let mut attr = ByIdAttr {
                id: *id,
                next_id: 0,
                open_flags: 0,
            };
            bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(descriptor)
        })
        .collect()
}
