//! `completion`: what a shell proposes after `dhow-runtime`, from the same table as the help.

use std::fmt::Write;

use dhow_runtime::Error;

use super::flags::{Flag, HELP, Takes, Verb};
use super::verbs::{GLOBAL, VERBS};

/// The script of a shell.
///
/// # Errors
/// When it is none of those that are known.
pub(crate) fn script(shell: &str) -> Result<String, Error> {
    match shell {
        "bash" => Ok(bash()),
        "zsh" => Ok(zsh()),
        "fish" => Ok(fish()),
        other => Err(Error::Asked(format!(
            "no completion for the shell {other:?} (bash, zsh or fish)"
        ))),
    }
}

/// The flags that are shown, each once.
fn shown<'a>(sets: &[&'a [Flag]]) -> Vec<&'a Flag> {
    let all = sets.iter().flat_map(|set| set.iter());
    all.filter(|flag| !flag.help.is_empty()).collect()
}

fn of_verb(verb: &Verb) -> Vec<&'static Flag> {
    let mut flags = shown(verb.flags);
    flags.push(&HELP);
    flags
}

fn of_program() -> Vec<&'static Flag> {
    let mut flags = shown(&[GLOBAL]);
    flags.push(&HELP);
    flags
}

/// Whether a command's words begin with a container's id, which the shell asks `list` for.
fn takes_container(verb: &Verb) -> bool {
    verb.usage.starts_with("CONTAINER") && !["create", "run", "restore"].contains(&verb.name)
}

/// Whether a flag's value is a path.
fn takes_path(flag: &Flag) -> bool {
    matches!(
        flag.takes,
        Takes::Value("FILE" | "DIR" | "SOCKET" | "PROGRAM")
    )
}

fn long_names(flags: &[&Flag]) -> String {
    let names: Vec<String> = flags
        .iter()
        .map(|flag| format!("--{}", flag.name))
        .collect();
    names.join(" ")
}

/// The names of flags after which a value comes, as a pattern of the shell's.
fn with_value(flags: &[&Flag], is_wanted: impl Fn(&Flag) -> bool) -> String {
    let mut names = Vec::new();
    for flag in flags {
        if flag.takes != Takes::Nothing && is_wanted(flag) {
            names.push(format!("--{}", flag.name));
            let short = flag.short.filter(|short| short.len() == 1);
            names.extend(short.map(|short| format!("-{short}")));
        }
    }
    names.sort();
    names.dedup();
    names.join("|")
}

fn bash() -> String {
    let all: Vec<&Flag> = VERBS.iter().flat_map(of_verb).chain(of_program()).collect();
    let global = of_program();
    let verbs: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let mut cases = String::new();
    for verb in VERBS {
        let _ = writeln!(
            cases,
            "        {}) flags='{}'; containers={} ;;",
            verb.name,
            long_names(&of_verb(verb)),
            u8::from(takes_container(verb))
        );
    }
    format!(
        r#"# bash completion for dhow-runtime
_dhow_runtime() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb= root= flags containers=0 i
    COMPREPLY=()
    case $before in
        {paths}) COMPREPLY=($(compgen -f -- "$word")); return ;;
        {others}) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --root) root=${{COMP_WORDS[i+1]}}; ((i++)) ;;
            {global_values}) ((i++)) ;;
            -*) ;;
            *) verb=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    case $verb in
        '') flags='{global} {verbs}' ;;
{cases}        *) return ;;
    esac
    if [[ $containers = 1 && $word != -* ]]; then
        flags=$(dhow-runtime ${{root:+--root "$root"}} list --quiet 2>/dev/null)
    fi
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
}}
complete -F _dhow_runtime dhow-runtime
"#,
        paths = with_value(&all, takes_path),
        others = with_value(&all, |flag| !takes_path(flag)),
        global_values = with_value(&global, |_| true),
        global = long_names(&global),
        verbs = verbs.join(" "),
    )
}

/// A text between single quotes of zsh's _arguments or fish's.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "'\\''")
}

/// A flag as a specification of _arguments.
fn specification(flag: &Flag) -> String {
    let help = quoted(flag.help).replace('[', "\\[").replace(']', "\\]");
    let (join, value) = match flag.takes {
        Takes::Nothing => ("", String::new()),
        Takes::Value(what) => {
            let action = if takes_path(flag) { "_files" } else { "" };
            let what = quoted(what).replace(':', "\\:");
            ("=", format!(":{what}:{action}"))
        }
    };
    format!("'*--{}{join}[{help}]{value}'", flag.name)
}

fn zsh() -> String {
    let arguments = |flags: &[&Flag]| -> String {
        let lines = flags
            .iter()
            .map(|flag| format!(" \\\n            {}", specification(flag)));
        lines.collect()
    };
    let mut verbs = String::new();
    let mut cases = String::new();
    for verb in VERBS {
        let _ = writeln!(verbs, "        '{}:{}'", verb.name, quoted(verb.about));
        let first = match takes_container(verb) {
            true => " '1:container:($(dhow-runtime list --quiet 2>/dev/null))'",
            false => "",
        };
        let rest = if verb.passes_on {
            " '*::argument:_default'"
        } else {
            ""
        };
        let _ = writeln!(
            cases,
            "        {}) _arguments -S{first}{rest}{} ;;",
            verb.name,
            arguments(&of_verb(verb))
        );
    }
    format!(
        r#"#compdef dhow-runtime
_dhow_runtime() {{
    local -a verbs
    verbs=(
{verbs}    )
    local context state line
    _arguments -C '1:command:->command' '*::argument:->argument'{global}
    case $state in
        command) _describe command verbs ;;
        argument) case $words[1] in
{cases}        esac ;;
    esac
}}
_dhow_runtime "$@"
"#,
        global = arguments(&of_program()),
    )
}

fn fish() -> String {
    let mut text =
        String::from("# fish completion for dhow-runtime\ncomplete -c dhow-runtime -f\n");
    let flag_line = |text: &mut String, when: &str, flag: &Flag| {
        let short = flag.short.filter(|short| short.len() == 1);
        let short = short.map_or_else(String::new, |short| format!(" -s {short}"));
        let value = match (flag.takes, takes_path(flag)) {
            (Takes::Nothing, _) => "",
            (_, true) => " -r -F",
            (_, false) => " -x",
        };
        let _ = writeln!(
            text,
            "complete -c dhow-runtime -n '{when}' -l {}{short}{value} -d '{}'",
            flag.name,
            quoted_for_fish(flag.help)
        );
    };
    for flag in of_program() {
        flag_line(&mut text, "__fish_use_subcommand", flag);
    }
    for verb in VERBS {
        let _ = writeln!(
            text,
            "complete -c dhow-runtime -n '__fish_use_subcommand' -a {} -d '{}'",
            verb.name,
            quoted_for_fish(verb.about)
        );
        let when = format!("__fish_seen_subcommand_from {}", verb.name);
        if takes_container(verb) {
            let _ = writeln!(
                text,
                "complete -c dhow-runtime -n '{when}' -a '(dhow-runtime list --quiet 2>/dev/null)'"
            );
        }
        for flag in of_verb(verb) {
            flag_line(&mut text, &when, flag);
        }
    }
    text
}

fn quoted_for_fish(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
