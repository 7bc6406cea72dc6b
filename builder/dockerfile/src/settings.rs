//! The instructions that set something in the image's configuration, and `ARG`.

use crate::flags::Flags;
use crate::parse::Request;
use crate::words::{plain_words, raw_words};
use crate::{ArgDeclaration, DockerfileError, Pair, Word, json};

/// Refuses flags, which none of these instructions has.
fn without_flags(request: Request<'_>) -> Result<Request<'_>, DockerfileError> {
    let flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    Ok(request.behind(flags.end(request.keyword, &[], &[])?))
}

/// The arguments' words: those that quotes and escapes keep together.
fn raw(request: Request<'_>) -> Vec<(usize, usize)> {
    let start = request.arguments.0;
    raw_words(request.text(), request.escape)
        .into_iter()
        .map(|(from, to)| (start + from, start + to))
        .collect()
}

/// `ENV` and `LABEL`: `NAME=VALUE...`, or the old form `NAME VALUE` in which the rest of the line is the value.
pub(crate) fn pairs(request: Request<'_>) -> Result<Vec<Pair>, DockerfileError> {
    let request = without_flags(request)?;
    let keyword = request.keyword;
    request.needs_arguments(&format!("{keyword} NAME=VALUE..."))?;
    let words = raw(request);
    let text = |(from, to): (usize, usize)| &request.line.text[from..to];
    if !text(words[0]).contains('=') {
        let (from, to) = words[0];
        let (value, end) = request.line.trimmed(to, request.arguments.1);
        if value >= end {
            return Err(request.error(
                format!("{keyword} {} has no value", text((from, to))),
                format!("expected {keyword} {}=VALUE", text((from, to))),
            ));
        }
        return Ok(vec![Pair {
            name: request.line.word(from, to),
            value: request.line.word(value, end),
            is_old_form: true,
        }]);
    }
    words
        .into_iter()
        .map(|(from, to)| {
            let word = text((from, to));
            let span = request.line.span(from, to);
            let Some(at) = word.find('=') else {
                return Err(request.source.error(
                    span,
                    format!("{word:?} has no '='"),
                    "expected NAME=VALUE; quote a value with spaces, as in NAME=\"a b\"",
                ));
            };
            if at == 0 {
                return Err(request.source.error(
                    span,
                    "there is no name before '='",
                    "expected NAME=VALUE",
                ));
            }
            Ok(Pair {
                name: request.line.word(from, from + at),
                value: request.line.word(from + at + 1, to),
                is_old_form: false,
            })
        })
        .collect()
}

/// `ARG NAME[=DEFAULT]...`
pub(crate) fn arg(request: Request<'_>) -> Result<Vec<ArgDeclaration>, DockerfileError> {
    let request = without_flags(request)?;
    request.needs_arguments("ARG NAME[=DEFAULT]")?;
    raw(request)
        .into_iter()
        .map(|(from, to)| {
            let word = &request.line.text[from..to];
            let (name, default) = match word.find('=') {
                Some(at) => (
                    request.line.word(from, from + at),
                    Some(request.line.word(from + at + 1, to)),
                ),
                None => (request.line.word(from, to), None),
            };
            let fits = name
                .text
                .starts_with(|c: char| c.is_alphabetic() || c == '_')
                && name.text.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !fits {
                return Err(request.source.error(
                    request.line.span(from, to),
                    format!("{:?} cannot be the name of an ARG", name.text),
                    "expected letters, digits and '_'",
                ));
            }
            Ok(ArgDeclaration { name, default })
        })
        .collect()
}

/// An instruction whose whole rest of the line is one argument.
pub(crate) fn one(request: Request<'_>, form: &str) -> Result<Word, DockerfileError> {
    let request = without_flags(request)?;
    request.needs_arguments(form)?;
    let words = raw(request);
    // WORKDIR may hold spaces, and so may what stands in ${...}; a user or a signal cannot.
    let may_have_spaces = request.keyword == "WORKDIR" || request.text().contains('$');
    if words.len() > 1 && !may_have_spaces {
        return Err(request.source.error(
            request.line.span(words[1].0, request.arguments.1),
            format!("{} takes one argument", request.keyword),
            format!("expected {form}"),
        ));
    }
    Ok(request.line.word(request.arguments.0, request.arguments.1))
}

/// Words between white space.
pub(crate) fn words(request: Request<'_>, form: &str) -> Result<Vec<Word>, DockerfileError> {
    let request = without_flags(request)?;
    request.needs_arguments(form)?;
    let start = request.arguments.0;
    Ok(plain_words(request.text())
        .into_iter()
        .map(|(from, to)| request.line.word(start + from, start + to))
        .collect())
}

/// `VOLUME`: words or a JSON array.
pub(crate) fn volumes(request: Request<'_>) -> Result<Vec<Word>, DockerfileError> {
    let (from, to) = request.arguments;
    match json::strings(request.source, request.line, from, to)? {
        Some(words) if words.is_empty() => {
            Err(request.error("VOLUME has an empty array", "expected VOLUME DIRECTORY..."))
        }
        Some(words) => Ok(words),
        None => self::words(request, "VOLUME DIRECTORY..."),
    }
}

/// `MAINTAINER`
pub(crate) fn maintainer(request: Request<'_>) -> Result<String, DockerfileError> {
    request.needs_arguments("MAINTAINER NAME")?;
    Ok(request.text().to_owned())
}
