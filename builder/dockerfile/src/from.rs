//! `FROM`

use crate::flags::Flags;
use crate::parse::Request;
use crate::words::plain_words;
use crate::{DockerfileError, From, Word, nearest};

pub(crate) fn from(request: Request<'_>) -> Result<From, DockerfileError> {
    const FORM: &str = "FROM [--platform=PLATFORM] IMAGE [AS NAME]";
    let mut flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let platform = flags.value("platform")?;
    let request = request.behind(flags.end("FROM", &["platform"], &[])?);
    request.needs_arguments(FORM)?;
    let start = request.arguments.0;
    let words: Vec<_> = plain_words(request.text())
        .into_iter()
        .map(|(from, to)| request.line.word(start + from, start + to))
        .collect();
    let span = request.line.span(0, request.line.text.len());
    match words.as_slice() {
        [image] => Ok(From {
            platform,
            image: image.clone(),
            name: None,
            span,
        }),
        [image, as_word, name] if as_word.text.eq_ignore_ascii_case("as") => {
            let name = stage_name(request, name)?;
            Ok(From {
                platform,
                image: image.clone(),
                name: Some(name),
                span,
            })
        }
        [_, as_word] if as_word.text.eq_ignore_ascii_case("as") => {
            Err(request
                .source
                .error(as_word.span, "AS has no name after it", "expected AS NAME"))
        }
        [_, other, ..] if !other.text.eq_ignore_ascii_case("as") => {
            let expected = match nearest(&other.text, ["AS"]) {
                Some(_) if words.len() == 3 => "did you mean AS?".into(),
                _ => format!("expected {FORM}"),
            };
            Err(request.source.error(
                other.span,
                format!("FROM takes one image, and {:?} follows it", other.text),
                expected,
            ))
        }
        _ => Err(request.error("FROM has too many arguments", format!("expected {FORM}"))),
    }
}

/// The name of a stage, in lower case.
fn stage_name(request: Request<'_>, word: &Word) -> Result<Word, DockerfileError> {
    let mut name = word.clone();
    name.text = name.text.to_lowercase();
    let fits = name.text.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !fits {
        return Err(request.source.error(
            name.span,
            format!("{:?} cannot be the name of a stage", name.text),
            "expected a letter, then letters, digits, '-', '_' or '.'",
        ));
    }
    Ok(name)
}
