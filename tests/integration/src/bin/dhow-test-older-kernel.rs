//! Executes a program as on a kernel that lacks some system calls, for the tests. It is no part of dhow.
//!
//! `older-kernel CALL[,CALL...] -- PROGRAM [ARGUMENTS]`

use std::os::unix::process::CommandExt;

use dhow_sys::seccomp::{Instruction, install_filter};

/// The calls that tests leave out, by their numbers: the same for all processors.
const CALLS: [(&str, u32); 3] = [("open_tree", 428), ("fsopen", 430), ("mount_setattr", 442)];

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
/// With ENOSYS.
const REFUSE: u32 = 0x0005_0000 | 38;

fn instruction(code: u16, when_false: u8, operand: u32) -> Instruction {
    Instruction {
        code,
        when_true: 0,
        when_false,
        operand,
    }
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let calls = args.next().expect("calls").into_string().expect("a name");
    assert_eq!(args.next().expect("--"), "--");
    let mut program = vec![instruction(LOAD, 0, 0)];
    for call in calls.split(',') {
        let known = CALLS.iter().find(|(name, _)| *name == call);
        let (_, number) = known.expect("a known call");
        program.push(instruction(JUMP_IF_EQUAL, 1, *number));
        program.push(instruction(RETURN, 0, REFUSE));
    }
    program.push(instruction(RETURN, 0, ALLOW));
    install_filter(&program, 0).expect("a filter");
    let name = args.next().expect("a program");
    let error = std::process::Command::new(&name).args(args).exec();
    panic!("{}: {error}", name.display());
}
