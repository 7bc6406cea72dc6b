//! The functions of templates: Go's own, and those that Docker adds.

use std::cmp::Ordering;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{is_true, plain};

/// What a function gives for its arguments.
pub(super) fn call(name: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    match (name, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("join", [Value::Array(all), Value::String(separator)]) => {
            let all: Vec<String> = all.iter().map(plain).collect();
            Ok(all.join(separator).into())
        }
        ("join", [Value::Null, _]) => Ok("".into()),
        ("split", [Value::String(text), Value::String(separator)]) => {
            Ok(text.split(separator.as_str()).collect::<Vec<_>>().into())
        }
        ("lower", [Value::String(text)]) => Ok(text.to_lowercase().into()),
        ("upper", [Value::String(text)]) => Ok(text.to_uppercase().into()),
        ("title", [Value::String(text)]) => Ok(title(text).into()),
        ("truncate", [Value::String(text), Value::Number(count)]) => {
            let count = count.as_u64().and_then(|count| count.try_into().ok());
            let kept: String = text.chars().take(count.unwrap_or(usize::MAX)).collect();
            Ok(kept.into())
        }
        ("print", all) => Ok(all.iter().map(plain).collect::<String>().into()),
        ("println", all) => {
            let words: Vec<String> = all.iter().map(plain).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        ("printf", [Value::String(form), values @ ..]) => Ok(printf(form, values)?.into()),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("and", [.., last]) => {
            let first = arguments.iter().find(|value| !is_true(value));
            Ok(first.unwrap_or(last).clone())
        }
        ("or", [.., last]) => {
            let first = arguments.iter().find(|value| is_true(value));
            Ok(first.unwrap_or(last).clone())
        }
        ("eq", [one, others @ ..]) if !others.is_empty() => Ok(others.contains(one).into()),
        ("ne", [one, other]) => Ok((one != other).into()),
        ("lt", [one, other]) => Ok((compared(one, other)? == Ordering::Less).into()),
        ("le", [one, other]) => Ok((compared(one, other)? != Ordering::Greater).into()),
        ("gt", [one, other]) => Ok((compared(one, other)? == Ordering::Greater).into()),
        ("ge", [one, other]) => Ok((compared(one, other)? != Ordering::Less).into()),
        (
            "json" | "len" | "index" | "join" | "split" | "lower" | "upper" | "title" | "truncate"
            | "printf" | "not" | "and" | "or" | "eq" | "ne" | "lt" | "le" | "gt" | "ge",
            _,
        ) => {
            let given: Vec<String> = arguments.iter().map(Value::to_string).collect();
            bail!("{name} cannot be had of ({})", given.join(", "))
        }
        _ => bail!(
            "{name} is no function; there are json, index, len, join, split, lower, upper, title, truncate, print, println, printf, and, or, not, eq, ne, lt, le, gt and ge"
        ),
    }
}

fn length(value: &Value) -> anyhow::Result<Value> {
    Ok(match value {
        Value::String(text) => text.len().into(),
        Value::Array(all) => all.len().into(),
        Value::Object(all) => all.len().into(),
        Value::Null => 0.into(),
        other => bail!("len counts texts, lists and maps, and {other} is none"),
    })
}

/// An element of a list, or of a map, which need not have it.
fn index(value: &Value, keys: &[Value]) -> anyhow::Result<Value> {
    let mut at = value;
    for key in keys {
        at = match (at, key) {
            (Value::Array(all), Value::Number(number)) => {
                let position = number
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok());
                position
                    .and_then(|position| all.get(position))
                    .with_context(|| {
                        format!("index {number}: the list has {} elements", all.len())
                    })?
            }
            (Value::Object(all), Value::String(key)) => all.get(key).unwrap_or(&Value::Null),
            (Value::Null, _) => &Value::Null,
            (_, key) => bail!("index {key}: there is no list or map with such a key"),
        };
    }
    Ok(at.clone())
}

fn compared(one: &Value, other: &Value) -> anyhow::Result<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
    .with_context(|| format!("{one} and {other} cannot be compared"))
}

fn title(text: &str) -> String {
    let mut begins = true;
    let capital = |c: char| {
        let capital: String = match std::mem::replace(&mut begins, !c.is_alphanumeric()) {
            true => c.to_uppercase().collect(),
            false => c.into(),
        };
        capital
    };
    text.chars().map(capital).collect()
}

/// `%s`, `%v`, `%d`, `%q` and `%%`, each with a width at most.
fn printf(form: &str, values: &[Value]) -> anyhow::Result<String> {
    let mut values = values.iter();
    let mut text = String::new();
    let mut characters = form.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut width = String::new();
        let verb = loop {
            match characters.next().context("printf: a % stands at the end")? {
                digit if digit.is_ascii_digit() || digit == '-' && width.is_empty() => {
                    width.push(digit);
                }
                verb => break verb,
            }
        };
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values
            .next()
            .with_context(|| format!("printf: there is no value for %{verb}"))?;
        let word = match verb {
            's' | 'v' | 'd' => plain(value),
            'q' => format!("{:?}", plain(value)),
            other => bail!("printf knows %s, %v, %d and %q, and not %{other}"),
        };
        text.push_str(&padded(&word, &width)?);
    }
    Ok(text)
}

fn padded(word: &str, width: &str) -> anyhow::Result<String> {
    let (left, digits) = match width.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, width),
    };
    // Nobody wants a line longer than this; a number without an end would take all memory.
    let width = match digits {
        "" => 0,
        digits => digits
            .parse::<usize>()
            .ok()
            .filter(|width| *width <= 1000)
            .context("printf: a width is at most 1000")?,
    };
    Ok(match left {
        true => format!("{word:<width$}"),
        false => format!("{word:>width$}"),
    })
}
