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
            parts.push(what.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            command = words_of_the_command(usage);
        } else if line.starts_with("tip: ") {
            parts.push(line.replace("tip: ", "").trim().to_owned());
        }
    }
    Some(format!("{} (see: {command} --help)", parts.join("; ")))
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
    fn leaves_help_alone() {
        for words in [&["dhow", "--help"][..], &["dhow", "version", "--help"]] {
            let error = Cli::try_parse_from(words).err().unwrap();
            assert!(mistake(&error, &[]).is_none(), "{words:?}");
        }
    }
}
