//! Runs a filter as the kernel would, for tests.

use dhow_sys::seccomp::Instruction;

/// A system call as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn load(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                let is_upper = offset.is_multiple_of(8) == cfg!(target_endian = "big");
                (arg >> if is_upper { 32 } else { 0 }) as u32
            }
            other => panic!("load of {other}"),
        }
    }
}

/// What the filter answers.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0;
    loop {
        let one = program[at];
        at += 1;
        let holds = match one.code {
            0x20 => {
                accumulator = call.load(one.operand);
                continue;
            }
            0x54 => {
                accumulator &= one.operand;
                continue;
            }
            0x05 => {
                at += one.operand as usize;
                continue;
            }
            0x06 => return one.operand,
            0x15 => accumulator == one.operand,
            0x25 => accumulator > one.operand,
            0x35 => accumulator >= one.operand,
            0x45 => accumulator & one.operand != 0,
            other => panic!("code {other:#x}"),
        };
        at += usize::from(if holds { one.when_true } else { one.when_false });
    }
}
