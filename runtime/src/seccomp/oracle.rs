//! Holds what the compiler here makes against what libseccomp makes of the same profile, call by call.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use dhow_sys::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::interpreter::{Call, run};

/// A program that reads rules and prints the filter that libseccomp makes of them.
const ORACLE: &str = r#"
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    static char line[4096];
    scmp_filter_ctx ctx = NULL;
    while (fgets(line, sizeof line, stdin)) {
        unsigned a, count; char name[128]; int used;
        if (sscanf(line, "default %x", &a) == 1) {
            ctx = seccomp_init(a);
            seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_THREAD);
        } else if (sscanf(line, "arch %x", &a) == 1) {
            seccomp_arch_add(ctx, a);
        } else if (sscanf(line, "rule %x %127s %u%n", &a, name, &count, &used) == 3) {
            struct scmp_arg_cmp args[6];
            char *rest = line + used;
            for (unsigned i = 0; i < count; i++) {
                unsigned index, op; unsigned long long x, y; int more;
                if (sscanf(rest, "%u %u %llx %llx%n", &index, &op, &x, &y, &more) != 4) abort();
                args[i].arg = index; args[i].op = op; args[i].datum_a = x; args[i].datum_b = y;
                rest += more;
            }
            int number = seccomp_syscall_resolve_name(name);
            if (number == __NR_SCMP_ERROR) continue;
            int failed = seccomp_rule_add_array(ctx, a, number, count, args);
            if (failed) { fprintf(stderr, "%s: %d\n", name, failed); }
        } else if (!strncmp(line, "end", 3)) {
            FILE *file = tmpfile();
            if (seccomp_export_bpf(ctx, fileno(file))) abort();
            seccomp_release(ctx);
            rewind(file);
            struct { unsigned short code; unsigned char jt, jf; unsigned k; } one;
            while (fread(&one, sizeof one, 1, file) == 1) printf("%u %u %u %u ", one.code, one.jt, one.jf, one.k);
            printf("\n"); fflush(stdout); fclose(file);
        } else abort();
    }
    return 0;
}
"#;

struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    /// None where there is no libseccomp to ask.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("oracle.c"), dir.path().join("oracle"));
        fs_err::write(&source, ORACLE).unwrap();
        let built = Command::new("cc")
            .arg("-o")
            .args([&program, &source])
            .arg("-lseccomp")
            .stderr(Stdio::null())
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self {
            child,
            input,
            output,
        })
    }

    fn compile(&mut self, profile: &LinuxSeccomp) -> Vec<Instruction> {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut text = format!("default {default:x}\n");
        for arch in profile.architectures().iter().flatten() {
            text.push_str(&format!("arch {:x}\n", *arch as u32));
        }
        for rule in profile.syscalls().iter().flatten() {
            let action = rule.action().as_u32(rule.errno_ret());
            if action == default {
                continue;
            }
            let args: Vec<String> = rule
                .args()
                .iter()
                .flatten()
                .map(|arg| {
                    let second = arg.value_two().unwrap_or(0);
                    let op = arg.op() as u32;
                    format!(" {} {op} {:x} {second:x}", arg.index(), arg.value())
                })
                .collect();
            for name in rule.names() {
                text.push_str(&format!(
                    "rule {action:x} {name} {}{}\n",
                    args.len(),
                    args.concat()
                ));
            }
        }
        text.push_str("end\n");
        self.input.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let numbers: Vec<u32> = line
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        numbers
            .chunks(4)
            .map(|one| Instruction {
                code: one[0] as u16,
                when_true: one[1] as u8,
                when_false: one[2] as u8,
                operand: one[3],
            })
            .collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers without order, the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len() as u64) as usize]
    }

    fn word(&mut self) -> u64 {
        let near = *self.pick(&[
            0,
            1,
            2,
            8,
            0x7f,
            0xffff_ffff,
            0x1_0000_0000,
            0x8000_0000,
            u64::MAX,
        ]);
        near.wrapping_add(self.roll(3)).wrapping_sub(1)
    }
}

const NAMES: [&str; 34] = [
    "read",
    "write",
    "open",
    "stat",
    "mmap",
    "ioctl",
    "readv",
    "execve",
    "ptrace",
    "socket",
    "connect",
    "sendmsg",
    "clone",
    "personality",
    "kill",
    "uselib",
    "waitid",
    "accept",
    "accept4",
    "socketcall",
    "ipc",
    "shmget",
    "semop",
    "msgctl",
    "openat",
    "futex",
    "futex_time64",
    "io_setup",
    "preadv2",
    "statx",
    "clone3",
    "setns",
    "no_such_call",
    "process_madvise",
];
const ACTIONS: [&str; 6] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
];
const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];

/// A profile in which every call has one action, and at most one rule with more than a single test of equality: what
/// libseccomp makes of contradictions is its own affair, and where it merges comparisons of two rules it errs (2.5.4 takes
/// "arg3 >= 2^32" or "arg3 <= 7 and arg4 <= 126" to hold for 21 and a large number).
fn profile(dice: &mut Dice) -> LinuxSeccomp {
    let mut rules = Vec::new();
    for name in NAMES {
        let action = *dice.pick(&ACTIONS);
        let kind = match name {
            "socketcall" | "ipc" => 1,
            _ => dice.roll(5),
        };
        let sets: Vec<Vec<Value>> = match kind {
            0 => Vec::new(),
            1 => vec![Vec::new()],
            2 => {
                let index = dice.roll(6);
                (0..3).map(|_| vec![arg(dice, index, "EQ")]).collect()
            }
            3 => vec![args(dice)],
            _ => vec![args(dice), Vec::new()],
        };
        rules.extend(
            sets.into_iter()
                .map(|args| json!({"names": [name], "action": action, "args": args})),
        );
    }
    let choices = [
        json!([]),
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        json!(["SCMP_ARCH_X86"]),
        json!(["SCMP_ARCH_X32"]),
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    ];
    let architectures = dice.pick(&choices);
    serde_json::from_value(json!({
        "defaultAction": dice.pick(&ACTIONS),
        "architectures": architectures,
        "syscalls": rules,
    }))
    .unwrap()
}

fn args(dice: &mut Dice) -> Vec<Value> {
    let indices: Vec<u64> = (0..6).filter(|_| dice.roll(3) == 0).collect();
    indices
        .into_iter()
        .map(|index| {
            let operator = *dice.pick(&OPERATORS);
            arg(dice, index, operator)
        })
        .collect()
}

fn arg(dice: &mut Dice, index: u64, operator: &str) -> Value {
    let value = dice.word();
    json!({
        "index": index,
        "value": value,
        "valueTwo": dice.word(),
        "op": format!("SCMP_CMP_{operator}"),
    })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn libseccomp_decides_the_same() {
    let Some(mut oracle) = Oracle::start() else {
        eprintln!("skipped: no C compiler or no libseccomp (package libseccomp-dev)");
        return;
    };
    let audits = [
        0xc000_003e,
        0x4000_0003,
        0xc000_00b7,
        0x4000_0028,
        0x8000_0016,
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..150 {
        let profile = profile(&mut dice);
        let theirs = oracle.compile(&profile);
        let ours = super::assemble(&profile, false).unwrap();
        for _ in 0..6000 {
            let number = match dice.roll(8) {
                0 => 0x4000_0000 + dice.roll(600) as u32,
                1 => 102 + 15 * dice.roll(2) as u32,
                2 => *dice.pick(&[u32::MAX, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0x4000_0000]),
                _ => dice.roll(470) as u32,
            };
            let call = Call {
                number,
                audit: *dice.pick(&audits),
                args: std::array::from_fn(|_| {
                    if dice.roll(4) == 0 {
                        dice.roll(26)
                    } else {
                        dice.word()
                    }
                }),
            };
            assert_eq!(
                run(&ours, &call),
                run(&theirs, &call),
                "{call:x?}\n{}",
                serde_json::to_string(&profile).unwrap()
            );
        }
    }
}

/// What rules say of a call in plain words: the first whose conditions all hold.
fn meant(rules: &[Value], call: &Call) -> Option<u32> {
    let holds = |arg: &Value| {
        let number = |key: &str| arg[key].as_u64().unwrap();
        let value = call.args[number("index") as usize];
        let (first, second) = (number("value"), number("valueTwo"));
        match arg["op"].as_str().unwrap().trim_start_matches("SCMP_CMP_") {
            "EQ" => value == first,
            "NE" => value != first,
            "LT" => value < first,
            "LE" => value <= first,
            "GT" => value > first,
            "GE" => value >= first,
            _ => value & first == second & first,
        }
    };
    rules
        .iter()
        .find(|rule| rule["args"].as_array().unwrap().iter().all(holds))
        .map(|rule| 0x0005_0000 | rule["errnoRet"].as_u64().unwrap() as u32)
}

/// Many rules for one call, which libseccomp cannot be asked about.
#[test]
fn of_many_rules_the_first_that_holds_decides() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..200 {
        let rules: Vec<Value> = (0..1 + dice.roll(40))
            .map(|at| {
                let mut args = args(&mut dice);
                if args.is_empty() {
                    args = vec![arg(&mut dice, 0, "GE")];
                }
                json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": at + 2, "args": args})
            })
            .collect();
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
        let program = super::assemble(&serde_json::from_value(profile).unwrap(), false).unwrap();
        let mut number = None;
        super::architecture::groups(&[]).unwrap()[0].members[0].visit(|name, found| {
            number = (name == "read").then_some(found).or(number);
        });
        for _ in 0..500 {
            let call = Call {
                number: number.unwrap(),
                audit: super::architecture::groups(&[]).unwrap()[0].audit,
                args: std::array::from_fn(|_| dice.word()),
            };
            let expected = meant(&rules, &call).unwrap_or(0x7fff_0000);
            assert_eq!(run(&program, &call), expected, "{call:x?} {rules:?}");
        }
    }
}
