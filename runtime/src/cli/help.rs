//! What `--help` and `--version` print.

use std::fmt::Write;

use super::flags::{Flag, HELP, Takes, Verb};
use super::verbs::{GLOBAL, VERBS};

/// The version, in runc's shape.
pub(crate) fn version() -> String {
    format!(
        "dhow-runtime version {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        dhow_runtime::container::OCI_VERSION
    )
}

/// The help of the program.
pub(crate) fn of_program() -> String {
    let mut text = String::from(
        "NAME:\n   dhow-runtime - an OCI runtime: creates and runs containers from bundles, with runc's commands and flags\n\n\
         USAGE:\n   dhow-runtime [global options] command [command options] [arguments...]\n\nCOMMANDS:\n",
    );
    for verb in VERBS {
        let _ = writeln!(text, "   {:<10}  {}", verb.name, verb.about);
    }
    text.push_str("\nGLOBAL OPTIONS:\n");
    list(&mut text, &[GLOBAL, &[HELP]]);
    text
}

/// The help of a command.
pub(crate) fn of_verb(verb: &Verb) -> String {
    let mut text = format!(
        "NAME:\n   dhow-runtime {} - {}\n\nUSAGE:\n   dhow-runtime {} [command options] {}\n\nOPTIONS:\n",
        verb.name, verb.about, verb.name, verb.usage
    );
    let mut sets = verb.flags.to_vec();
    sets.push(&[HELP]);
    list(&mut text, &sets);
    text
}

fn list(text: &mut String, sets: &[&[Flag]]) {
    let flags = sets.iter().flat_map(|set| set.iter());
    let rows: Vec<(String, &str)> = flags
        .filter(|flag| !flag.help.is_empty())
        .map(|flag| (shown(flag), flag.help))
        .collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, help) in rows {
        let _ = writeln!(text, "   {name:<width$}  {help}");
    }
}

fn shown(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Value(what) => format!(" {what}"),
        Takes::Nothing => String::new(),
    };
    match flag.short {
        Some(short) if short.len() == 1 => format!("--{}{value}, -{short}{value}", flag.name),
        _ => format!("--{}{value}", flag.name),
    }
}
