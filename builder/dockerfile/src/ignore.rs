//! `.dockerignore`: what of a context is left out.

use crate::{Wildcard, WildcardError};

/// The rules of an ignore file, in their order; the last one that matches decides.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    matcher: Matcher,
    /// `!`: what matches is taken in again.
    takes_in: bool,
}

#[derive(Clone, Debug)]
enum Matcher {
    Pattern(Wildcard),
    /// `**name`: any path that ends so, which is what Docker makes of it.
    Suffix(String),
}

/// A line of an ignore file that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {pattern:?} is not a pattern: {reason}")]
pub struct IgnoreError {
    file: String,
    line: usize,
    pattern: String,
    reason: WildcardError,
}

impl IgnoreFile {
    /// No rule at all.
    pub const EMPTY: Self = Self { rules: Vec::new() };

    /// Reads an ignore file's text; errors call it `name`.
    ///
    /// # Errors
    /// When a line is no pattern.
    pub fn parse(name: &str, text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let rule = Rule::parse(line.trim()).map_err(|reason| IgnoreError {
                file: name.to_owned(),
                line: index + 1,
                pattern: line.trim().to_owned(),
                reason,
            })?;
            rules.extend(rule);
        }
        Ok(Self { rules })
    }

    /// Reads patterns one by one, as `COPY --exclude` gives them.
    ///
    /// # Errors
    /// When one is no pattern.
    pub fn of_patterns<'a>(
        name: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IgnoreError> {
        let lines: Vec<&str> = patterns.into_iter().collect();
        Self::parse(name, &lines.join("\n"))
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the file or directory at `path` (relative, parts separated by `/`) is left out.
    pub fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            if rule.takes_in == ignored && rule.matches_or_parent(path) {
                ignored = !rule.takes_in;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may be taken in again, so that one has to look.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_in)
    }
}

impl Rule {
    /// None for a pattern that is empty once it is cleaned, or the context itself, which cannot be left out.
    fn parse(line: &str) -> Result<Option<Self>, WildcardError> {
        let (takes_in, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        let pattern = clean(pattern);
        if pattern.is_empty() {
            return Ok(None);
        }
        let matcher = match pattern.strip_prefix("**") {
            Some(rest)
                if !rest.is_empty() && !rest.starts_with('/') && !Wildcard::is_needed(rest) =>
            {
                Matcher::Suffix(rest.to_owned())
            }
            _ => Matcher::Pattern(Wildcard::ignore(&pattern)?),
        };
        Ok(Some(Self { matcher, takes_in }))
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        let ends = path
            .char_indices()
            .filter(|(_, c)| *c == '/')
            .map(|(at, _)| at)
            .chain(std::iter::once(path.len()));
        let mut parts = ends.map(|end| &path[..end]);
        parts.any(|part| match &self.matcher {
            Matcher::Pattern(pattern) => pattern.matches(part),
            Matcher::Suffix(suffix) => part.ends_with(suffix.as_str()),
        })
    }
}

/// The pattern without `.`, `..`, doubled and outer slashes, as Go's `filepath.Clean` does it for a path from `/`.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_matching_rule_decides() {
        let rules = IgnoreFile::parse(
            ".dockerignore",
            "# comment\n\n/build\n*.md\n!README.md\nREADME-secret.md\n**/*.o\nsrc/**/tmp\n",
        )
        .unwrap();
        for (path, ignored) in [
            ("build", true),
            ("build/x/y", true),
            ("src/build", false),
            ("notes.md", true),
            ("doc/notes.md", false),
            ("README.md", false),
            ("README-secret.md", true),
            ("a.o", true),
            ("x/y/a.o", true),
            ("src/tmp", true),
            ("src/a/b/tmp/file", true),
            ("main.c", false),
        ] {
            assert_eq!(rules.ignores(path), ignored, "{path}");
        }
    }

    #[test]
    fn everything_but_some() {
        let rules = IgnoreFile::parse("i", "*\n!src\nsrc/secret\n! docs/*.txt\n").unwrap();
        assert!(rules.has_exceptions());
        for (path, ignored) in [
            ("a", true),
            ("src", false),
            ("src/main.c", false),
            ("src/secret", true),
            ("src/secret/x", true),
            ("docs", true),
            ("docs/a.txt", false),
        ] {
            assert_eq!(rules.ignores(path), ignored, "{path}");
        }
    }

    #[test]
    fn odd_patterns_mean_what_docker_makes_of_them() {
        let ignores =
            |pattern: &str, path: &str| IgnoreFile::parse("i", pattern).unwrap().ignores(path);
        assert!(ignores("**name", "a/xname"));
        assert!(ignores("**", "a/b"));
        assert!(ignores("./a//b/../c", "a/c"));
        assert!(!ignores(".", "a"));
        assert!(!ignores("/", "a"));
        assert!(!ignores(" # no comment", "x"));
        let error = IgnoreFile::parse("x.dockerignore", "a\n[b\n").unwrap_err();
        assert!(error.to_string().starts_with("x.dockerignore:2: \"[b\""));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[!*?a/\\[\\]\\\\.#\n-]{0,40}", path in "[a/.]{0,20}") {
            if let Ok(rules) = IgnoreFile::parse("i", &text) {
                rules.ignores(&path);
            }
        }
    }
}
