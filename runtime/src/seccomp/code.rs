//! Classic BPF: spans of numbers as a search tree, conditions as comparisons.
//!
//! A conditional jump reaches 255 instructions ahead, an unconditional one any number; so what may be far away is reached by
//! a conditional jump over an unconditional one.

use dhow_sys::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::architecture::Word;
use super::rules::{Condition, Decision, Rule, Span};

// Codes (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const AUDIT: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A program that grows.
#[derive(Debug)]
pub(super) struct Code {
    instructions: Vec<Instruction>,
}

fn instruction(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

fn jump(code: u16, operand: u32, when_true: u8, when_false: u8) -> Instruction {
    Instruction {
        code,
        when_true,
        when_false,
        operand,
    }
}

/// How many instructions a slice has, for a far jump.
fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

impl Code {
    /// A program that has loaded the audit value.
    pub(super) fn new() -> Self {
        Self {
            instructions: vec![instruction(LOAD, AUDIT)],
        }
    }

    /// Adds what is done with calls of one audit value.
    pub(super) fn section(&mut self, audit: u32, spans: &[Span]) {
        let mut section = vec![instruction(LOAD, NUMBER)];
        search(spans, &mut section);
        self.instructions.extend([
            jump(JUMP_EQUAL, audit, 1, 0),
            instruction(JUMP, length(&section)),
        ]);
        self.instructions.append(&mut section);
    }

    /// Ends with what is done with calls of all other audit values.
    pub(super) fn finish(mut self, action: u32) -> Vec<Instruction> {
        self.instructions.push(instruction(RETURN, action));
        self.instructions
    }
}

/// Halves the spans until there is one.
fn search(spans: &[Span], code: &mut Vec<Instruction>) {
    let (lower, upper) = match spans {
        [] => return,
        [only] => return decide(&only.decision, code),
        more => more.split_at(more.len() / 2),
    };
    let mut below = Vec::new();
    search(lower, &mut below);
    let from = upper[0].first;
    match u8::try_from(below.len()) {
        Ok(near) => code.push(jump(JUMP_GREATER_EQUAL, from, near, 0)),
        Err(_) => code.extend([
            jump(JUMP_GREATER_EQUAL, from, 0, 1),
            instruction(JUMP, length(&below)),
        ]),
    }
    code.append(&mut below);
    search(upper, code);
}

fn decide(decision: &Decision, code: &mut Vec<Instruction>) {
    match decision {
        Decision::Always(action) => code.push(instruction(RETURN, *action)),
        Decision::ByArguments { rules, word } => {
            for rule in rules.iter() {
                compare(rule, *word, code);
            }
        }
    }
}

/// Where a comparison goes on; filled in when the rule's length is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The instruction behind.
    Next,
    /// What comes after this condition: it holds.
    Holds,
    /// What comes after this rule: it does not.
    Fails,
}

/// One instruction of a condition before its jumps are known.
struct Step {
    code: u16,
    operand: u32,
    when_true: Then,
    when_false: Then,
}

/// A rule: all its conditions, then its action.
fn compare(rule: &Rule, word: Word, code: &mut Vec<Instruction>) {
    let conditions: Vec<Vec<Step>> = rule
        .conditions
        .iter()
        .map(|condition| steps(condition, word))
        .collect();
    // Behind the conditions comes the action.
    let mut left = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    for steps in conditions {
        let count = steps.len();
        for (at, step) in steps.into_iter().enumerate() {
            left -= 1;
            // At most 6 conditions of 6 steps: always near.
            let distance = |then| match then {
                Then::Next => 0,
                Then::Holds => (count - at - 1) as u8,
                Then::Fails => left as u8,
            };
            code.push(jump(
                step.code,
                step.operand,
                distance(step.when_true),
                distance(step.when_false),
            ));
        }
    }
    code.push(instruction(RETURN, rule.action));
}

/// A condition: the upper half of the argument decides unless it equals the value's, then the lower half does.
fn steps(condition: &Condition, word: Word) -> Vec<Step> {
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (lower_at, upper_at) = if cfg!(target_endian = "little") {
        (at, at + 4)
    } else {
        (at + 4, at)
    };
    let lower = |value: u64| value as u32;
    let upper = |value: u64| (value >> 32) as u32;
    let plain = |code, operand| Step {
        code,
        operand,
        when_true: Then::Next,
        when_false: Then::Next,
    };
    let test = |code, operand, when_true, when_false| Step {
        code,
        operand,
        when_true,
        when_false,
    };
    let value = condition.value;
    let mut steps = Vec::with_capacity(6);
    if word == Word::Wide {
        steps.push(plain(LOAD, upper_at));
        let high = upper(value);
        match condition.operator {
            Operator::ScmpCmpEq => steps.push(test(JUMP_EQUAL, high, Then::Next, Then::Fails)),
            Operator::ScmpCmpNe => steps.push(test(JUMP_EQUAL, high, Then::Next, Then::Holds)),
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => steps.extend([
                test(JUMP_GREATER, high, Then::Holds, Then::Next),
                test(JUMP_EQUAL, high, Then::Next, Then::Fails),
            ]),
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => steps.extend([
                test(JUMP_GREATER, high, Then::Fails, Then::Next),
                test(JUMP_EQUAL, high, Then::Next, Then::Holds),
            ]),
            Operator::ScmpCmpMaskedEq => steps.extend([
                plain(AND, high),
                test(JUMP_EQUAL, upper(condition.second), Then::Next, Then::Fails),
            ]),
        }
    }
    steps.push(plain(LOAD, lower_at));
    let low = lower(value);
    match condition.operator {
        Operator::ScmpCmpEq => steps.push(test(JUMP_EQUAL, low, Then::Holds, Then::Fails)),
        Operator::ScmpCmpNe => steps.push(test(JUMP_EQUAL, low, Then::Fails, Then::Holds)),
        Operator::ScmpCmpGt => steps.push(test(JUMP_GREATER, low, Then::Holds, Then::Fails)),
        Operator::ScmpCmpGe => {
            steps.push(test(JUMP_GREATER_EQUAL, low, Then::Holds, Then::Fails));
        }
        Operator::ScmpCmpLt => {
            steps.push(test(JUMP_GREATER_EQUAL, low, Then::Fails, Then::Holds));
        }
        Operator::ScmpCmpLe => steps.push(test(JUMP_GREATER, low, Then::Fails, Then::Holds)),
        Operator::ScmpCmpMaskedEq => steps.extend([
            plain(AND, low),
            test(
                JUMP_EQUAL,
                lower(condition.second),
                Then::Holds,
                Then::Fails,
            ),
        ]),
    }
    steps
}
