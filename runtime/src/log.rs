//! Where the runtime's own words go: standard error or a file, as text or JSON, in runc's shape.

use std::io::Write;
use std::path::PathBuf;
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
}

static OPTIONS: OnceLock<LogOptions> = OnceLock::new();

/// Sets how to log, once, at the start of the program.
pub fn set(options: LogOptions) {
    let _ = OPTIONS.set(options);
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
    let time = jiff::Timestamp::now();
    let line = if options.json {
        let mut line = serde_json::json!({
            "level": level,
            "msg": message,
            "time": time.to_string(),
        });
        if let Some(kind) = kind {
            line["kind"] = kind.name().into();
        }
        format!("{line}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={message:?}\n")
    };
    // There is nobody to tell when the log cannot be written.
    match &options.file {
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path);
            if let Ok(mut file) = file {
                let _ = file.write_all(line.as_bytes());
            }
            // People see it too. A program that reads JSON does not want it among the container's output.
            if level == "error" && !options.json {
                let _ = writeln!(std::io::stderr(), "{message}");
            }
        }
        None => {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}
