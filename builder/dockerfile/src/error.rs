//! A mistake in a Dockerfile, shown with its line and the place marked.

use std::fmt;

use crate::{Source, Span};

/// How much of a long line is shown.
const SHOWN: usize = 160;

/// A mistake in a Dockerfile.
///
/// It is written as `FILE:LINE:COLUMN: what is wrong`, the line itself, and below it a mark with what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileError {
    file: String,
    span: Span,
    line: String,
    message: String,
    expected: String,
}

impl DockerfileError {
    pub(crate) fn new(source: &Source, span: Span, message: String, expected: String) -> Self {
        Self {
            file: source.name().to_owned(),
            span,
            line: source.line(span.start.line).to_owned(),
            message,
            expected,
        }
    }

    /// Where the mistake is.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What was expected there; may be empty.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The shown part of the line and the number of its characters before the mark.
    fn window(&self) -> (String, usize) {
        let column = usize::try_from(self.span.start.column.saturating_sub(1)).unwrap_or(0);
        let chars: Vec<char> = self.line.chars().collect();
        let column = column.min(chars.len());
        if chars.len() <= SHOWN {
            return (self.line.clone(), column);
        }
        let from = column.saturating_sub(SHOWN / 2);
        let to = (from + SHOWN).min(chars.len());
        (chars[from..to].iter().collect(), column - from)
    }

    fn marks(&self, line: &str, before: usize) -> usize {
        let rest = line.chars().count().saturating_sub(before);
        let wanted = if self.span.end.line == self.span.start.line {
            self.span.end.column.saturating_sub(self.span.start.column)
        } else {
            u32::MAX
        };
        usize::try_from(wanted).unwrap_or(rest).min(rest).max(1)
    }
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, before) = self.window();
        let number = self.span.start.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab before the mark stays a tab, so that the mark stands below its place.
        let indent: String = line
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{}:{}: {}", self.file, self.span.start, self.message)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", line.trim_end())?;
        let marks = "^".repeat(self.marks(line.trim_end(), before));
        write!(f, "{margin} | {indent}{marks} {}", self.expected)
    }
}

impl std::error::Error for DockerfileError {}
