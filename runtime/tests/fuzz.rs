//! Hostile configurations from the parser to the printed plan: every one is planned or refused, none takes the program down,
//! much memory or long. `fuzz/` tries the same with a fuzzer that watches the code; here whole values of real
//! configurations are exchanged for others, and bytes of their text.

#[path = "../../fuzz/chance.rs"]
mod chance;

use std::time::{Duration, Instant};

use chance::{Chance, MEMORY, change_bytes, peak};
use dhow_runtime::commands::template;
use dhow_runtime::plan::trial;
use serde_json::{Value, json};

const CASES: u64 = 20_000;

fn hostile_value(chance: &mut Chance) -> Value {
    let texts = [
        "",
        "/",
        "..",
        ".",
        "//",
        "/../../..",
        "a/../../b",
        "\0",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "=",
        "0-8191",
        "0-18446744073709551615",
        "4294967296",
        "-1",
        "/proc/self/fd/7",
        "/proc/1/ns/user",
        "ü€😀",
        "SCMP_ACT_NOTIFY",
        "CAP_ALL",
        "bind",
        "rro",
        "size=-1",
        "mode=99999999999",
        "ridmap",
        "RLIMIT_NOFILE",
        "a",
        "p",
    ];
    match chance.below(12) {
        0 => Value::Null,
        1 => json!(chance.below(2) == 0),
        2 => json!(*chance.of(&[
            0u64,
            1,
            2,
            7,
            64,
            4095,
            65_536,
            u64::from(u32::MAX),
            1 << 32,
            u64::MAX
        ])),
        3 => json!(*chance.of(&[-1i64, i64::MIN, i64::from(i32::MIN), i64::MAX])),
        4 => json!(*chance.of(&[0.5, -0.0, 1e300])),
        5 => json!("x".repeat(chance.below(100_000))),
        6 => json!("../".repeat(chance.below(3000))),
        7 => json!([]),
        8 => json!({}),
        9 => {
            let part = *chance.of(&texts);
            json!(vec![part; chance.below(300)])
        }
        _ => json!(*chance.of(&texts)),
    }
}

/// Changes something somewhere below a value.
fn change(value: &mut Value, whole: &Value, chance: &mut Chance) {
    let deeper = chance.below(5) != 0;
    match value {
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = chance.below(list.len());
            match chance.below(6) {
                0 => drop(list.remove(at)),
                1 => {
                    let copy = list[at].clone();
                    let times = 1 + chance.below(50);
                    list.extend(std::iter::repeat_n(copy, times));
                }
                2 => list.reverse(),
                _ => change(&mut list[at], whole, chance),
            }
        }
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let at = chance.below(fields.len());
            let name = fields.keys().nth(at).cloned().unwrap_or_default();
            match chance.below(8) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap_or_default();
                    let text = hostile_value(chance);
                    let text = text.as_str().unwrap_or("unknown").to_owned();
                    fields.insert(text, moved);
                }
                _ => {
                    if let Some(field) = fields.get_mut(&name) {
                        change(field, whole, chance);
                    }
                }
            }
        }
        value => {
            *value = match chance.below(10) {
                0 => somewhere(whole, chance).clone(),
                _ => hostile_value(chance),
            };
        }
    }
}

/// A part of a configuration, to stand where it does not belong.
fn somewhere<'v>(value: &'v Value, chance: &mut Chance) -> &'v Value {
    let below: Vec<&Value> = match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    match below.is_empty() || chance.below(3) == 0 {
        true => value,
        false => somewhere(below[chance.below(below.len())], chance),
    }
}

#[test]
fn no_configuration_takes_the_program_down() {
    let everything = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/configs/everything.json"
    ));
    let everything: Value = serde_json::from_slice(&everything.expect("a file")).expect("JSON");
    let real = [template(None), everything];
    let mut chance = Chance::new();
    let (mut planned, mut refused) = (0, 0);
    for _ in 0..chance::cases(CASES) {
        let whole = chance.of(&real);
        let mut value = whole.clone();
        for _ in 0..1 + chance.below(3) {
            change(&mut value, whole, &mut chance);
        }
        let mut text = value.to_string().into_bytes();
        if chance.below(4) == 0 {
            change_bytes(&mut text, &mut chance);
        }
        let begin = Instant::now();
        let done = std::panic::catch_unwind(|| trial::config(&text).is_ok());
        let case = || String::from_utf8_lossy(&text).into_owned();
        match done {
            Ok(true) => planned += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("the program would go down by {}", case()),
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} for {}", case());
    }
    println!("{planned} planned, {refused} refused");
    assert!(planned > 0 && refused > 0);
    assert!(peak() < MEMORY, "it took {} KiB", peak());
}

/// The real ones are what they are said to be, or nothing above would say anything.
#[test]
fn the_whole_configuration_is_planned() {
    let text = include_bytes!("configs/everything.json");
    let plan = trial::config(text).expect("a plan");
    for step in ["Mount", "SetSysctl", "RunHooks", "instructions"] {
        assert!(plan.contains(step), "{step} is not in {plan}");
    }
}

/// What grows faster than the text that asks for it.
#[test]
fn small_texts_ask_for_little() {
    let mut config = template(None);
    let ranges = vec!["0-8191"; 200_000].join(",");
    config["process"]["execCPUAffinity"] = json!({"initial": ranges});
    config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": ranges});
    assert!(trial::config(config.to_string().as_bytes()).is_err());
    let deep = format!(
        "{{\"annotations\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(trial::config(deep.as_bytes()).is_err());
    let mut config = template(None);
    let call = json!({"names": vec!["read"; 50_000], "action": "SCMP_ACT_ALLOW", "args": []});
    config["linux"]["seccomp"] =
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": vec![call; 4]});
    let begin = Instant::now();
    // Planned or refused, but soon.
    let _ = trial::config(config.to_string().as_bytes());
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(peak() < MEMORY, "it took {} KiB", peak());
}
