//! The eBPF program that decides about devices in a v2 cgroup.
//!
//! It is given the kind of access and the device (`struct bpf_cgroup_dev_ctx`) and answers 1 or 0. The rules are looked at
//! from the last to the first: an allowing one takes its accesses off those that are still open, and a denying one ends
//! it when it has one of them.

use std::os::fd::AsFd;

use dhow_sys::bpf::{self, Instruction};

use super::{Kind, Rules};
use crate::cgroup::CgroupError;
use crate::cgroup::directory::Directory;

/// Attaches a program for the rules, in place of one from before.
pub(super) fn set(directory: &Directory, rules: &Rules, fresh: bool) -> Result<(), CgroupError> {
    let attach = || {
        let cgroup = directory.fd()?;
        let old = if fresh {
            Vec::new()
        } else {
            bpf::device_programs(cgroup)?
        };
        if !rules.allow_everything() {
            let program = bpf::load_device_program(&program(rules))?;
            bpf::attach_device_program(cgroup, program.as_fd())?;
        }
        // Until here both hold; never none.
        old.iter()
            .try_for_each(|program| bpf::detach_device_program(cgroup, program.as_fd()))
    };
    attach().map_err(|errno: rustix::io::Errno| CgroupError::Devices {
        directory: directory.path().to_owned(),
        source: errno.into(),
    })
}

// Registers: the answer, the context (and then scratch), the kind, the open accesses, the numbers.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Codes (linux/bpf.h): 64-bit arithmetic and jumps with an immediate (K) or a register (X) operand.
const LOAD_WORD: u8 = 0x61;
const AND_K: u8 = 0x57;
const SHIFT_RIGHT_K: u8 = 0x77;
const MOVE_K: u8 = 0xb7;
const MOVE_X: u8 = 0xbf;
const JUMP_EQUAL_K: u8 = 0x15;
const JUMP_UNEQUAL_K: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(MOVE_K, ANSWER, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

fn program(rules: &Rules) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        // The first word has the kind in its low half and the accesses in its high one.
        instruction(MOVE_X, OPEN, KIND, 0, 0),
        instruction(AND_K, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_K, OPEN, 0, 0, 16),
    ];
    for rule in rules.rules.iter().rev() {
        let kind = match rule.devices.kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        let tests: Vec<(u8, i32)> = [
            Some((KIND, kind)),
            rule.devices.major.map(|number| (MAJOR, number as i32)),
            rule.devices.minor.map(|number| (MINOR, number as i32)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let access = i32::from(rule.access);
        let decide: Vec<Instruction> = if rule.allow {
            vec![
                instruction(AND_K, OPEN, 0, 0, !access),
                instruction(JUMP_UNEQUAL_K, OPEN, 0, 2, 0),
            ]
        } else {
            vec![
                instruction(MOVE_X, CONTEXT, OPEN, 0, 0),
                instruction(AND_K, CONTEXT, 0, 0, access),
                instruction(JUMP_EQUAL_K, CONTEXT, 0, 2, 0),
            ]
        };
        let body = decide.len() + 2;
        for (at, (register, value)) in tests.iter().enumerate() {
            // At most three tests, three instructions and an answer lie between this and the next rule.
            let skip = (tests.len() - 1 - at + body) as i16;
            program.push(instruction(JUMP_UNEQUAL_K, *register, 0, skip, *value));
        }
        program.extend(decide);
        program.extend(answer(rule.allow));
    }
    program.extend(answer(rules.allow));
    program
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::super::{Devices, MAKE, READ, WRITE};
    use super::*;
    use oci_spec::runtime::LinuxDeviceType as Type;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], access: u8, kind: u32, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers = [0u64; 16];
        let mut at = 0;
        loop {
            let one = program[at];
            at += 1;
            let to = usize::from(one.registers & 15);
            let from = usize::from(one.registers >> 4);
            let immediate = i64::from(one.immediate) as u64;
            let jump = match one.code {
                LOAD_WORD => {
                    assert_eq!(from, 1);
                    registers[to] = context[one.offset as usize / 4].into();
                    false
                }
                AND_K => {
                    registers[to] &= immediate;
                    false
                }
                SHIFT_RIGHT_K => {
                    registers[to] >>= immediate;
                    false
                }
                MOVE_K => {
                    registers[to] = immediate;
                    false
                }
                MOVE_X => {
                    registers[to] = registers[from];
                    false
                }
                JUMP_EQUAL_K => registers[to] == immediate,
                JUMP_UNEQUAL_K => registers[to] != immediate,
                EXIT => return registers[0] == 1,
                other => panic!("code {other:#x}"),
            };
            if jump {
                at += usize::try_from(one.offset).unwrap();
            }
        }
    }

    /// What the rules say, access by access.
    fn decide(rules: &Rules, access: u8, devices: &Devices) -> bool {
        [MAKE, READ, WRITE]
            .into_iter()
            .filter(|bit| access & bit != 0)
            .all(|bit| {
                rules
                    .rules
                    .iter()
                    .rev()
                    .find(|rule| rule.devices.cover(devices) && rule.access & bit != 0)
                    .map_or(rules.allow, |rule| rule.allow)
            })
    }

    #[test]
    fn the_program_decides_as_the_rules_do() {
        for asked in [
            vec![],
            vec![asked(true, Type::A, -1, -1, "rwm")],
            vec![
                asked(true, Type::A, -1, -1, "rwm"),
                asked(false, Type::C, 10, 200, "w"),
                asked(false, Type::B, 8, -1, "rw"),
                asked(true, Type::B, 8, 1, "r"),
            ],
            vec![
                asked(true, Type::A, -1, -1, "r"),
                asked(true, Type::B, 8, -1, "rw"),
                asked(false, Type::B, 8, 1, "w"),
                asked(false, Type::C, -1, 3, "m"),
            ],
        ] {
            let rules = Rules::new(&asked).unwrap();
            let program = program(&rules);
            for access in 1..8 {
                for (kind, number) in [(Kind::Block, 1), (Kind::Char, 2)] {
                    for major in [1, 5, 8, 10, 136, 200] {
                        for minor in [0, 1, 2, 3, 9, 200] {
                            let devices = Devices {
                                kind,
                                major: Some(major),
                                minor: Some(minor),
                            };
                            assert_eq!(
                                run(&program, access, number, major, minor),
                                decide(&rules, access, &devices),
                                "{rules:?} {access} {devices:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
