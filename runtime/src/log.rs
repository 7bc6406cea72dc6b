//! Where the runtime's own words go: standard error or a file, as text or JSON, in runc's shape.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::Kind;

/// How to log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The file; standard error when there is none.
    pub file: Option<PathBuf>,
    /// JSON instead of text.
    pub json: bool,
    /// Debug messages too.
    pub debug: bool,
    /// Nothing on standard error where there is a file: the caller gave it to the container.
    pub only_file: bool,
}

static OPTIONS: OnceLock<LogOptions> = OnceLock::new();

/// Sets how to log, once, at the start of the program.
pub fn set(options: LogOptions) {
    let _ = OPTIONS.set(options);
}

/// Sees that the file takes what is said, and makes it where it is not there.
///
/// # Errors
/// When it cannot be written: who looks into it would take silence for success.
pub fn check() -> Result<(), crate::Error> {
    let Some(path) = OPTIONS.get().and_then(|options| options.file.as_ref()) else {
        return Ok(());
    };
    open(path).map(drop).map_err(|source| {
        crate::Error::Asked(format!(
            "cannot write the log {}: {source}; name a file in a directory that is there (--log)",
            path.display()
        ))
    })
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Something is not as asked, and goes on.
pub fn warn(message: &str) {
    write("warning", message, None);
}

/// What helps who looks for a fault.
pub fn debug(message: &str) {
    if OPTIONS.get().is_some_and(|options| options.debug) {
        write("debug", message, None);
    }
}

/// Why a command failed.
pub fn error(message: &str, kind: Kind) {
    write("error", message, Some(kind));
}

fn write(level: &str, message: &str, kind: Option<Kind>) {
    let default = LogOptions::default();
    let options = OPTIONS.get().unwrap_or(&default);
    let message = &without_numbers(message);
    let line = line(options.json, level, message, kind);
    let written = options.file.as_ref().is_some_and(|path| {
        open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .is_ok()
    });
    // There is nobody to tell when standard error cannot be written.
    if !written {
        let _ = std::io::stderr().write_all(line.as_bytes());
    } else if level == "error" && !options.only_file {
        // As runc does: conmon and people take the words from here.
        let _ = writeln!(std::io::stderr(), "{message}");
    }
}

/// A system's answers in words alone: "No such file or directory", not "No such file or directory (os error 2)".
fn without_numbers(message: &str) -> String {
    let mut words = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        words.push_str(before);
        let number = after.find(|c: char| !c.is_ascii_digit() && c != '-');
        rest = match number.map(|end| after.split_at(end)) {
            Some((_, after)) => after.strip_prefix(')').unwrap_or(after),
            None => "",
        };
    }
    words + rest
}

/// A line as logrus, runc's library, writes it.
fn line(json: bool, level: &str, message: &str, kind: Option<Kind>) -> String {
    let time = jiff::Timestamp::now();
    if !json {
        return format!("time=\"{time:.0}\" level={level} msg={message:?}\n");
    }
    let mut line = serde_json::json!({
        "level": level,
        "msg": message,
        "time": format!("{time:.0}"),
    });
    if let Some(kind) = kind {
        line["kind"] = kind.name().into();
    }
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::without_numbers;

    #[test]
    fn the_systems_numbers_are_left_away() {
        for (message, words) in [
            ("open x: No such file (os error 2)", "open x: No such file"),
            ("a (os error 2); b (os error 13): c", "a; b: c"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(without_numbers(message), words);
        }
    }
}
