//! Arguments in the form of a JSON array.

use crate::lines::Line;
use crate::{DockerfileError, Source, Word};

/// The strings of the JSON array that stands from `from` to `to`; none where no JSON array stands there, so that the
/// text means itself, as Docker has it.
///
/// # Errors
/// When it is an array of other things than strings.
pub(crate) fn strings(
    source: &Source,
    line: &Line,
    from: usize,
    to: usize,
) -> Result<Option<Vec<Word>>, DockerfileError> {
    let text = &line.text[from..to];
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let span = line.span(from, to);
    values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Ok(Word {
                text,
                span,
                from_json: true,
            }),
            other => Err(source.error(
                span,
                format!("the array holds {other}, which is no string"),
                "expected an array of strings, for example [\"sh\", \"-c\", \"true\"]",
            )),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}
