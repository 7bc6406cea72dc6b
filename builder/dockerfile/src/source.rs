//! A text with a name, and places in it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::DockerfileError;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// A stretch of a text: from a place up to, and without, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Where it starts.
    pub start: Position,
    /// The place behind its last character.
    pub end: Position,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Span {
    /// The first line of the text, for errors that concern all of it.
    pub(crate) fn first_line() -> Self {
        let start = Position { line: 1, column: 1 };
        Self { start, end: start }
    }
}

/// A text and the name under which its reader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// The text of the file called `name`.
    pub fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.into(),
            text: text.strip_prefix('\u{feff}').unwrap_or(text).into(),
        }
    }

    /// The name that errors show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line of this number, from 1, without its end; empty where there is none.
    pub fn line(&self, number: u32) -> &str {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        self.text.lines().nth(index).unwrap_or_default()
    }

    /// An error at a place of this text; `expected` says what would have been right there.
    pub fn error(
        &self,
        span: Span,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> DockerfileError {
        DockerfileError::new(self, span, message.into(), expected.into())
    }
}
