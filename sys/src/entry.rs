//! How a program begins: out of the reach of containers before the C library begins, and without what it does not need.

use std::sync::atomic::{AtomicBool, Ordering};

/// Makes `main` of a program (`#![no_main]`) of a function that gives the exit status.
///
/// Rust's own beginning reads /proc/self/maps and sets up a second stack and three handlers to say in words that the stack
/// overflowed; that is a twentieth of a short command's time. This one does what matters: standard streams that are closed
/// become /dev/null (what is opened next must not be taken for one), SIGPIPE is ignored, a panic's end is status 101, and
/// output is flushed.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        /// Where the C library's beginning hands over.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            _: core::ffi::c_int,
            _: *const *const core::ffi::c_char,
        ) -> core::ffi::c_int {
            $crate::entry::run($main)
        }
    };
}

/// What [`program!`] does with its function.
pub fn run(main: fn() -> u8) -> ! {
    if open_standard_streams().is_err() {
        crate::exec::exit_now(125);
    }
    crate::signal::ignore_broken_pipes();
    take_memory_in_large_pieces();
    let status = std::panic::catch_unwind(main).unwrap_or(101);
    // Flushes standard output, and runs what is registered to run at the end.
    std::process::exit(i32::from(status))
}

/// Lets the allocator ask the kernel seldom, and give nothing back: a command is short. What is not touched costs nothing.
fn take_memory_in_large_pieces() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both parameters take any size; there is one thread.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Puts /dev/null where a standard stream is closed.
fn open_standard_streams() -> rustix::io::Result<()> {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: `fds` has the length that is given, and lives through the call.
    let answer = unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) };
    crate::check(libc::c_long::from(answer))?;
    for stream in fds {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: the path is null-terminated. The lowest free number is the stream's, since those below are open.
            let answer = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            crate::check(libc::c_long::from(answer))?;
        }
    }
    Ok(())
}

/// Whether the entry point has found this process executed from a read-only mount.
static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether this process is known to have been executed from where nobody can write. Where it is not known it may be so
/// nevertheless.
pub fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

/// The entry point of the ELF file (the linker's `-e dhow_entry`), before the C library's `_start`.
///
/// A program that enters containers has to be executed from where nobody can write (the runtime's module `protect` says
/// why), which takes one execution more. The C library's beginning costs half a millisecond where CPUID traps to a
/// hypervisor, and the relocation of the program a fifth of that; so the first of the two executions is made to end here,
/// before either.
///
/// Nothing is relocated yet, so there must be no pointer in any static and no call of a function that the C library
/// chooses for the processor (memcpy, strlen): words are read by volatile reads, which the compiler does not take for one of
/// these, and compared as numbers. Whatever does not work out is left to `_start`, and so to the ordinary way.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod first {
    use core::arch::{asm, global_asm};

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
        "mov rsp, r12",
        "mov rdx, rbx",
        "jmp _start",
        ".size dhow_entry, . - dhow_entry",
        protect = sym protect,
    );

    /// A system call.
    ///
    /// # Safety
    /// As that call's.
    #[inline(always)]
    unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
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

    /// Executes the program again from a read-only copy of its mount, where it is about to enter a container and is not there
    /// yet. Returns in all other cases, having changed nothing.
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
            let copy = read_only_copy();
            if copy < 0 {
                return;
            }
            let empty = c"".as_ptr() as usize;
            let env = args.add(count + 1) as usize;
            let flags = libc::AT_EMPTY_PATH as usize;
            call(
                libc::SYS_execveat,
                [copy as usize, empty, args as usize, env, flags],
            );
            call(libc::SYS_close, [copy as usize, 0, 0, 0, 0]);
        }
    }

    /// Whether the program's file is all of a mount that is in no mount namespace: then its path is `/`. A read-only mount of the
    /// host's may be made writable again by the host, for an upgrade, while a container keeps the file open.
    ///
    /// # Safety
    /// None of the caller's.
    #[inline(always)]
    unsafe fn is_root_of_its_mount() -> bool {
        let mut text = core::mem::MaybeUninit::<[u8; 2]>::uninit();
        let here = libc::AT_FDCWD as isize as usize;
        let path = c"/proc/self/exe".as_ptr() as usize;
        // SAFETY: the call gets a null-terminated path, and a place with its size.
        let length = unsafe {
            let place = text.as_mut_ptr() as usize;
            call(libc::SYS_readlinkat, [here, path, place, 2, 0])
        };
        length == 1
    }

    /// The size of the kernel's `struct statfs`, and the place of its `f_flags`, in words of 64 bits.
    const STATFS: usize = 15;
    const STATFS_FLAGS: usize = 10;

    /// A read-only copy of the mount that this program's file is on, with the file as its root; in no mount namespace, and
    /// close-on-exec. Negative where it is on a read-only mount already, or cannot be had.
    ///
    /// The link in /proc leads to the very file and mount that are executed, whatever stands at their path by now.
    ///
    /// # Safety
    /// None beyond that of the calls.
    unsafe fn read_only_copy() -> isize {
        let mut system = core::mem::MaybeUninit::<[u64; STATFS]>::uninit();
        let own = c"/proc/self/exe".as_ptr() as usize;
        // SAFETY: the calls write to `system` and read `change`, of which they get the size; the strings are null-terminated.
        unsafe {
            let place = system.as_mut_ptr() as usize;
            if call(libc::SYS_statfs, [own, place, 0, 0, 0]) < 0 {
                return -1;
            }
            let mount = system.as_ptr().cast::<u64>().add(STATFS_FLAGS).read();
            if mount & libc::ST_RDONLY != 0 && is_root_of_its_mount() {
                super::PROTECTED.store(true, super::Ordering::Relaxed);
                return -1;
            }
            let here = libc::AT_FDCWD as isize as usize;
            let flags = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
            let copy = call(libc::SYS_open_tree, [here, own, flags, 0, 0]);
            if copy < 0 {
                return -1;
            }
            let change = libc::mount_attr {
                attr_set: libc::MOUNT_ATTR_RDONLY,
                attr_clr: 0,
                propagation: 0,
                userns_fd: 0,
            };
            let empty = c"".as_ptr() as usize;
            let flags = libc::AT_EMPTY_PATH as usize;
            let size = size_of::<libc::mount_attr>();
            let change = &raw const change as usize;
            let answer = call(
                libc::SYS_mount_setattr,
                [copy as usize, empty, flags, change, size],
            );
            if answer < 0 {
                call(libc::SYS_close, [copy as usize, 0, 0, 0, 0]);
                return -1;
            }
            copy
        }
    }
}
