//! The grammar of the command line: runc's, which is that of Go's flag package, so that every caller of runc's is understood.
//!
//! Long names with one dash or two, a value after `=` or as the next word, `--switch=false`, flags before and after the
//! container's id but, where a command passes words on (exec, ps, kill), only before it. A general parser knows neither the single
//! dash nor this, and costs a tenth of the program's size and of its start.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use dhow_runtime::Error;

/// What may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// A value, by this name in the help.
    Value(&'static str),
}

/// A flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    /// Its one letter.
    pub(crate) short: Option<&'static str>,
    /// What follows it.
    pub(crate) takes: Takes,
    /// What the help says; nothing for a flag that it does not show.
    pub(crate) help: &'static str,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// The words after its flags, as the help shows them.
    pub(crate) usage: &'static str,
    /// How few and how many words it takes.
    pub(crate) words: (usize, usize),
    /// Whether what follows the first word is passed on as it is.
    pub(crate) passes_on: bool,
    /// Its flags.
    pub(crate) flags: &'static [&'static [Flag]],
}

/// The name under which `--help` is found among the flags.
pub(crate) const HELP: Flag = Flag {
    name: "help",
    short: Some("h"),
    takes: Takes::Nothing,
    help: "show help",
};

/// The flags and words that were given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Vec<(&'static str, OsString)>,
    /// The words that are no flags.
    pub(crate) words: Vec<OsString>,
}

/// A command line that cannot be understood, in one line.
fn asked(message: String) -> Error {
    Error::Asked(message)
}

/// Reads the flags of `sets` and the words between them. `first_word` ends the flags at the first word, which stays in the
/// input with all after it.
///
/// # Errors
/// When a flag is not known, or its value is missing or none.
pub(crate) fn read(
    input: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
    sets: &[&'static [Flag]],
    first_word: bool,
) -> Result<Given, Error> {
    let mut given = Given::default();
    while let Some(word) = input.peek() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            input.next();
            given.words.extend(input);
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            if first_word {
                break;
            }
            given.words.extend(input.next());
            continue;
        }
        let word = input.next().unwrap_or_default();
        given.read_flag(&word, input, sets)?;
    }
    Ok(given)
}

impl Given {
    fn read_flag(
        &mut self,
        word: &OsStr,
        input: &mut impl Iterator<Item = OsString>,
        sets: &[&'static [Flag]],
    ) -> Result<(), Error> {
        let bytes = word.as_bytes();
        let name = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        let (name, value) = match name.iter().position(|byte| *byte == b'=') {
            Some(at) => (&name[..at], Some(&name[at + 1..])),
            None => (name, None),
        };
        let is_this = |flag: &&Flag| {
            flag.name.as_bytes() == name || flag.short.is_some_and(|short| short.as_bytes() == name)
        };
        let shown = String::from_utf8_lossy(name);
        let known = sets.iter().flat_map(|set| set.iter()).find(is_this);
        let Some(flag) = known.or(Some(&HELP).filter(is_this)) else {
            return Err(asked(format!("flag provided but not defined: -{shown}")));
        };
        let value = match (flag.takes, value) {
            (Takes::Nothing, None) => OsString::from("true"),
            (Takes::Nothing, Some(value)) => OsString::from(switch(&shown, value)?),
            (Takes::Value(_), Some(value)) => OsString::from_vec(value.to_owned()),
            (Takes::Value(_), None) => input
                .next()
                .ok_or_else(|| asked(format!("flag needs an argument: -{shown}")))?,
        };
        self.values.push((flag.name, value));
        Ok(())
    }

    /// The flag's last value.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        let mut given = self.values.iter().rev();
        let found = given.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_os_str())
    }

    /// Whether a switch is on.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.switched(name) == Some(true)
    }

    /// A switch, where it was given.
    pub(crate) fn switched(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }

    /// A path; an empty one is none.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// A text; an empty one is none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.value(name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Some(text(value)?)),
            None => Ok(None),
        }
    }

    /// All values of a flag that may be given more than once.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<String>, Error> {
        let given = self.values.iter().filter(|(known, _)| *known == name);
        given.map(|(_, value)| text(value)).collect()
    }

    /// A number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Error> {
        let number = |text: String| {
            text.parse()
                .map_err(|_| asked(format!("invalid value {text:?} for flag -{name}: a number")))
        };
        self.text(name)?.map(number).transpose()
    }

    /// A number of bytes, as it is (`-1`) or with a unit (`64m`, `1.5GiB`).
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<i64>, Error> {
        let bytes = |text: String| {
            parse_bytes(&text).ok_or_else(|| {
                asked(format!(
                    "invalid value for {name}: invalid size: '{text}' (bytes, or a number with k, m, g, t or p)"
                ))
            })
        };
        self.text(name)?.map(bytes).transpose()
    }

    /// The word at a place, as text.
    pub(crate) fn word(&self, at: usize) -> Result<Option<String>, Error> {
        self.words.get(at).map(|word| text(word)).transpose()
    }

    /// The container's id: the first word.
    pub(crate) fn id(&self) -> Result<String, Error> {
        match self.word(0)? {
            Some(id) if !id.is_empty() => Ok(id),
            _ => Err(asked("container id cannot be empty".to_owned())),
        }
    }

    /// The words from a place on, as text.
    pub(crate) fn words_from(&self, at: usize) -> Result<Vec<String>, Error> {
        let words = self.words.iter().skip(at);
        words.map(|word| text(word)).collect()
    }
}

fn text(value: &OsStr) -> Result<String, Error> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| asked(format!("the argument {value:?} is not UTF-8")))
}

/// The words that Go's flags take for true and false.
fn switch(name: &str, value: &[u8]) -> Result<&'static str, Error> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok("true"),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok("false"),
        other => Err(asked(format!(
            "invalid boolean value {:?} for -{name}: true or false",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => "",
        other => other.strip_suffix('i').unwrap_or(other),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes.is_finite() && bytes >= 0.0 && bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag {
            name: "bundle",
            short: Some("b"),
            takes: Takes::Value("DIR"),
            help: "",
        },
        Flag {
            name: "detach",
            short: Some("d"),
            takes: Takes::Nothing,
            help: "",
        },
    ];

    fn read_words(line: &str, first_word: bool) -> Result<(Given, Vec<OsString>), Error> {
        let mut input = line.split(' ').map(OsString::from).peekable();
        let given = read(&mut input, &[FLAGS], first_word)?;
        Ok((given, input.collect()))
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        for line in [
            "--bundle B -d ID",
            "-bundle=B --detach ID",
            "ID -b B --d=true",
            "-b=B ID -detach=1",
            "-d=0 -d -b X -b B -- ID",
        ] {
            let (given, _) = read_words(line, false).unwrap();
            assert_eq!(given.value("bundle").unwrap(), "B", "{line}");
            assert!(given.is("detach"), "{line}");
            assert_eq!(given.words, ["ID"], "{line}");
        }
        let (given, rest) = read_words("-d=false ID -d -x", true).unwrap();
        assert_eq!(given.switched("detach"), Some(false));
        assert_eq!(rest, ["ID", "-d", "-x"]);
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (line, words) in [
            ("-x", "flag provided but not defined: -x"),
            ("--bundle", "flag needs an argument: -bundle"),
            ("-d=perhaps", "invalid boolean value \"perhaps\" for -d"),
        ] {
            let error = read_words(line, false).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("33554432", Some(33_554_432)),
            ("32m", Some(33_554_432)),
            ("1.5GiB", Some(1_610_612_736)),
            ("4kb", Some(4096)),
            ("x", None),
            ("5q", None),
            ("-2", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
