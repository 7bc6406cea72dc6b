//! `manual`: the pages of the manual, from the same table as the help.

use std::fmt::Write;
use std::path::Path;

use dhow_runtime::Error;

use super::flags::{Flag, HELP, Takes, Verb};
use super::verbs::{GLOBAL, VERBS};

/// Writes a page for the program and one for each command to a directory, which is made where it is missing.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(dir: &Path) -> Result<(), Error> {
    let write_page = |name: String, text: String| {
        let path = dir.join(name);
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text));
        written.map_err(|source| Error::File { path, source })
    };
    write_page("dhow-runtime.1".to_owned(), of_program())?;
    VERBS
        .iter()
        .try_for_each(|verb| write_page(format!("dhow-runtime-{}.1", verb.name), of_verb(verb)))
}

fn of_program() -> String {
    let about =
        "an OCI runtime: creates and runs containers from bundles, with runc's commands and flags";
    let mut page = begin("dhow-runtime", about);
    page.push_str(".SH SYNOPSIS\n\\fBdhow\\-runtime\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS OF THE COMMAND\\fR] [\\fIARGUMENTS\\fR]\n");
    options(&mut page, "OPTIONS", &[GLOBAL, &[HELP]]);
    page.push_str(".SH COMMANDS\n");
    for verb in VERBS {
        let _ = writeln!(
            page,
            ".TP\n\\fBdhow\\-runtime\\-{}\\fR(1)\n{}",
            verb.name,
            escaped(verb.about)
        );
    }
    page
}

fn of_verb(verb: &Verb) -> String {
    let mut page = begin(&format!("dhow-runtime-{}", verb.name), verb.about);
    page.push_str(".SH SYNOPSIS\n");
    for usage in verb.usage.split("  or  ") {
        let _ = writeln!(
            page,
            "\\fBdhow\\-runtime {}\\fR [\\fIOPTIONS\\fR] {}\n.br",
            verb.name,
            escaped(usage)
        );
    }
    let mut sets = verb.flags.to_vec();
    sets.push(&[HELP]);
    options(&mut page, "OPTIONS", &sets);
    page.push_str(".SH SEE ALSO\n\\fBdhow\\-runtime\\fR(1)\n");
    page
}

fn begin(name: &str, about: &str) -> String {
    format!(
        ".TH {0} 1 \"\" \"dhow-runtime {1}\"\n.SH NAME\n{0} \\- {2}\n",
        escaped(name),
        env!("CARGO_PKG_VERSION"),
        escaped(about)
    )
}

fn options(page: &mut String, title: &str, sets: &[&[Flag]]) {
    let _ = writeln!(page, ".SH {title}");
    let shown = sets.iter().flat_map(|set| set.iter());
    for flag in shown.filter(|flag| !flag.help.is_empty()) {
        let value = match flag.takes {
            Takes::Value(what) => format!(" \\fI{}\\fR", escaped(what)),
            Takes::Nothing => String::new(),
        };
        let _ = write!(page, ".TP\n\\fB\\-\\-{}\\fR{value}", escaped(flag.name));
        if let Some(short) = flag.short.filter(|short| short.len() == 1) {
            let _ = write!(page, ", \\fB\\-{short}\\fR{value}");
        }
        let _ = writeln!(page, "\n{}", escaped(flag.help));
    }
}

/// A text without what roff takes for its own: backslashes, dashes that it would stretch, and a mark at a line's beginning.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_takes_nothing_for_its_own() {
        assert_eq!(escaped("a-b\\c"), "a\\-b\\ec");
        assert_eq!(escaped(".x"), "\\&.x");
        for verb in VERBS {
            let page = of_verb(verb);
            // Each request of roff's that begins a line is one that was meant.
            let requests = page.lines().filter(|line| line.starts_with(['.', '\'']));
            for line in requests {
                let word = line.split(' ').next().unwrap();
                assert!([".TH", ".SH", ".TP", ".br"].contains(&word), "{line}");
            }
        }
    }

    #[test]
    fn every_flag_that_the_help_shows_has_its_place() {
        for verb in VERBS {
            let page = of_verb(verb);
            for flag in verb.flags.iter().flat_map(|set| set.iter()) {
                let name = format!("\\-\\-{}\\fR", escaped(flag.name));
                assert_eq!(page.contains(&name), !flag.help.is_empty(), "{name}");
            }
        }
    }
}
