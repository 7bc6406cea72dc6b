//! Variables, quotes and escapes in a word, as Docker reads them (its reference, "Environment replacement").

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::{Wildcard, Word};

/// How deep `${a:-${b:-...}}` may go; a person writes two, and the stack bears this many.
const DEEPEST: usize = 64;

/// Values of variables by name.
pub trait Variables {
    /// The value of `name`; none where it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpandError {
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
}

impl Word {
    /// The word's value: variables replaced, quotes and escapes taken away.
    ///
    /// # Errors
    /// When a quote or a brace is not closed, a modifier is unknown, or `${NAME?}` finds nothing.
    pub fn expand(&self, escape: char, variables: &dyn Variables) -> Result<String, ExpandError> {
        let mut expansion = Expansion::new(&self.text, escape, variables, !self.from_json);
        let mut out = Output::default();
        expansion.run(&mut out, None, false)?;
        Ok(out.whole)
    }

    /// The words that the value falls into: at spaces outside quotes, also those that come out of variables.
    ///
    /// # Errors
    /// As [`Word::expand`].
    pub fn expand_words(
        &self,
        escape: char,
        variables: &dyn Variables,
    ) -> Result<Vec<String>, ExpandError> {
        let mut expansion = Expansion::new(&self.text, escape, variables, !self.from_json);
        let mut out = Output::default();
        expansion.run(&mut out, None, false)?;
        Ok(out.into_words())
    }

    /// The text with its variables replaced; quotes mean themselves, as in a here-document.
    pub(crate) fn expand_text(
        &self,
        escape: char,
        variables: &dyn Variables,
    ) -> Result<String, ExpandError> {
        let mut expansion = Expansion::new(&self.text, escape, variables, false);
        expansion.escapes = Escapes::InText;
        let mut out = Output::default();
        expansion.run(&mut out, None, false)?;
        Ok(out.whole)
    }
}

/// What came out, as one string and in words.
#[derive(Default)]
struct Output {
    whole: String,
    words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Output {
    /// Characters that may part words.
    fn plain(&mut self, text: &str) {
        self.whole.push_str(text);
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
                self.in_word = true;
            } else if self.in_word {
                self.words.push(std::mem::take(&mut self.word));
                self.in_word = false;
            }
        }
    }

    /// Characters that belong to their word whatever they are.
    fn quoted(&mut self, text: &str) {
        self.whole.push_str(text);
        self.word.push_str(text);
        self.in_word = true;
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// The escape character frees the next one and goes away.
    Always,
    /// Only before `$` and itself, as between double quotes.
    InText,
}

struct Expansion<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    variables: &'a dyn Variables,
    quotes: bool,
    escapes: Escapes,
    depth: usize,
}

impl<'a> Expansion<'a> {
    fn new(text: &'a str, escape: char, variables: &'a dyn Variables, quotes: bool) -> Self {
        Self {
            chars: text.chars().peekable(),
            escape,
            variables,
            quotes,
            escapes: Escapes::Always,
            depth: 0,
        }
    }

    /// Expands up to `stop`, or to the end where there is none. With `raw`, escapes stay as they are (for patterns).
    fn run(&mut self, out: &mut Output, stop: Option<char>, raw: bool) -> Result<(), ExpandError> {
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                return Ok(());
            }
            match c {
                '\'' if self.quotes => {
                    let text = self.single_quoted()?;
                    out.quoted(&text);
                }
                '"' if self.quotes => {
                    let text = self.double_quoted(raw)?;
                    out.quoted(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    out.plain(&text);
                }
                c if c == self.escape => self.escaped(out, raw),
                c => {
                    self.chars.next();
                    out.plain(c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        match stop {
            None => Ok(()),
            Some(stop) => Err(fail(
                format!("the text ends before a closing {stop}"),
                format!("expected {stop} after this"),
            )),
        }
    }

    fn escaped(&mut self, out: &mut Output, raw: bool) {
        let escape = self.escape;
        self.chars.next();
        let frees = match self.chars.peek() {
            Some(&next) if self.escapes == Escapes::InText => next == '$' || next == escape,
            Some(_) => true,
            None => self.escapes == Escapes::Always,
        };
        if raw || !frees {
            out.quoted(escape.encode_utf8(&mut [0; 4]));
        }
        if frees && let Some(next) = self.chars.next() {
            out.quoted(next.encode_utf8(&mut [0; 4]));
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.chars.next();
        let mut text = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(text);
            }
            text.push(c);
        }
        Err(unclosed("single quote", '\''))
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, ExpandError> {
        self.chars.next();
        let mut text = String::new();
        while let Some(&c) = self.chars.peek() {
            match c {
                '"' => {
                    self.chars.next();
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                c => {
                    self.chars.next();
                    let next = self.chars.peek().copied();
                    let frees = c == self.escape
                        && next.is_some_and(|n| n == '"' || n == '$' || n == self.escape);
                    if !frees || raw {
                        text.push(c);
                    }
                    if frees {
                        text.extend(self.chars.next());
                    }
                }
            }
        }
        Err(unclosed("double quote", '"'))
    }

    /// `$NAME` or `${...}`; a dollar before anything else is itself.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".into()
            } else {
                self.variables.get(&name).unwrap_or_default()
            });
        }
        self.chars.next();
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What stands after `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        if self.depth > DEEPEST {
            return Err(fail(
                "the substitutions are nested too deeply".into(),
                format!("expected at most {DEEPEST} levels of ${{...}}"),
            ));
        }
        let name = self.name();
        if name.is_empty() {
            return Err(fail(
                "a substitution has no variable's name after ${".into(),
                "expected ${NAME}, ${NAME:-default} or ${NAME:+other}".into(),
            ));
        }
        let value = self.variables.get(&name);
        match self.chars.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.chars.next() {
                Some(operator @ ('-' | '+' | '?')) => {
                    self.conditional(&name, value.filter(|v| !v.is_empty()), operator, "empty")
                }
                other => Err(unknown_modifier(&name, ":", other)),
            },
            Some(operator @ ('-' | '+' | '?')) => {
                self.conditional(&name, value, operator, "not set")
            }
            Some(operator @ ('#' | '%')) => self.trimmed(&value.unwrap_or_default(), operator),
            Some('/') => self.replaced(&value.unwrap_or_default()),
            None => Err(unclosed("${", '}')),
            other => Err(unknown_modifier(&name, "", other)),
        }
    }

    /// The rest of a substitution up to `stop`, expanded.
    fn rest(&mut self, stop: char, raw: bool) -> Result<String, ExpandError> {
        let mut out = Output::default();
        let escapes = std::mem::replace(&mut self.escapes, Escapes::Always);
        let done = self.run(&mut out, Some(stop), raw);
        self.escapes = escapes;
        done?;
        Ok(out.whole)
    }

    fn conditional(
        &mut self,
        name: &str,
        value: Option<String>,
        operator: char,
        state: &str,
    ) -> Result<String, ExpandError> {
        let word = self.rest('}', false)?;
        match (operator, value) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            _ => Err(fail(
                if word.is_empty() {
                    format!("the variable {name} is {state}")
                } else {
                    format!("{name}: {word}")
                },
                format!("expected a value of {name}, for example --build-arg {name}=..."),
            )),
        }
    }

    /// `${NAME#PATTERN}`, `##`, `%` and `%%`: the value without its shortest or longest matching start or end.
    fn trimmed(&mut self, value: &str, operator: char) -> Result<String, ExpandError> {
        let longest = self.chars.next_if_eq(&operator).is_some();
        let pattern = shell_pattern(&self.rest('}', true)?)?;
        let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).collect();
        cuts.push(value.len());
        // From the shortest part to the longest, or the other way.
        let shortest_first = (operator == '#') != longest;
        if !shortest_first {
            cuts.reverse();
        }
        for cut in cuts {
            let (start, end) = value.split_at(cut);
            let (part, rest) = if operator == '#' {
                (start, end)
            } else {
                (end, start)
            };
            if pattern.matches(part) {
                return Ok(rest.to_owned());
            }
        }
        Ok(value.to_owned())
    }

    /// `${NAME/PATTERN/TEXT}` and `${NAME//PATTERN/TEXT}`.
    fn replaced(&mut self, value: &str) -> Result<String, ExpandError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = shell_pattern(&self.rest('/', true)?)?;
        let replacement = self.rest('}', true)?;
        let mut result = String::new();
        let mut rest = value;
        while !rest.is_empty() {
            // The longest match that starts here.
            let end = (1..=rest.len())
                .rev()
                .filter(|&end| rest.is_char_boundary(end))
                .find(|&end| pattern.matches(&rest[..end]));
            if let Some(end) = end {
                result.push_str(&replacement);
                rest = &rest[end..];
                if !all {
                    break;
                }
            } else {
                let next = rest.chars().next().map_or(rest.len(), char::len_utf8);
                result.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    /// A variable's name: letters, digits and `_`; or digits; or one of the shell's special ones.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

/// A shell's pattern, in which `/` is a character like any other.
fn shell_pattern(text: &str) -> Result<Wildcard, ExpandError> {
    Wildcard::shell(text).map_err(|error| {
        fail(
            format!("{text:?} is not a pattern: {error}"),
            "expected a pattern of *, ? and characters".into(),
        )
    })
}

fn fail(message: String, expected: String) -> ExpandError {
    ExpandError { message, expected }
}

fn unclosed(what: &str, mark: char) -> ExpandError {
    fail(
        format!("a {what} is not closed"),
        format!("expected {mark} before the end of this"),
    )
}

fn unknown_modifier(name: &str, before: &str, found: Option<char>) -> ExpandError {
    match found {
        None => unclosed("${", '}'),
        Some(c) => fail(
            format!("unknown modifier {before}{c} after ${{{name}"),
            format!("expected ${{{name}:-default}}, ${{{name}:+other}} or ${{{name}:?message}}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use proptest::prelude::*;

    fn word(text: &str) -> Word {
        Word {
            text: text.into(),
            span: Span::first_line(),
            from_json: false,
        }
    }

    fn variables(name: &str) -> Option<String> {
        match name {
            "x" => Some("value".into()),
            "empty" => Some(String::new()),
            "two" => Some("a  b".into()),
            "path" => Some("/usr/lib/lib.so.1".into()),
            _ => None,
        }
    }

    fn expand(text: &str) -> String {
        word(text).expand('\\', &variables).unwrap()
    }

    #[test]
    fn variables_quotes_and_escapes_are_dockers() {
        for (text, value) in [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            ("he'll'\"o x\"", "hello x"),
            ("$x", "value"),
            ("${x}", "value"),
            ("a${x}b$x", "avaluebvalue"),
            ("'$x'", "$x"),
            ("\"$x\"", "value"),
            ("\\$x", "$x"),
            ("\"\\$x\"", "$x"),
            ("\"a\\b\"", "a\\b"),
            ("a\\b", "ab"),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$none", ""),
            ("${none:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${none-d}", "d"),
            ("${x:+y}", "y"),
            ("${empty:+y}", ""),
            ("${empty+y}", "y"),
            ("${none:-$x}", "value"),
            ("${none:-${none2:-'q q'}}", "q q"),
            ("${x:?m}", "value"),
            ("${path##*/}", "lib.so.1"),
            ("${path#*/}", "usr/lib/lib.so.1"),
            ("${path%.*}", "/usr/lib/lib.so"),
            ("${path%%.*}", "/usr/lib/lib"),
            ("${path/lib/LIB}", "/usr/LIB/lib.so.1"),
            ("${path//lib/LIB}", "/usr/LIB/LIB.so.1"),
            ("$1x", "x"),
        ] {
            assert_eq!(expand(text), value, "{text}");
        }
    }

    #[test]
    fn a_variable_with_spaces_becomes_words_outside_quotes_only() {
        let words = |text| word(text).expand_words('\\', &variables).unwrap();
        assert_eq!(words("$two"), ["a", "b"]);
        assert_eq!(words("\"$two\" c\\ d"), ["a  b", "c d"]);
        assert_eq!(words("$none"), Vec::<String>::new());
    }

    #[test]
    fn in_json_and_in_here_documents_quotes_mean_themselves() {
        let json = Word {
            from_json: true,
            ..word("'$x'")
        };
        assert_eq!(json.expand('\\', &variables).unwrap(), "'value'");
        let text = word("it's $x \\$x \\n \"q\"");
        assert_eq!(
            text.expand_text('\\', &variables).unwrap(),
            "it's value $x \\n \"q\""
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("'a", "single quote is not closed"),
            ("\"a", "double quote is not closed"),
            ("${x", "not closed"),
            ("${", "no variable's name"),
            ("${}", "no variable's name"),
            ("${x:z}", "unknown modifier :z"),
            ("${x^}", "unknown modifier ^"),
            ("${none:?is needed}", "none: is needed"),
            ("${none?}", "none is not set"),
            ("${x:-", "before a closing }"),
        ] {
            let error = word(text).expand('\\', &variables).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\\\$'\"{}:?+#%/*ab \\[\\]-]{0,40}") {
            let _ = word(&text).expand('\\', &variables);
            let _ = word(&text).expand_words('`', &variables);
            let _ = word(&text).expand_text('\\', &variables);
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let text = "${a:-".repeat(100_000);
        assert!(word(&text).expand('\\', &variables).is_err());
    }
}
