//! A template's text to its nodes: Go's text/template, as far as people use it.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{Expression, Node};

/// How deep blocks and parentheses may be in each other.
const DEEPEST: usize = 100;

/// A piece of a template's text.
enum Piece<'a> {
    Text(String),
    /// What stands between the braces.
    Action(&'a str),
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq, Eq)]
enum Stop<'a> {
    Text,
    End,
    /// `{{else}}`, with what follows the word.
    Else(&'a str),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Node>> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = nodes(&mut pieces, 0)?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End => bail!("there is an {{{{end}}}} without its beginning"),
        Stop::Else(_) => bail!("there is an {{{{else}}}} without its beginning"),
    }
}

fn pieces(text: &str) -> anyhow::Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trimmed = false;
    loop {
        let (before, after) = rest
            .split_once("{{")
            .map_or((rest, None), |(b, a)| (b, Some(a)));
        // Shells do not turn these into what they mean; Docker does.
        let mut plain = before.replace("\\t", "\t").replace("\\n", "\n");
        if trimmed {
            plain = plain.trim_start().to_owned();
        }
        let Some(after) = after else {
            pieces.push(Piece::Text(plain));
            return Ok(pieces);
        };
        let end = closing(after).context("it has {{ without }}")?;
        let mut action = &after[..end];
        rest = &after[end + 2..];
        if let Some(trim) = action.strip_prefix("- ") {
            action = trim;
            plain = plain.trim_end().to_owned();
        }
        trimmed = action.ends_with(" -");
        action = action.strip_suffix(" -").unwrap_or(action).trim();
        pieces.push(Piece::Text(plain));
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action));
        }
    }
}

/// Where the braces close that a text follows; those in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (Some('"'), '\\') => drop(characters.next()),
            (Some(open), other) if open == other => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(character),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn nodes<'a>(
    pieces: &mut impl Iterator<Item = Piece<'a>>,
    depth: usize,
) -> anyhow::Result<(Vec<Node>, Stop<'a>)> {
    ensure!(depth < DEEPEST, "its blocks are too deep in each other");
    let mut found = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                found.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(' ').unwrap_or((action, ""));
        let rest = rest.trim();
        match word {
            "end" => return Ok((found, Stop::End)),
            "else" => return Ok((found, Stop::Else(rest))),
            "if" => found.push(condition(rest, pieces, depth)?),
            "with" => {
                let (then, otherwise) = branches(pieces, depth)?;
                found.push(Node::With(pipeline(rest)?, then, otherwise));
            }
            "range" => found.push(range(rest, pieces, depth)?),
            _ => found.push(statement(action)?),
        }
    }
    Ok((found, Stop::Text))
}

fn condition<'a>(
    text: &str,
    pieces: &mut impl Iterator<Item = Piece<'a>>,
    depth: usize,
) -> anyhow::Result<Node> {
    ensure!(depth < DEEPEST, "its blocks are too deep in each other");
    let condition = pipeline(text)?;
    let (then, end) = nodes(pieces, depth + 1)?;
    let otherwise = match end {
        Stop::End => Vec::new(),
        Stop::Text => bail!("{{{{end}}}} is missing"),
        // One end closes the whole chain.
        Stop::Else(rest) => match rest.strip_prefix("if ") {
            Some(next) => vec![self::condition(next, pieces, depth + 1)?],
            None => closed(nodes(pieces, depth + 1)?)?,
        },
    };
    Ok(Node::If(condition, then, otherwise))
}

fn range<'a>(
    text: &str,
    pieces: &mut impl Iterator<Item = Piece<'a>>,
    depth: usize,
) -> anyhow::Result<Node> {
    let (names, over) = match text.split_once(":=") {
        Some((names, over)) if text.starts_with('$') => (names, over),
        _ => ("", text),
    };
    let names = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = name.strip_prefix('$').filter(|name| !name.is_empty());
            Ok(name
                .context("the names after range begin with $")?
                .to_owned())
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    ensure!(names.len() <= 2, "range has one name or two");
    let over = pipeline(over)?;
    let (body, otherwise) = branches(pieces, depth)?;
    Ok(Node::Range {
        names,
        over,
        body,
        otherwise,
    })
}

/// The nodes up to `{{else}}`, and those from there to `{{end}}`.
fn branches<'a>(
    pieces: &mut impl Iterator<Item = Piece<'a>>,
    depth: usize,
) -> anyhow::Result<(Vec<Node>, Vec<Node>)> {
    let (then, end) = nodes(pieces, depth + 1)?;
    let otherwise = match end {
        Stop::End => Vec::new(),
        Stop::Text => bail!("{{{{end}}}} is missing"),
        Stop::Else("") => closed(nodes(pieces, depth + 1)?)?,
        Stop::Else(rest) => bail!("{{{{else {rest}}}}} stands in no {{{{if}}}}"),
    };
    Ok((then, otherwise))
}

fn closed((nodes, end): (Vec<Node>, Stop<'_>)) -> anyhow::Result<Vec<Node>> {
    ensure!(end == Stop::End, "{{{{end}}}} is missing");
    Ok(nodes)
}

/// A pipeline that is printed, or given a name.
fn statement(text: &str) -> anyhow::Result<Node> {
    if text.starts_with('$')
        && let Some(at) = text.find(|c: char| !(c == '$' || is_of_name(c)))
    {
        let (name, rest) = (text[1..at].to_owned(), text[at..].trim_start());
        let assigned = match rest.strip_prefix(":=") {
            Some(value) => Some((value, true)),
            None => rest.strip_prefix('=').map(|value| (value, false)),
        };
        if let Some((value, is_new)) = assigned {
            return Ok(Node::Assign {
                name,
                value: pipeline(value)?,
                is_new,
            });
        }
    }
    Ok(Node::Print(pipeline(text)?))
}

fn pipeline(text: &str) -> anyhow::Result<Expression> {
    let mut reader = Reader { rest: text.trim() };
    let expression = reader.pipeline(0)?;
    ensure!(
        reader.rest.is_empty(),
        "{:?} is not understood",
        reader.rest
    );
    Ok(expression)
}

/// What a word stands for that is no function's name.
fn literal(word: &str) -> Option<Expression> {
    let value = match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Null,
        _ => return None,
    };
    Some(Expression::Literal(value))
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Commands that each get what the one before gave as their last argument.
    fn pipeline(&mut self, depth: usize) -> anyhow::Result<Expression> {
        ensure!(
            depth < DEEPEST,
            "its parentheses are too deep in each other"
        );
        let mut value = self.command(depth, None)?;
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest.trim_start();
            value = self.command(depth, Some(value))?;
        }
        Ok(value)
    }

    fn command(&mut self, depth: usize, last: Option<Expression>) -> anyhow::Result<Expression> {
        let is_call = self.rest.starts_with(|c: char| c.is_ascii_alphabetic());
        let name = match is_call {
            true => self.word(),
            false => "",
        };
        if let Some(literal) = literal(name) {
            return Ok(literal);
        }
        if !is_call {
            ensure!(last.is_none(), "after | there is a function's name");
            return self.operand(depth);
        }
        let mut arguments = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            arguments.push(self.operand(depth)?);
        }
        arguments.extend(last);
        Ok(Expression::Call(name.to_owned(), arguments))
    }

    /// Letters and digits, and the white space after them.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_of_name(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        word
    }

    fn operand(&mut self, depth: usize) -> anyhow::Result<Expression> {
        let mut characters = self.rest.chars();
        let first = characters
            .next()
            .context("there is nothing where a value is to be")?;
        let base = match first {
            '(' => {
                self.rest = characters.as_str().trim_start();
                let inner = self.pipeline(depth + 1)?;
                let rest = self.rest.strip_prefix(')');
                self.rest = rest.context("there is a ( without )")?;
                inner
            }
            '$' => {
                let rest = characters.as_str();
                let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
                self.rest = &rest[end..];
                Expression::Variable(rest[..end].to_owned())
            }
            '.' => Expression::Dot,
            '"' | '`' => self.quoted(first)?,
            c if c.is_ascii_digit() || c == '-' => self.number()?,
            c if c.is_ascii_alphabetic() => {
                let name = self.word();
                literal(name).unwrap_or_else(|| Expression::Call(name.to_owned(), Vec::new()))
            }
            other => bail!("{other:?} is not understood"),
        };
        let mut names = Vec::new();
        // A dot by itself is the value; one with a name goes into what stands before it.
        while let Some(rest) = self.rest.strip_prefix('.') {
            let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
            self.rest = &rest[end..];
            if end > 0 {
                names.push(rest[..end].to_owned());
            }
        }
        self.rest = self.rest.trim_start();
        Ok(match names.is_empty() {
            true => base,
            false => Expression::Fields(Box::new(base), names),
        })
    }

    fn quoted(&mut self, quote: char) -> anyhow::Result<Expression> {
        let mut text = String::new();
        let mut characters = self.rest[1..].chars();
        loop {
            match characters.next().context("a quoted text does not end")? {
                end if end == quote => break,
                '\\' if quote == '"' => text.push(match characters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(escaped @ ('"' | '\\' | '\'')) => escaped,
                    _ => bail!("a quoted text has a \\ that is not understood"),
                }),
                other => text.push(other),
            }
        }
        self.rest = characters.as_str();
        Ok(Expression::Literal(text.into()))
    }

    fn number(&mut self) -> anyhow::Result<Expression> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '-'));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let number: i64 = text
            .parse()
            .with_context(|| format!("{text:?} is no whole number"))?;
        Ok(Expression::Literal(number.into()))
    }
}
