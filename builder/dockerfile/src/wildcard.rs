//! Wildcards, as Go's `filepath.Match` and Docker's ignore files have them.

/// A pattern with wildcards, ready to match. Matching takes time in proportion to pattern times text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    One(char),
    /// Any one character but `/`.
    AnyOne,
    /// Any one character.
    AnyOneAtAll,
    /// Any number of characters but `/`.
    Star,
    /// Any number of characters.
    StarAll,
    /// Nothing, or goes on with `Directories`, which always follows.
    MaybeDirectories,
    /// Any number of whole directories: anything that ends in `/`.
    Directories,
    /// One character in, or not in, these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WildcardError {
    /// `[` without `]`, or nothing between them.
    #[error("a [ has no closing ]")]
    OpenClass,
    /// `[b-a]`
    #[error("the range {0}-{1} runs backwards")]
    Range(char, char),
    /// A backslash with nothing after it.
    #[error("it ends in a backslash")]
    OpenEscape,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Go's `filepath.Match`.
    Path,
    /// Docker's ignore files: also `**`.
    Ignore,
    /// A shell's parameter pattern, where `/` is nothing special and `[` stands for itself.
    Shell,
}

impl Wildcard {
    /// A pattern of `*`, `?`, `[a-z]` and `\c`, none of which matches `/`.
    ///
    /// # Errors
    /// When brackets are not closed or the pattern ends in a backslash.
    pub fn path(pattern: &str) -> Result<Self, WildcardError> {
        Self::compile(pattern, Kind::Path)
    }

    /// As [`Wildcard::path`], with `**` for any number of directories.
    ///
    /// # Errors
    /// As [`Wildcard::path`].
    pub fn ignore(pattern: &str) -> Result<Self, WildcardError> {
        Self::compile(pattern, Kind::Ignore)
    }

    pub(crate) fn shell(pattern: &str) -> Result<Self, WildcardError> {
        Self::compile(pattern, Kind::Shell)
    }

    /// Whether a text holds any wildcard or escape at all.
    pub fn is_needed(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut at = vec![false; self.parts.len() + 1];
        at[0] = true;
        self.close(&mut at, true);
        for c in text.chars() {
            let mut next = vec![false; at.len()];
            for (index, part) in self.parts.iter().enumerate() {
                if !at[index] {
                    continue;
                }
                match part {
                    Part::Star if c != '/' => next[index] = true,
                    Part::StarAll | Part::Directories => next[index] = true,
                    part if part.takes(c) => next[index + 1] = true,
                    _ => {}
                }
            }
            self.close(&mut next, c == '/');
            at = next;
            if !at.contains(&true) {
                return false;
            }
        }
        at[self.parts.len()]
    }

    /// Adds what is reached without taking a character: stars match nothing too, and directories end only after `/`.
    fn close(&self, at: &mut [bool], after_slash: bool) {
        for (index, part) in self.parts.iter().enumerate() {
            let passes = match part {
                Part::Star | Part::StarAll => true,
                Part::Directories => after_slash,
                Part::MaybeDirectories => {
                    at[index + 2] |= at[index];
                    true
                }
                _ => false,
            };
            if at[index] && passes {
                at[index + 1] = true;
            }
        }
    }

    fn compile(pattern: &str, kind: Kind) -> Result<Self, WildcardError> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let part = match c {
                '*' if kind == Kind::Shell => Part::StarAll,
                '*' if kind == Kind::Ignore && chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_none() {
                        Part::StarAll
                    } else {
                        parts.push(Part::MaybeDirectories);
                        Part::Directories
                    }
                }
                '*' => Part::Star,
                '?' if kind == Kind::Shell => Part::AnyOneAtAll,
                '?' => Part::AnyOne,
                '[' if kind != Kind::Shell => class(&mut chars)?,
                '\\' => match chars.next() {
                    Some(c) => Part::One(c),
                    None if kind == Kind::Path => return Err(WildcardError::OpenEscape),
                    None => Part::One('\\'),
                },
                c => Part::One(c),
            };
            parts.push(part);
        }
        Ok(Self { parts })
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::AnyOne => c != '/',
            Self::AnyOneAtAll => true,
            Self::Class { negated, ranges } => {
                c != '/' && ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
            }
            Self::Star | Self::StarAll | Self::MaybeDirectories | Self::Directories => false,
        }
    }
}

/// What follows `[`, up to and with `]`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, WildcardError> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let from = match chars.next() {
            None => return Err(WildcardError::OpenClass),
            Some(']') if !ranges.is_empty() => return Ok(Part::Class { negated, ranges }),
            Some('\\') => chars.next().ok_or(WildcardError::OpenClass)?,
            Some(c) => c,
        };
        let to = if chars.next_if_eq(&'-').is_some() {
            match chars.next() {
                None | Some(']') => return Err(WildcardError::OpenClass),
                Some('\\') => chars.next().ok_or(WildcardError::OpenClass)?,
                Some(c) => c,
            }
        } else {
            from
        };
        if from > to {
            return Err(WildcardError::Range(from, to));
        }
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_match_as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a?b", "a/b", false),
            ("*x", "xxx", true),
            ("**", "a/b", false),
        ] {
            assert_eq!(
                Wildcard::path(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        for pattern in ["[", "[]", "[a", "[a-", "[a-]", "[b-a]", "a\\"] {
            assert!(Wildcard::path(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn two_stars_are_directories() {
        for (pattern, text, expected) in [
            ("**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/b", "b", true),
            ("**/b", "a/c/b", true),
            ("**/b", "ab", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("a**/b", "ab", true),
            ("a**/b", "ax/b", true),
            ("**/*.go", "a/b.go", true),
            ("**/*.go", "b.go", true),
            ("**/c*/*.o", "x/cat/a.o", true),
        ] {
            assert_eq!(
                Wildcard::ignore(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "[*?a/\\[\\]^\\\\-]{0,20}", text in "[a/*b]{0,20}") {
            let compiled = [Wildcard::path(&pattern), Wildcard::ignore(&pattern), Wildcard::shell(&pattern)];
            for pattern in compiled.into_iter().flatten() {
                pattern.matches(&text);
            }
        }

        #[test]
        fn a_text_without_wildcards_matches_itself_only(text in "[a-c/.]{0,10}", other in "[a-c/.]{0,10}") {
            let compiled = Wildcard::path(&text).unwrap();
            prop_assert!(compiled.matches(&text));
            prop_assert_eq!(compiled.matches(&other), text == other);
        }
    }
}
