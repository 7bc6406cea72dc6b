//! Annotations `org.systemd.property.NAME` as properties of the scope, as in runc: the value is in GVariant's text format.

use std::collections::HashMap;

use super::message::{Property, Value};
use crate::cgroup::CgroupError;

/// The beginning of these annotations' names.
pub(crate) const PREFIX: &str = "org.systemd.property.";

/// The properties that annotations ask for, in the order of their names.
pub(super) fn properties(
    annotations: &HashMap<String, String>,
) -> Result<Vec<Property>, CgroupError> {
    let mut found: Vec<_> = annotations
        .iter()
        .filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)))
        .collect();
    found.sort();
    found
        .into_iter()
        .map(|(name, text)| property(name, text))
        .collect()
}

fn property(name: &str, text: &str) -> Result<Property, CgroupError> {
    let wrong = |reason: &str| CgroupError::Value {
        limit: "an annotation org.systemd.property",
        reason: format!("{name}={text}: {reason}"),
    };
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("the name is no property's"));
    }
    let value = parse(text.trim()).ok_or_else(|| {
        wrong("the value is none in GVariant's text format, such as 'text', true, uint64 5 or ['a', 'b']")
    })?;
    // systemd documents some times in seconds and takes them in microseconds, under another name.
    match name.strip_suffix("Sec") {
        Some(begin) if begin.ends_with(|letter: char| letter.is_ascii_lowercase()) => {
            let microseconds = microseconds(&value).ok_or_else(|| wrong("a time is a number"))?;
            Ok((format!("{begin}USec"), Value::U64(microseconds)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    let seconds = match value {
        Value::Byte(number) => u64::from(*number),
        Value::U16(number) => u64::from(*number),
        Value::U32(number) => u64::from(*number),
        Value::U64(number) => *number,
        Value::I16(number) => u64::try_from(*number).ok()?,
        Value::I32(number) => u64::try_from(*number).ok()?,
        Value::I64(number) => u64::try_from(*number).ok()?,
        Value::Double(number) if *number >= 0.0 => return Some((number * 1e6) as u64),
        _ => return None,
    };
    seconds.checked_mul(1_000_000)
}

fn parse(text: &str) -> Option<Value> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        return Some(Value::Texts(texts(inner)?));
    }
    if text.starts_with(['\'', '"']) {
        let (quoted, rest) = quoted(text)?;
        return rest.trim().is_empty().then_some(Value::Text(quoted));
    }
    match text.split_once(char::is_whitespace) {
        Some((kind, number)) => typed(kind, number.trim()),
        None => match text {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            _ if text.contains(['.', 'e', 'E']) && !text.starts_with("0x") => {
                text.parse().ok().map(Value::Double)
            }
            // A number without a type is an int32.
            _ => typed("int32", text),
        },
    }
}

fn typed(kind: &str, number: &str) -> Option<Value> {
    match kind {
        "boolean" => match number {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            _ => None,
        },
        "string" => match quoted(number)? {
            (text, "") => Some(Value::Text(text)),
            _ => None,
        },
        "byte" => integer(number)?.try_into().ok().map(Value::Byte),
        "int16" => integer(number)?.try_into().ok().map(Value::I16),
        "uint16" => integer(number)?.try_into().ok().map(Value::U16),
        "int32" => integer(number)?.try_into().ok().map(Value::I32),
        "uint32" => integer(number)?.try_into().ok().map(Value::U32),
        "int64" => integer(number)?.try_into().ok().map(Value::I64),
        "uint64" => integer(number)?.try_into().ok().map(Value::U64),
        "double" => number.parse().ok().map(Value::Double),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number
        .ok()
        .map(|number| if negative { -number } else { number })
}

/// A text in quotes at the beginning, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let mut out = String::new();
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => {
                out.push(match letter {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                escaped = false;
            }
            '\\' => escaped = true,
            _ if letter == quote => return Some((out, &text[at + 1..])),
            _ => out.push(letter),
        }
    }
    None
}

fn texts(inner: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (text, behind) = quoted(rest)?;
        found.push(text);
        rest = behind.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_type_that_stands_before_them() {
        for (name, text, expected) in [
            (
                "TimeoutStopUSec",
                "uint64 123456789",
                ("TimeoutStopUSec", Value::U64(123_456_789)),
            ),
            (
                "TimeoutStopSec",
                "456",
                ("TimeoutStopUSec", Value::U64(456_000_000)),
            ),
            (
                "TimeoutStopSec",
                "double 2.5",
                ("TimeoutStopUSec", Value::U64(2_500_000)),
            ),
            (
                "CollectMode",
                "'inactive-or-failed'",
                ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ),
            (
                "After",
                "['a.service', \"b.service\"]",
                (
                    "After",
                    Value::Texts(vec!["a.service".to_owned(), "b.service".to_owned()]),
                ),
            ),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Flag(true))),
            ("CPUWeight", "uint64 0x10", ("CPUWeight", Value::U64(16))),
        ] {
            let (name, value) = property(name, text).unwrap();
            assert_eq!((name.as_str(), value), expected);
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (name, text) in [
            ("CollectMode", "'open"),
            ("CollectMode", "inactive"),
            ("After", "['a' 'b']"),
            ("TimeoutStopSec", "'covfefe'"),
            ("a", "true"),
            ("Bad-Name", "true"),
            ("Nice", "byte 256"),
        ] {
            assert!(property(name, text).is_err(), "{name} {text}");
        }
    }
}
