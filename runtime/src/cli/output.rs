//! What the commands print, in runc's shapes.

use std::io::Write;

use dhow_runtime::cgroup::Stats;
use dhow_runtime::commands::{Event, Listed};
use dhow_runtime::error::Error;
use serde_json::{Value, json};

/// Prints a document. A reader that went away is not our failure.
pub(crate) fn print_json(value: &Value) {
    let _ = writeln!(std::io::stdout(), "{value:#}");
}

/// A line of `events`; whether somebody reads it.
pub(crate) fn event(id: &str, event: &Event) -> bool {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        r#type: &'static str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Stats>,
    }
    let (kind, data) = match event {
        Event::Stats(stats) => ("stats", Some(&**stats)),
        Event::Oom => ("oom", None),
    };
    let line = Line {
        r#type: kind,
        id,
        data,
    };
    let text = serde_json::to_string(&line).unwrap_or_default();
    writeln!(std::io::stdout(), "{text}").is_ok()
}

/// The state document.
pub(crate) fn state(listed: &Listed) -> Value {
    let owner = String::new();
    serde_json::to_value(listed.record.document(listed.status, &owner)).unwrap_or_default()
}

/// The name of a user, from the host's /etc/passwd; the number where there is none.
fn owner_name(uid: u32) -> String {
    std::fs::read_to_string("/etc/passwd")
        .unwrap_or_default()
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))
        .map_or_else(|| format!("#{uid}"), |fields| fields[0].to_owned())
}

/// The containers, as a table, JSON or ids.
pub(crate) fn list(containers: &[Listed], as_json: bool, quiet: bool) {
    let mut out = std::io::stdout().lock();
    if quiet {
        for listed in containers {
            let _ = writeln!(out, "{}", listed.record.id);
        }
        return;
    }
    if as_json {
        let documents: Vec<Value> = containers
            .iter()
            .map(|listed| {
                let owner = owner_name(listed.record.owner);
                serde_json::to_value(listed.record.document(listed.status, &owner))
                    .unwrap_or_default()
            })
            .collect();
        let text = match documents.is_empty() {
            // As runc says it.
            true => Value::Null,
            false => json!(documents),
        };
        let _ = writeln!(out, "{text}");
        return;
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for listed in containers {
        let record = &listed.record;
        let document = record.document(listed.status, "");
        rows.push([
            record.id.clone(),
            document.pid.to_string(),
            listed.status.to_string(),
            record.bundle.display().to_string(),
            record.created.clone(),
            owner_name(record.owner),
        ]);
    }
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].len())
                .max()
                .unwrap_or(0)
                .max(9);
            line.push_str(&format!("{cell:<width$}   "));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// The processes, as JSON or as the lines of ps(1) about them.
pub(crate) fn processes(pids: &[i32], as_json: bool, options: &[String]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let _ = writeln!(out, "{}", json!(pids));
        return Ok(());
    }
    let mut command = std::process::Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(options);
    }
    let output = command.output().map_err(|error| {
        Error::Asked(format!(
            "cannot run ps ({error}); install it (package procps) or ask for --format json"
        ))
    })?;
    if !output.status.success() {
        return Err(Error::Asked(format!(
            "ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::Asked("couldn't find PID field in ps output".to_owned()))?;
    let _ = writeln!(out, "{head}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(())
}
