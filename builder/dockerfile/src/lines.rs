//! Physical lines to logical ones: comments, continued lines, here-documents, and the way back to the places.

use crate::instruction::Directives;
use crate::words::raw_words;
use crate::{DockerfileError, Heredoc, Position, Source, Span, Word};

/// A logical line: one instruction with its continued lines joined.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The joined text.
    pub(crate) text: String,
    /// From which byte of `text` on which place of the source goes on, ascending.
    pieces: Vec<(usize, Position)>,
    /// The here-documents that its words announce, in their order.
    pub(crate) heredocs: Vec<Heredoc>,
}

impl Line {
    /// The place of a byte of the text.
    fn position(&self, offset: usize) -> Position {
        let index = self.pieces.partition_point(|(start, _)| *start <= offset);
        let (start, place) = self.pieces[index.saturating_sub(1)];
        let characters = self
            .text
            .get(start..offset)
            .map_or(0, |text| text.chars().count());
        Position {
            line: place.line,
            column: place.column + u32::try_from(characters).unwrap_or(u32::MAX),
        }
    }

    /// The place of a stretch of the text.
    pub(crate) fn span(&self, from: usize, to: usize) -> Span {
        let start = self.position(from);
        // The end is behind the last character, which may stand on a line above that of the next one.
        let last = self.text[from..to]
            .char_indices()
            .next_back()
            .map(|(at, _)| from + at);
        let end = last.map_or(start, |last| {
            let place = self.position(last);
            Position {
                column: place.column + 1,
                ..place
            }
        });
        Span { start, end }
    }

    /// The stretch as a word.
    pub(crate) fn word(&self, from: usize, to: usize) -> Word {
        Word {
            text: self.text[from..to].to_owned(),
            span: self.span(from, to),
            from_json: false,
        }
    }

    /// The stretch without the white space around it.
    pub(crate) fn trimmed(&self, from: usize, to: usize) -> (usize, usize) {
        let text = &self.text[from..to];
        let start = from + text.len() - text.trim_start().len();
        (start, start + text.trim().len())
    }
}

/// Reads logical lines one after the other.
pub(crate) struct Lines<'a> {
    source: &'a Source,
    lines: Vec<&'a str>,
    next: usize,
    escape: char,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(source: &'a Source, directives: &Directives) -> Self {
        Self {
            source,
            lines: source.text().lines().collect(),
            next: 0,
            escape: directives.escape,
        }
    }

    /// The next logical line that says anything.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, DockerfileError> {
        let Some(mut line) = self.join() else {
            return Ok(None);
        };
        let (from, to) = line.trimmed(0, line.text.len());
        let keyword = line.text[from..to].split(char::is_whitespace).next();
        let takes_documents = keyword.is_some_and(|word| {
            ["RUN", "COPY", "ADD"]
                .iter()
                .any(|k| k.eq_ignore_ascii_case(word))
        });
        if takes_documents {
            self.heredocs(&mut line)?;
        }
        Ok(Some(line))
    }

    fn join(&mut self) -> Option<Line> {
        let mut line = Line {
            text: String::new(),
            pieces: Vec::new(),
            heredocs: Vec::new(),
        };
        while let Some(&physical) = self.lines.get(self.next) {
            self.next += 1;
            // Comments and empty lines do not end an instruction that goes on.
            if is_comment(physical) || physical.trim().is_empty() {
                continue;
            }
            let (text, goes_on) = match continued(physical, self.escape) {
                Some(text) => (text, true),
                None => (physical, false),
            };
            let place = Position {
                line: u32::try_from(self.next).unwrap_or(u32::MAX),
                column: 1,
            };
            line.pieces.push((line.text.len(), place));
            line.text.push_str(text);
            if !goes_on && !line.text.trim().is_empty() {
                return Some(line);
            }
            if !goes_on {
                line.text.clear();
                line.pieces.clear();
            }
        }
        (!line.text.trim().is_empty()).then_some(line)
    }

    /// Takes the here-documents that the words of `line` announce.
    fn heredocs(&mut self, line: &mut Line) -> Result<(), DockerfileError> {
        for (from, to) in raw_words(&line.text, self.escape) {
            if let Some(announced) = Announced::read(&line.text[from..to]) {
                let span = line.span(from, to);
                let heredoc = self.heredoc(announced, span)?;
                line.heredocs.push(heredoc);
            }
        }
        Ok(())
    }

    fn heredoc(&mut self, announced: Announced, span: Span) -> Result<Heredoc, DockerfileError> {
        let first = self.next;
        let mut text = String::new();
        while let Some(&physical) = self.lines.get(self.next) {
            self.next += 1;
            let plain = if announced.chomp {
                physical.trim_start_matches('\t')
            } else {
                physical
            };
            if plain == announced.name {
                let place = |line: usize, column| Position {
                    line: u32::try_from(line + 1).unwrap_or(u32::MAX),
                    column,
                };
                return Ok(Heredoc {
                    name: announced.name,
                    content: Word {
                        text,
                        span: Span {
                            start: place(first, 1),
                            end: place(self.next - 1, 1),
                        },
                        from_json: false,
                    },
                    expand: announced.expand,
                });
            }
            text.push_str(plain);
            text.push('\n');
        }
        Err(self.source.error(
            span,
            format!("the here-document {} does not end", announced.name),
            format!("expected a later line with only {}", announced.name),
        ))
    }
}

/// A word like `<<EOF`, `<<-EOF` or `3<<"EOF"`.
pub(crate) struct Announced {
    name: String,
    chomp: bool,
    expand: bool,
}

impl Announced {
    pub(crate) fn read(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = rest.strip_prefix("<<")?;
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim();
        let name: String = rest.chars().filter(|c| !"'\"\\".contains(*c)).collect();
        if name.is_empty() || rest.contains(['<', '$', '(', ')', ';', '|', '&']) {
            return None;
        }
        Some(Self {
            expand: name == rest,
            name,
            chomp,
        })
    }
}

/// Whether a script of several lines is a command with the here-documents that it announces, and nothing behind them.
pub(crate) fn is_command_with_documents(script: &str) -> bool {
    let mut lines = script.lines();
    let first = lines.next().unwrap_or_default();
    let words = raw_words(first, '\\');
    let announced = words.iter();
    let announced: Vec<Announced> = announced
        .filter_map(|(from, to)| Announced::read(&first[*from..*to]))
        .collect();
    let mut ends = announced.iter().map(|document| {
        lines.any(|line| match document.chomp {
            true => line.trim_start_matches('\t') == document.name,
            false => line == document.name,
        })
    });
    let all_end = ends.all(|ends| ends);
    all_end && words.len() > 1 && !announced.is_empty() && lines.next().is_none()
}

/// Whether a line is a comment.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without its continuation character; none where it has none, or an escaped one.
pub(crate) fn continued(line: &str, escape: char) -> Option<&str> {
    // Any white space, as what ends an instruction is trimmed, too.
    let text = line.trim_end().strip_suffix(escape)?;
    (!text.ends_with(escape)).then_some(text)
}
