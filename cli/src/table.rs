//! Lists, columns and sizes as Docker users know them.

use std::io::Write as _;
use std::str::FromStr;

use anyhow::bail;
use serde_json::{Map, Value};

use crate::template::Template;

// How a list is printed. No doc comments: they would stand in every verb's help, which says it in its own words.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Table,
    Json,
    // A template for each row.
    Template(Template),
    // The same, as a table with a head.
    Columns(Template),
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            text => match text.strip_prefix("table ") {
                Some(template) => Self::Columns(template.trim().parse()?),
                None if text.contains("{{") => Self::Template(text.parse()?),
                None => bail!(
                    "{text:?} is no format; write table, json, or a template such as '{{{{.ID}}}}' or 'table {{{{.ID}}}}\\t{{{{.Size}}}}'"
                ),
            },
        })
    }
}

/// Rows of a list: each an object with the fields that templates name.
pub(crate) struct List<'a> {
    /// The fields that a table shows, with what stands above them.
    pub(crate) shown: &'a [(&'a str, &'a str)],
    /// What stands above other fields.
    pub(crate) others: &'a [(&'a str, &'a str)],
    /// The rows.
    pub(crate) rows: Vec<Value>,
}

impl List<'_> {
    /// Prints the rows.
    pub(crate) fn print(&self, format: &Format) -> anyhow::Result<()> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match format {
            Format::Json => print_lines(self.rows.iter().map(Value::to_string)),
            Format::Table => {
                let head: Vec<&str> = self.shown.iter().map(|(_, heading)| *heading).collect();
                let cells = |row: &Value| self.shown.iter().map(|(f, _)| text(&row[*f])).collect();
                print(&head, self.rows.iter().map(cells).collect());
            }
            Format::Template(template) => {
                let lines: Vec<String> = self
                    .rows
                    .iter()
                    .map(|row| template.render(row))
                    .collect::<anyhow::Result<_>>()?;
                print_lines(lines);
            }
            Format::Columns(template) => {
                let headings = self.shown.iter().chain(self.others);
                let head: Map<String, Value> = headings
                    .map(|(field, heading)| ((*field).to_owned(), (*heading).into()))
                    .collect();
                let cells = |row: &Value| -> anyhow::Result<Vec<String>> {
                    let line = template.render(row)?;
                    Ok(line.split('\t').map(str::to_owned).collect())
                };
                let head = cells(&head.into())?;
                let head: Vec<&str> = head.iter().map(String::as_str).collect();
                let rows = self.rows.iter().map(cells);
                print(&head, rows.collect::<anyhow::Result<_>>()?);
            }
        }
        Ok(())
    }
}

/// Prints rows below a head, the columns three spaces apart.
pub(crate) fn print(head: &[&str], rows: Vec<Vec<String>>) {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(ToString::to_string).collect()];
    lines.extend(rows);
    let mut widths = vec![0; lines.iter().map(Vec::len).max().unwrap_or(0)];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    print_lines(lines.iter().map(|line| {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width - cell.chars().count() + 3));
        }
        text.trim_end().to_owned()
    }));
}

/// Prints lines, as many as are read: who has seen enough (`head`) is no fault.
pub(crate) fn print_lines(lines: impl IntoIterator<Item = String>) {
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        if writeln!(stdout, "{line}").is_err() {
            break;
        }
    }
}

/// A number of bytes in powers of a thousand with three digits: `4.27MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = match value {
        _ if unit == 0 => format!("{value:.0}"),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    };
    // No zeros behind the point, as Docker has it.
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_269_000, "4.27MB"),
            (74_800_000, "74.8MB"),
            (124_400_000, "124MB"),
            (999_900_000, "1GB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
