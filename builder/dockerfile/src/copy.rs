//! `COPY` and `ADD`.

use crate::flags::Flags;
use crate::lines::Announced;
use crate::parse::Request;
use crate::words::plain_words;
use crate::{Add, Copy, DockerfileError, Transfer, Word, json};

const PARENTS: (&str, &str) = (
    "parents",
    "expected no --parents: name the directories in the destination",
);

/// `COPY`
pub(crate) fn copy(request: Request<'_>) -> Result<Copy, DockerfileError> {
    let mut flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let from = flags.value("from")?;
    if let Some(word) = &from
        && word.text.contains('$')
    {
        return Err(request.source.error(
            word.span,
            "variables are not replaced in COPY --from",
            "expected a stage or an image; name it in a stage of its own: FROM $NAME AS other",
        ));
    }
    let known = ["from", "chown", "chmod", "exclude", "link"];
    let transfer = transfer(request, flags, &known, &[PARENTS])?;
    if let (Some(word), true) = (&from, !transfer.heredocs.is_empty()) {
        return Err(request.source.error(
            word.span,
            "a here-document does not come from a stage or an image",
            "expected no --from beside <<NAME",
        ));
    }
    Ok(Copy { from, transfer })
}

/// `ADD`
pub(crate) fn add(request: Request<'_>) -> Result<Add, DockerfileError> {
    let mut flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let unpack = flags.switch("unpack")?.unwrap_or(true);
    let refused = [
        PARENTS,
        (
            "keep-git-dir",
            "expected no --keep-git-dir: ADD takes local files only",
        ),
        (
            "checksum",
            "expected no --checksum: ADD takes local files only",
        ),
    ];
    let known = ["chown", "chmod", "exclude", "link", "unpack"];
    let transfer = transfer(request, flags, &known, &refused)?;
    for source in &transfer.sources {
        if is_remote(&source.text) {
            return Err(request.source.error(
                source.span,
                "ADD of a URL or a git repository is not supported",
                "expected a path in the context: download it first, or with RUN in a stage of its own",
            ));
        }
    }
    Ok(Add { transfer, unpack })
}

/// Whether Docker would take this from the network.
fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|start| text.starts_with(start))
}

fn transfer(
    request: Request<'_>,
    mut flags: Flags<'_>,
    known: &[&str],
    refused: &[(&str, &str)],
) -> Result<Transfer, DockerfileError> {
    let chown = flags.value("chown")?;
    let chmod = flags.value("chmod")?;
    let excludes = flags.values("exclude")?;
    let link = flags.switch("link")?.unwrap_or(false);
    let request = request.behind(flags.end(request.keyword, known, refused)?);
    let form = format!("{} SOURCE... DESTINATION", request.keyword);
    request.needs_arguments(&form)?;
    let mut words = arguments(request)?;
    let destination = words.pop();
    let (Some(destination), false) = (destination, words.is_empty()) else {
        return Err(request.error(
            format!("{} has no destination", request.keyword),
            format!("expected {form}"),
        ));
    };
    let heredocs = request.line.heredocs.clone();
    if !heredocs.is_empty() {
        if Announced::read(&destination.text).is_some() {
            return Err(request.source.error(
                destination.span,
                format!(
                    "{} has no destination behind its here-document",
                    request.keyword
                ),
                format!("expected {form}"),
            ));
        }
        words.retain(|word| Announced::read(&word.text).is_none());
    }
    Ok(Transfer {
        chown,
        chmod,
        excludes,
        link,
        sources: words,
        heredocs,
        destination,
    })
}

/// Words between white space, or of a JSON array where names hold spaces.
fn arguments(request: Request<'_>) -> Result<Vec<Word>, DockerfileError> {
    let (start, end) = request.arguments;
    if let Some(words) = json::strings(request.source, request.line, start, end)? {
        return Ok(words);
    }
    Ok(plain_words(request.text())
        .into_iter()
        .map(|(from, to)| request.line.word(start + from, start + to))
        .collect())
}
