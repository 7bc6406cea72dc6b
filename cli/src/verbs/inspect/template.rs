//! The simplest of Go's templates: paths, as they are or as JSON.

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Replaces every `{{.Path}}` and `{{json .Path}}` in `template` by that part of `value`.
pub(super) fn render(template: &str, value: &Value) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after
            .split_once("}}")
            .context("the template has {{ without }}")?;
        text.push_str(before);
        text.push_str(&action(inner.trim(), value)?);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

fn action(action: &str, value: &Value) -> anyhow::Result<String> {
    let (path, as_json) = match action.strip_prefix("json ") {
        Some(path) => (path.trim(), true),
        None => (action, false),
    };
    let simple = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    if !path.starts_with('.') || !path.chars().all(simple) {
        bail!(
            "the template {{{{{action}}}}} is not supported; write {{{{.Field.Field}}}} or {{{{json .Field}}}}"
        );
    }
    let mut at = value;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        at = match at {
            Value::Object(fields) => fields
                .get(name)
                .with_context(|| format!("there is no {name:?} in {path}"))?,
            Value::Null => &Value::Null,
            _ => bail!("{path}: what is before {name:?} has no fields"),
        };
    }
    Ok(if as_json { at.to_string() } else { plain(at) })
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{key}:{}", plain(value)))
                .collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_printed_as_go_does() {
        let value = json!({"A": {"B": ["x", "y"], "C": {"k": "v"}}, "N": 3});
        let rendered = |template| render(template, &value).unwrap();
        assert_eq!(rendered("{{.A.B}} and {{ .N }}"), "[x y] and 3");
        assert_eq!(rendered("{{json .A.B}}"), r#"["x","y"]"#);
        assert_eq!(rendered("{{.A.C}}"), "map[k:v]");
        assert_eq!(rendered("plain"), "plain");
        for bad in ["{{.X}}", "{{range .A}}", "{{.A", "{{len .A}}"] {
            assert!(render(bad, &value).is_err(), "{bad}");
        }
    }
}
