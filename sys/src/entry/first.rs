//! The entry point of the ELF file (the linker's `-e dhow_entry`), before the C library's `_start`.
//!
//! A program that enters containers has to be executed from where nobody can write ([`crate::sealed`] says
//! why), which takes one execution more. The C library's beginning costs half a millisecond where CPUID traps to a
//! hypervisor, and the relocation of the program a fifth of that; so the first of the two executions is made to end here,
//! before either.
//!
//! Nothing is relocated yet, so there must be no pointer in any static and no call of a function that the C library
//! chooses for the processor (memcpy, strlen): words are read by volatile reads, which the compiler does not take for one of
//! these, and compared as numbers. Whatever does not work out is left to `_start`, and so to the ordinary way.

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

use crate::sealed;

// Two ways in: with the C library's beginning made quick, and without (where the runtime's build.rs sees that it would not do).
global_asm!(
    ".globl dhow_entry",
    ".hidden dhow_entry",
    ".type dhow_entry, @function",
    "dhow_entry:",
    // `_start` finds the arguments at the stack pointer, and in rdx what the kernel left there.
    "mov rbx, rdx",
    "mov r12, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {protect}",
    "call {quick}",
    "mov rsp, r12",
    "mov rdx, rbx",
    "jmp _start",
    ".size dhow_entry, . - dhow_entry",
    ".globl dhow_plain_entry",
    ".hidden dhow_plain_entry",
    ".type dhow_plain_entry, @function",
    "dhow_plain_entry:",
    "mov rbx, rdx",
    "mov r12, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {protect}",
    "mov rsp, r12",
    "mov rdx, rbx",
    "jmp _start",
    ".size dhow_plain_entry, . - dhow_plain_entry",
    protect = sym protect,
    quick = sym super::quick::begin,
);

/// A system call.
///
/// # Safety
/// As that call's.
#[inline(always)]
pub(super) unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's convention; it changes these registers and what the caller lets it.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// A word of at most eight bytes as a number; a longer one is 0.
///
/// # Safety
/// `text` is null-terminated.
#[inline(always)]
unsafe fn short(text: *const u8) -> u64 {
    let mut number = 0;
    let mut at = 0;
    while at <= 8 {
        // SAFETY: nothing is read past the null.
        let byte = unsafe { text.add(at).read_volatile() };
        if byte == 0 {
            return number;
        }
        if at < 8 {
            number |= u64::from(byte) << (8 * at);
        }
        at += 1;
    }
    0
}

const CREATE: u64 = u64::from_le_bytes(*b"create\0\0");
const RUN: u64 = u64::from_le_bytes(*b"run\0\0\0\0\0");
const EXEC: u64 = u64::from_le_bytes(*b"exec\0\0\0\0");
const RESTORE: u64 = u64::from_le_bytes(*b"restore\0");

/// Executes the program again from a sealed mount, where it is about to enter a container and is not there yet. Returns in
/// all other cases, having changed nothing.
///
/// # Safety
/// `stack` is the stack as execve(2) leaves it: the number of arguments, the arguments, a null, the environment.
unsafe extern "C" fn protect(stack: *const usize) {
    // SAFETY: of the stack only what the kernel has put there is read; the calls get strings that are null-terminated
    // and places that are large enough.
    unsafe {
        let count = stack.read();
        let args = stack.add(1);
        let mut enters = false;
        let mut at = 1;
        while at < count {
            let word = short(args.add(at).read() as *const u8);
            enters |= word == CREATE || word == RUN || word == EXEC || word == RESTORE;
            at += 1;
        }
        if !enters {
            return;
        }
        let env = args.add(count + 1);
        if is_executed_by_descriptor(env) && is_sealed() {
            super::PROTECTED.store(true, super::Ordering::Relaxed);
            return;
        }
        execute_sealed(args, env);
    }
}

/// Whether the path that was given to execve(2) is one of a descriptor: by another one no sealed mount is reached, and need not be
/// looked for.
///
/// # Safety
/// `env` is the environment as execve(2) leaves it: behind its end is what the kernel tells besides, pairs of numbers that end with
/// a zero.
#[inline(always)]
unsafe fn is_executed_by_descriptor(env: *const usize) -> bool {
    // SAFETY: by the caller's contract; nothing is read behind the zeros, and the path is null-terminated.
    unsafe {
        let mut at = env;
        while at.read_volatile() != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        loop {
            let kind = at.read_volatile();
            if kind == 0 {
                return false;
            }
            if kind == libc::AT_EXECFN as usize {
                break;
            }
            at = at.add(2);
        }
        let path = at.add(1).read_volatile() as *const u8;
        let mut begins = 0;
        let mut length = 0;
        while length < 5 {
            let byte = path.add(length).read_volatile();
            if byte == 0 {
                return false;
            }
            begins |= u64::from(byte) << (8 * length);
            length += 1;
        }
        begins == DEV || begins == PROC
    }
}

const DEV: u64 = u64::from_le_bytes(*b"/dev/\0\0\0");
const PROC: u64 = u64::from_le_bytes(*b"/proc\0\0\0");

/// The link leads to the very file and mount that are executed, whatever stands at their path by now.
const OWN: &core::ffi::CStr = c"/proc/self/exe";
const HERE: usize = libc::AT_FDCWD as isize as usize;

/// The size of the kernel's `struct statfs`, and the places of its `f_type` and `f_flags`, in words of 64 bits.
const STATFS: usize = 15;
const STATFS_TYPE: usize = 0;
const STATFS_FLAGS: usize = 10;

/// Whether the program was executed from a sealed mount.
///
/// # Safety
/// None of the caller's.
#[inline(always)]
unsafe fn is_sealed() -> bool {
    let mut system = MaybeUninit::<[u64; STATFS]>::uninit();
    let place = system.as_mut_ptr().cast::<u64>();
    // SAFETY: the path is null-terminated; the call fills `system`, whose size is the kernel's, where it does not fail.
    unsafe {
        let answer = call(
            libc::SYS_statfs,
            [OWN.as_ptr() as usize, place as usize, 0, 0, 0],
        );
        answer == 0
            && sealed::is_mark(
                place.add(STATFS_TYPE).read(),
                place.add(STATFS_FLAGS).read(),
            )
    }
}

/// The longest path that is tried; fsconfig(2) takes 255 bytes, of which some name the second layer.
const PATH: usize = 240;

/// Mounts the program's directory as [`sealed::open`] does, and executes the program there. Returns when that cannot be.
///
/// # Safety
/// Both are null-terminated arrays of null-terminated strings.
#[inline(always)]
unsafe fn execute_sealed(args: *const usize, env: *const usize) {
    let mut text = MaybeUninit::<[u8; 256]>::uninit();
    let mut name = MaybeUninit::<[u8; 256]>::uninit();
    let text = text.as_mut_ptr().cast::<u8>();
    let name = name.as_mut_ptr().cast::<u8>();
    // SAFETY: the path is null-terminated, the call writes at most as much as it is told, and `split` gets what it filled.
    unsafe {
        let own = OWN.as_ptr() as usize;
        let length = call(libc::SYS_readlinkat, [HERE, own, text as usize, PATH, 0]);
        if length <= 0 || length as usize >= PATH || !split(text, length as usize, name) {
            return;
        }
        let context = call(
            libc::SYS_fsopen,
            [c"overlay".as_ptr() as usize, sealed::CLOSE_ON_EXEC, 0, 0, 0],
        );
        if context < 0 {
            return;
        }
        let layers = [
            context as usize,
            sealed::SET_STRING,
            c"lowerdir".as_ptr() as usize,
            text as usize,
            0,
        ];
        let create = [context as usize, sealed::CREATE, 0, 0, 0];
        if call(libc::SYS_fsconfig, layers) == 0 && call(libc::SYS_fsconfig, create) == 0 {
            let attributes = sealed::ATTRIBUTES as usize;
            let mount = call(
                libc::SYS_fsmount,
                [context as usize, sealed::CLOSE_ON_EXEC, attributes, 0, 0],
            );
            if mount >= 0 {
                if is_own(mount as usize, name) {
                    call(
                        libc::SYS_execveat,
                        [
                            mount as usize,
                            name as usize,
                            args as usize,
                            env as usize,
                            0,
                        ],
                    );
                }
                call(libc::SYS_close, [mount as usize, 0, 0, 0, 0]);
            }
        }
        call(libc::SYS_close, [context as usize, 0, 0, 0, 0]);
    }
}

/// Makes of a path the layers of a mount of its directory, and the name in it; false where the path is not of the kind.
///
/// # Safety
/// `text` has room for 256 bytes, of which `length`, at most [`PATH`], are the path; `name` has as much room.
#[inline(always)]
unsafe fn split(text: *mut u8, length: usize, name: *mut u8) -> bool {
    let mut last = 0;
    let mut at = 0;
    // SAFETY: nothing is read or written past `length`, or past the second layer's name behind it, for which there is room.
    unsafe {
        while at < length {
            let byte = text.add(at).read_volatile();
            // Both have a meaning to the file system.
            if byte == b':' || byte == b'\\' {
                return false;
            }
            if byte == b'/' {
                last = at;
            }
            at += 1;
        }
        // A path of one component is mostly that of a mount which belongs to no namespace.
        if last == 0 {
            return false;
        }
        at = last + 1;
        while at < length {
            name.add(at - last - 1)
                .write_volatile(text.add(at).read_volatile());
            at += 1;
        }
        name.add(length - last - 1).write_volatile(0);
        let second = sealed::SECOND_LAYER.as_ptr();
        at = 0;
        while at < sealed::SECOND_LAYER.len() {
            text.add(last + at)
                .write_volatile(second.add(at).read_volatile());
            at += 1;
        }
        text.add(last + at).write_volatile(0);
    }
    true
}

/// Whether a name in a directory is the program's own file: one that an upgrade has put there meanwhile is not, nor one that has
/// the same path in another mount namespace.
///
/// # Safety
/// `name` is null-terminated.
#[inline(always)]
unsafe fn is_own(directory: usize, name: *const u8) -> bool {
    let mut own = MaybeUninit::<libc::stat>::uninit();
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the strings are null-terminated; the calls fill both where they do not fail.
    unsafe {
        let status = |directory: usize, path: usize, place: *mut libc::stat| {
            call(
                libc::SYS_newfstatat,
                [directory, path, place as usize, 0, 0],
            )
        };
        if status(HERE, OWN.as_ptr() as usize, own.as_mut_ptr()) != 0
            || status(directory, name as usize, found.as_mut_ptr()) != 0
        {
            return false;
        }
        let (own, found) = (&*own.as_ptr(), &*found.as_ptr());
        own.st_size == found.st_size
            && own.st_mtime == found.st_mtime
            && own.st_mtime_nsec == found.st_mtime_nsec
            && own.st_ctime == found.st_ctime
            && own.st_ctime_nsec == found.st_ctime_nsec
    }
}
