//! Columns and sizes as Docker users know them.

// How a list is printed. No doc comments: they would stand in every verb's help, which says it in its own words.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

/// Prints rows below a head, the columns three spaces apart.
pub(crate) fn print(head: &[&str], rows: Vec<Vec<String>>) {
    let mut lines = vec![head.iter().map(ToString::to_string).collect()];
    lines.extend(rows);
    let mut widths = vec![0; head.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in &lines {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width - cell.chars().count() + 3));
        }
        println!("{}", text.trim_end());
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
