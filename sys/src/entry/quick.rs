//! The C library's beginning without the hypervisor.
//!
//! glibc asks the processor what it can do by some 70 CPUID instructions at the start of each static program, most of them about
//! the sizes of caches, again and again. In a virtual machine each traps to the hypervisor: half a millisecond together. Where the
//! processor can make CPUID a fault of the process's own (arch_prctl(ARCH_CPUID)), they are answered here meanwhile, by what
//! every x86-64 processor has: glibc chooses its plainest functions, which are all that this program needs. `main` begins by
//! giving the instruction back, so that whatever asks later gets the truth, and so does every process that is made from here.
//!
//! What makes that sound: the answers are those of a real processor (Intel's first with 64 bits and two cores), caches included, from
//! whose sizes glibc computes how it copies; they promise nothing that a processor with such faults lacks; nothing runs before
//! `main` but the C library; and where anything is not as expected, nothing is changed. A C library that is itself
//! built for more than the baseline would refuse such a processor, so this is linked only where it is not (the runtime's build.rs).

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::first::call;

const ARCH_CPUID: usize = 0x1012;
const SEGV: usize = libc::SIGSEGV as usize;
/// The kernel's set with that signal alone, and the set's size.
const SEGV_SET: u64 = 1 << (SEGV - 1);
const SET_SIZE: usize = 8;

/// Whether CPUID faults.
static FAULTS: AtomicBool = AtomicBool::new(false);
/// What was blocked before.
static BLOCKED: AtomicU64 = AtomicU64::new(0);
/// What the signal did before: SIG_DFL (0) or SIG_IGN; an execution leaves nothing else.
static HANDLER: AtomicU64 = AtomicU64::new(0);

/// The kernel's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

const fn default_action() -> Action {
    Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    }
}

/// The address of what the signal calls: computed, since a table of addresses is not filled yet.
fn handler() -> u64 {
    let address: u64;
    // SAFETY: this only computes.
    unsafe {
        asm!("lea {}, [rip + dhow_entry_fault]", out(reg) address, options(nomem, nostack, preserves_flags));
    }
    address
}

global_asm!(
    ".hidden dhow_entry_fault",
    ".globl dhow_entry_fault",
    ".type dhow_entry_fault, @function",
    "dhow_entry_fault:",
    // The third argument: where the kernel has put the registers (struct ucontext).
    "mov rbx, rdx",
    "sub rsp, 8",
    "lea rdi, [rdx + {registers}]",
    "call {answer}",
    // Back without rt_sigreturn(2), which would be a call of the kernel's for each: no signal is blocked by this handler, so that
    // registers are all that there is to give back. First the floating point's, which the kernel has cleared.
    "lea rdx, [rbx + {registers}]",
    "mov rax, [rdx + 8 * 23]",
    "fxrstor64 [rax]",
    // ss, rsp, flags, cs, rip: what iretq takes.
    "movzx eax, word ptr [rdx + 8 * 18 + 6]",
    "push rax",
    "push qword ptr [rdx + 8 * 15]",
    "push qword ptr [rdx + 8 * 17]",
    "movzx eax, word ptr [rdx + 8 * 18]",
    "push rax",
    "push qword ptr [rdx + 8 * 16]",
    "mov r8, [rdx]",
    "mov r9, [rdx + 8 * 1]",
    "mov r10, [rdx + 8 * 2]",
    "mov r11, [rdx + 8 * 3]",
    "mov r12, [rdx + 8 * 4]",
    "mov r13, [rdx + 8 * 5]",
    "mov r14, [rdx + 8 * 6]",
    "mov r15, [rdx + 8 * 7]",
    "mov rdi, [rdx + 8 * 8]",
    "mov rsi, [rdx + 8 * 9]",
    "mov rbp, [rdx + 8 * 10]",
    "mov rbx, [rdx + 8 * 11]",
    "mov rax, [rdx + 8 * 13]",
    "mov rcx, [rdx + 8 * 14]",
    "mov rdx, [rdx + 8 * 12]",
    "iretq",
    ".size dhow_entry_fault, . - dhow_entry_fault",
    registers = const REGISTERS,
    answer = sym answer,
);

/// Where the registers are in the kernel's `struct ucontext`: behind the flags, the link and the stack.
const REGISTERS: usize = 40;
// In the order of the kernel's `struct sigcontext`.
const RBX: usize = 11;
const RDX: usize = 12;
const RAX: usize = 13;
const RCX: usize = 14;
const RIP: usize = 16;

/// Answers a CPUID. Whatever else has faulted ends the process, as it would have.
///
/// # Safety
/// `registers` is what the kernel hands to a signal's handler.
unsafe extern "C" fn answer(registers: *mut u64) {
    // SAFETY: by the caller's contract; the instruction that faulted can be read, having been executed.
    unsafe {
        let at = registers.add(RIP).read() as *const u8;
        if at.read_volatile() != 0x0f || at.add(1).read_volatile() != 0xa2 {
            let default = default_action();
            call(
                libc::SYS_rt_sigaction,
                [SEGV, &raw const default as usize, 0, SET_SIZE, 0],
            );
            let own = call(libc::SYS_getpid, [0; 5]);
            call(libc::SYS_kill, [own as usize, SEGV, 0, 0, 0]);
            return;
        }
        let (eax, ebx, ecx, edx): (u64, u64, u64, u64) = match registers.add(RAX).read() as u32 {
            // Up to leaf 2, GenuineIntel.
            0 => (2, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
            // Family 6, model 15; lines of 64 bytes, one processor; x86-64's baseline up to SSE2 and nothing more.
            1 => (0x06f6, 0x0001_0800, 0, 0x078b_fbff),
            // Caches: 32 KiB of data (2c) and of instructions (30), 2 MiB for both (7d).
            2 => (0x7d30_2c01, 0, 0, 0),
            0x8000_0000 => (0x8000_0001, 0, 0, 0),
            // The long mode, its system calls, and pages without execution.
            0x8000_0001 => (0, 0, 1, 0x2010_0800),
            _ => (0, 0, 0, 0),
        };
        registers.add(RAX).write(eax);
        registers.add(RBX).write(ebx);
        registers.add(RCX).write(ecx);
        registers.add(RDX).write(edx);
        registers.add(RIP).write(at as u64 + 2);
    }
}

/// Lets CPUID fault, where the processor can, and answers it from here on.
///
/// # Safety
/// Only before the C library begins, with [`end`] at the beginning of `main`.
pub(super) unsafe extern "C" fn begin() {
    // SAFETY: the calls get places that are large enough; between the first and the third there is no CPUID.
    unsafe {
        if call(libc::SYS_arch_prctl, [ARCH_CPUID, 0, 0, 0, 0]) != 0 {
            return;
        }
        let handler = handler();
        /// Of x86, where the kernel asks for it; nobody returns by it.
        const RESTORER: u64 = 0x0400_0000;
        let action = Action {
            handler,
            flags: libc::SA_NODEFER as u64 | libc::SA_SIGINFO as u64 | RESTORER,
            restorer: handler,
            mask: 0,
        };
        let mut before = MaybeUninit::<Action>::uninit();
        let set = call(
            libc::SYS_rt_sigaction,
            [
                SEGV,
                &raw const action as usize,
                before.as_mut_ptr() as usize,
                SET_SIZE,
                0,
            ],
        );
        // A fault that is held back would end the process.
        let free = SEGV_SET;
        let mut blocked = MaybeUninit::<u64>::uninit();
        let freed = call(
            libc::SYS_rt_sigprocmask,
            [
                libc::SIG_UNBLOCK as usize,
                &raw const free as usize,
                blocked.as_mut_ptr() as usize,
                SET_SIZE,
                0,
            ],
        );
        if set != 0 || freed != 0 {
            call(libc::SYS_arch_prctl, [ARCH_CPUID, 1, 0, 0, 0]);
            return;
        }
        HANDLER.store((*before.as_ptr()).handler, Ordering::Relaxed);
        BLOCKED.store(blocked.assume_init(), Ordering::Relaxed);
        FAULTS.store(true, Ordering::Relaxed);
    }
}

/// Gives CPUID back, and the signal as it was. The handler stays where there was none: it does then what none would do, and an
/// execution takes it away.
pub(super) fn end() {
    if !FAULTS.swap(false, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the calls get places that are large enough.
    unsafe {
        if call(libc::SYS_arch_prctl, [ARCH_CPUID, 1, 0, 0, 0]) != 0 {
            // No process may come from here that lacks an instruction.
            crate::exec::exit_now(125);
        }
        let handler = HANDLER.load(Ordering::Relaxed);
        if handler != 0 {
            let before = Action {
                handler,
                ..default_action()
            };
            call(
                libc::SYS_rt_sigaction,
                [SEGV, &raw const before as usize, 0, SET_SIZE, 0],
            );
        }
        let blocked = BLOCKED.load(Ordering::Relaxed);
        if blocked & SEGV_SET != 0 {
            call(
                libc::SYS_rt_sigprocmask,
                [
                    libc::SIG_SETMASK as usize,
                    &raw const blocked as usize,
                    0,
                    SET_SIZE,
                    0,
                ],
            );
        }
    }
}
