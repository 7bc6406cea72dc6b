//! What is wrong with the words that were typed, in one line and with the place to read on.

use clap::CommandFactory;
use clap::error::ErrorKind;

/// The answer to a mistyped command line (its words after the program's name); nothing where clap's own answer is a help text that
/// was asked for in effect.
pub(crate) fn mistake(error: &clap::Error, words: &[String]) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.render().to_string();
    let mut parts = Vec::new();
    let mut command = verbs_among(words);
    // clap separates the mistake, its hints and the usage by empty lines.
    for paragraph in text.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(what) = line.strip_prefix("error: ") {
            parts.push(without_repetition(what));
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            command = words_of_the_command(usage);
        } else if line.starts_with("tip: ") {
            // The first is the likely word; that a flag could be meant as a value helps nobody.
            let tip = line.split("tip: ").nth(1).map(str::trim);
            parts.extend(
                tip.filter(|tip| !tip.starts_with("to pass "))
                    .map(str::to_owned),
            );
        }
    }
    Some(format!("{} (see: {command} --help)", parts.join("; ")))
}

/// The library's own word on a value, which quotes it, in the place of clap's around it: `--memory: "many" is not a size; ...` of
/// `invalid value 'many' for '--memory <SIZE>': "many" is not a size; ...`.
fn without_repetition(what: &str) -> String {
    let parts = || {
        let (value, rest) = what
            .strip_prefix("invalid value '")?
            .split_once("' for '")?;
        let (argument, reason) = rest.split_once("': ")?;
        let flag = argument
            .split(' ')
            .next()
            .filter(|word| word.starts_with('-'));
        reason.contains(&format!("{value:?}")).then(|| match flag {
            Some(flag) => format!("{flag}: {reason}"),
            None => reason.to_owned(),
        })
    };
    parts().unwrap_or_else(|| what.to_owned())
}

/// `dhow registry serve` of `--root x registry serve --addr`, where clap shows no usage.
fn verbs_among(words: &[String]) -> String {
    let program = crate::Cli::command();
    let mut command = &program;
    let mut path = vec!["dhow"];
    for word in words {
        if let Some(verb) = command.find_subcommand(word) {
            path.push(verb.get_name());
            command = verb;
        }
    }
    path.join(" ")
}

/// `dhow registry serve` of `dhow registry serve [OPTIONS]`.
fn words_of_the_command(usage: &str) -> String {
    usage
        .split(' ')
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Cli;

    fn said(words: &[&str]) -> String {
        let error = Cli::try_parse_from(words).err().unwrap();
        let words: Vec<String> = words[1..].iter().map(|word| (*word).to_owned()).collect();
        mistake(&error, &words).unwrap()
    }

    #[test]
    fn names_the_mistake_the_likely_word_and_the_help() {
        let line = said(&["dhow", "verison"]);
        assert!(line.contains("'verison'"), "{line}");
        assert!(line.contains("'version'"), "{line}");
        assert!(line.ends_with("(see: dhow --help)"), "{line}");
    }

    #[test]
    fn is_one_line_also_where_clap_writes_several() {
        for words in [
            &["dhow", "completion"][..],
            &["dhow", "completion", "basj"],
            &["dhow", "version", "--now"],
            &["dhow", "version", "--root"],
        ] {
            let line = said(words);
            assert!(!line.contains('\n'), "{line}");
            let help = format!("(see: dhow {} --help)", words[1]);
            assert!(line.ends_with(&help), "{line}");
        }
    }

    #[test]
    fn says_once_what_a_value_is() {
        for (clap, here) in [
            (
                "invalid value 'many' for '--memory <SIZE>': \"many\" is not a size",
                "--memory: \"many\" is not a size",
            ),
            (
                "invalid value 'App' for '<NAME>': \"App\" is not an image reference",
                "\"App\" is not an image reference",
            ),
            (
                "invalid value 'x' for '--n <N>': not a number",
                "invalid value 'x' for '--n <N>': not a number",
            ),
        ] {
            assert_eq!(without_repetition(clap), here);
        }
    }

    #[test]
    fn leaves_help_alone() {
        for words in [&["dhow", "--help"][..], &["dhow", "version", "--help"]] {
            let error = Cli::try_parse_from(words).err().unwrap();
            assert!(mistake(&error, &[]).is_none(), "{words:?}");
        }
    }
}
