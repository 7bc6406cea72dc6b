//! What a registry wants before it answers: RFC 9110, section 11.6.1, and RFC 6750, section 3.

/// A way in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token, which a server gives out.
    Bearer {
        /// The token server's address.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the token has to be good for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the `WWW-Authenticate` headers of an answer; the best way that we know, if any.
    pub(crate) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut found: Vec<Self> = headers.flat_map(Self::read).collect();
        let bearer = found
            .iter()
            .position(|challenge| matches!(challenge, Self::Bearer { .. }));
        match bearer {
            Some(at) => Some(found.swap_remove(at)),
            None => found.pop(),
        }
    }

    fn read(header: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut rest = header;
        while let Some((scheme, parameters, after)) = next_challenge(rest) {
            rest = after;
            let get = |name: &str| {
                let mut all = parameters.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                found.push(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                found.push(Self::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
        }
        found
    }
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme a=b, c="d"` off; what follows it is another challenge.
fn next_challenge(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', ',']);
    let (scheme, mut rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Vec::new();
    loop {
        let ahead = rest.trim_start_matches([' ', ',', '\t']);
        let end = ahead
            .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
            .unwrap_or(ahead.len());
        let (name, after) = ahead.split_at(end);
        let Some(value) = after.strip_prefix('=').filter(|_| !name.is_empty()) else {
            return Some((scheme, parameters, ahead));
        };
        let (value, after) = parameter_value(value);
        parameters.push((name.to_owned(), value));
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(header: &str) -> Option<Challenge> {
        Challenge::best(std::iter::once(header))
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |scope: Option<&str>| Challenge::Bearer {
            realm: "https://auth.example.org/token".into(),
            service: Some("registry".into()),
            scope: scope.map(Into::into),
        };
        let plain = r#"Bearer realm="https://auth.example.org/token",service="registry""#;
        for (header, expected) in [
            (plain.to_owned(), Some(bearer(None))),
            (
                format!(r#"{plain},scope="repository:a/b:pull,push",error="invalid_token""#),
                Some(bearer(Some("repository:a/b:pull,push"))),
            ),
            (format!("Basic realm=\"x\", {plain}"), Some(bearer(None))),
            ("basic realm=x".to_owned(), Some(Challenge::Basic)),
            ("Basic".to_owned(), Some(Challenge::Basic)),
            (
                r#"Digest realm="a, Basic b", Basic realm="c\"d""#.to_owned(),
                Some(Challenge::Basic),
            ),
            ("Negotiate".to_owned(), None),
            ("Bearer".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(best(&header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_hangs_or_panics(header in "\\PC{0,80}", words in "[a-zA-Z=\", \\\\]{0,60}") {
            let _ = best(&header);
            let _ = best(&words);
        }
    }
}
