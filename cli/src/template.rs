//! Go's templates, as Docker's users write them after `--format`: paths, pipelines, functions, `if`, `with`, `range` and variables.

mod functions;
mod parse;

use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

/// A template that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    /// What a pipeline gives is printed.
    Print(Expression),
    /// `{{$name := pipeline}}`, or, where the name is there already, `{{$name = pipeline}}`.
    Assign {
        name: String,
        value: Expression,
        is_new: bool,
    },
    If(Expression, Vec<Node>, Vec<Node>),
    /// As `if`, with what was looked at as the dot.
    With(Expression, Vec<Node>, Vec<Node>),
    /// For each element; the names are those of its index or key, and of itself.
    Range {
        names: Vec<String>,
        over: Expression,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Clone, Debug)]
enum Expression {
    Literal(Value),
    /// `.`
    Dot,
    /// `$name`; the whole value has the name without letters.
    Variable(String),
    /// `.A.B` of something.
    Fields(Box<Expression>, Vec<String>),
    Call(String, Vec<Expression>),
}

/// What names stand for while a template is carried out, the latest last.
struct Scope(Vec<(String, Value)>);

impl FromStr for Template {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        // One text: who parses arguments shows no causes.
        let nodes = parse::parse(text);
        Ok(Self(nodes.map_err(|error| {
            anyhow!("{text:?} is no template: {error:#}")
        })?))
    }
}

impl Template {
    /// The text that the template makes of a value.
    ///
    /// # Errors
    /// When it names what the value does not have.
    pub(crate) fn render(&self, value: &Value) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut scope = Scope(vec![(String::new(), value.clone())]);
        carry_out(&self.0, value, &mut scope, &mut text)?;
        Ok(text)
    }
}

fn carry_out(
    nodes: &[Node],
    dot: &Value,
    scope: &mut Scope,
    text: &mut String,
) -> anyhow::Result<()> {
    let outside = scope.0.len();
    for node in nodes {
        match node {
            Node::Text(plain) => text.push_str(plain),
            Node::Print(expression) => text.push_str(&plain(&evaluate(expression, dot, scope)?)),
            Node::Assign {
                name,
                value,
                is_new,
            } => {
                let value = evaluate(value, dot, scope)?;
                scope.assign(name, value, *is_new)?;
            }
            Node::If(condition, then, otherwise) => {
                let nodes = match is_true(&evaluate(condition, dot, scope)?) {
                    true => then,
                    false => otherwise,
                };
                carry_out(nodes, dot, scope, text)?;
            }
            Node::With(condition, then, otherwise) => {
                let value = evaluate(condition, dot, scope)?;
                match is_true(&value) {
                    true => carry_out(then, &value, scope, text)?,
                    false => carry_out(otherwise, dot, scope, text)?,
                }
            }
            Node::Range {
                names,
                over,
                body,
                otherwise,
            } => {
                let elements = elements(evaluate(over, dot, scope)?)?;
                if elements.is_empty() {
                    carry_out(otherwise, dot, scope, text)?;
                }
                for (key, element) in elements {
                    let before = scope.0.len();
                    match names.as_slice() {
                        [] => {}
                        [own] => scope.0.push((own.clone(), element.clone())),
                        [index, own, ..] => {
                            scope.0.push((index.clone(), key));
                            scope.0.push((own.clone(), element.clone()));
                        }
                    }
                    carry_out(body, &element, scope, text)?;
                    scope.0.truncate(before);
                }
            }
        }
    }
    scope.0.truncate(outside);
    Ok(())
}

impl Scope {
    fn assign(&mut self, name: &str, value: Value, is_new: bool) -> anyhow::Result<()> {
        if is_new {
            self.0.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.0.iter_mut().rev().find(|(known, _)| known == name);
        known
            .with_context(|| format!("${name} is not known; write ${name} := ..."))?
            .1 = value;
        Ok(())
    }
}

fn evaluate(expression: &Expression, dot: &Value, scope: &Scope) -> anyhow::Result<Value> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Dot => Ok(dot.clone()),
        Expression::Variable(name) => {
            let known = scope.0.iter().rev().find(|(known, _)| known == name);
            let known = known.with_context(|| format!("${name} is not known"))?;
            Ok(known.1.clone())
        }
        Expression::Fields(of, names) => {
            let value = evaluate(of, dot, scope)?;
            field(&value, names).cloned()
        }
        Expression::Call(name, arguments) => {
            let arguments: Vec<Value> = arguments
                .iter()
                .map(|argument| evaluate(argument, dot, scope))
                .collect::<anyhow::Result<_>>()?;
            functions::call(name, &arguments)
        }
    }
}

/// The part of a value that a path names. What is below nothing is nothing.
fn field<'a>(value: &'a Value, names: &[String]) -> anyhow::Result<&'a Value> {
    let mut at = value;
    for name in names {
        at = match at {
            Value::Object(fields) => fields.get(name).with_context(|| {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                let path = names.join(".");
                format!(
                    "there is no {name:?} in .{path}; there is {}",
                    known.join(", ")
                )
            })?,
            Value::Null => &Value::Null,
            _ => bail!(
                ".{}: what is before {name:?} has no fields",
                names.join(".")
            ),
        };
    }
    Ok(at)
}

/// What `range` goes through, with its indexes or keys.
fn elements(value: Value) -> anyhow::Result<Vec<(Value, Value)>> {
    match value {
        Value::Array(all) => Ok(all
            .into_iter()
            .enumerate()
            .map(|(at, element)| (at.into(), element))
            .collect()),
        Value::Object(all) => {
            let mut all: Vec<(String, Value)> = all.into_iter().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(all.into_iter().map(|(key, v)| (key.into(), v)).collect())
        }
        Value::Null => Ok(Vec::new()),
        other => bail!("range goes through lists and maps, and {other} is neither"),
    }
}

/// Whether `if` takes a value for true: what is empty or nought is not.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
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

    fn rendered(template: &str) -> anyhow::Result<String> {
        let value = json!({
            "A": {"B": ["x", "y"], "C": {"k": "v", "a": "b"}}, "N": 3, "Empty": [], "None": null, "No": false,
            "Name": "Web/App",
        });
        template.parse::<Template>()?.render(&value)
    }

    #[test]
    fn templates_print_what_go_prints() {
        for (template, text) in [
            ("plain", "plain"),
            ("{{.A.B}} and {{ .N }}", "[x y] and 3"),
            ("{{json .A.B}}", r#"["x","y"]"#),
            ("{{.A.C}}", "map[a:b k:v]"),
            ("{{.None}}{{.None.Below}}", "<no value><no value>"),
            ("{{range .A.B}}<{{.}}>{{end}}", "<x><y>"),
            ("{{range $i, $e := .A.B}}{{$i}}={{$e}} {{end}}", "0=x 1=y "),
            ("{{range $k, $v := .A.C}}{{$k}}:{{$v}};{{end}}", "a:b;k:v;"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .No}}1{{else if .N}}2{{else}}3{{end}}", "2"),
            ("{{if and .N (not .No)}}yes{{end}}", "yes"),
            (
                "{{if eq .N 3}}three{{end}}{{if ne .Name \"x\"}}!{{end}}",
                "three!",
            ),
            ("{{if eq .No false}}no{{end}}", "no"),
            ("{{with .A}}{{.B}}{{$.N}}{{end}}", "[x y]3"),
            ("{{index .A.B 1}} {{index .A.C \"k\"}}", "y v"),
            ("{{index .A.C \"none\"}}", "<no value>"),
            ("{{join .A.B \",\"}} {{len .A.B}}", "x,y 2"),
            (
                "{{.Name | lower | printf \"%s-%v-%q\" \"a\" 1}}",
                "a-1-\"web/app\"",
            ),
            ("{{upper .Name}} {{title \"web app\"}}", "WEB/APP Web App"),
            ("{{(index .A.B 0)}} {{(.A).C.k}}", "x v"),
            ("{{println .N \"a\"}}", "3 a\n"),
            ("{{$x := .N}}{{$x}}{{$x = 4}}{{$x}}", "34"),
            ("a {{- .N -}} b", "a3b"),
            ("{{/* a remark */}}{{\"}}\"}}{{`{{`}}", "}}{{"),
            (
                "{{split .Name \"/\"}} {{truncate .Name 3}}",
                "[Web App] Web",
            ),
            ("{{.A.B}}\\t{{.N}}", "[x y]\t3"),
        ] {
            assert_eq!(rendered(template).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (template, reason) in [
            ("{{.X}}", "no \"X\""),
            ("{{.X}}", "there is A, N"),
            ("{{.N.X}}", "has no fields"),
            ("{{.A", "without }}"),
            ("{{range .A.B}}", "{{end}} is missing"),
            ("{{end}}", "{{end}} without"),
            ("{{else}}", "{{else}} without"),
            ("{{nothing .A}}", "nothing is no function"),
            ("{{len .N}}", "len"),
            ("{{range .N}}{{end}}", "neither"),
            ("{{index .A.B 7}}", "7"),
            ("{{$x}}", "$x is not known"),
            ("{{.A )}}", ")"),
            ("{{\"a}}", "without }}"),
            ("{{}}", "nothing"),
        ] {
            let error = format!("{:#}", rendered(template).unwrap_err());
            assert!(error.contains(reason), "{template}: {error}");
        }
    }
}
