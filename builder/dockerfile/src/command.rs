//! `RUN`, `CMD`, `ENTRYPOINT` and `SHELL`.

use crate::flags::Flags;
use crate::lines::Announced;
use crate::parse::Request;
use crate::words::raw_words;
use crate::{CommandLine, DockerfileError, Run, RunNetwork, Word, json};

/// `RUN`
pub(crate) fn run(request: Request<'_>) -> Result<Run, DockerfileError> {
    let mut flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let network = match flags.value("network")? {
        None => RunNetwork::Default,
        Some(word) => network(request, &word)?,
    };
    if let Some(word) = flags.value("security")?
        && word.text != "sandbox"
    {
        return Err(request.source.error(
            word.span,
            format!("RUN --security={} is not supported", word.text),
            "expected no --security: every RUN is confined",
        ));
    }
    let refused = [
        ("mount", "expected no --mount: COPY what the command needs"),
        (
            "device",
            "expected no --device: a RUN sees no devices of the host",
        ),
    ];
    let request = request.behind(flags.end("RUN", &["network"], &refused)?);
    request.needs_arguments("RUN COMMAND or RUN [\"PROGRAM\", \"ARGUMENT\"...]")?;
    Ok(Run {
        network,
        command: with_heredocs(request)?,
    })
}

fn network(request: Request<'_>, word: &Word) -> Result<RunNetwork, DockerfileError> {
    match word.text.as_str() {
        "default" => Ok(RunNetwork::Default),
        "none" => Ok(RunNetwork::None),
        "host" => Ok(RunNetwork::Host),
        other => Err(request.source.error(
            word.span,
            format!("{other:?} is no network for a RUN"),
            "expected default, none or host",
        )),
    }
}

/// The command of a `RUN`, in which here-documents may stand.
fn with_heredocs(request: Request<'_>) -> Result<CommandLine, DockerfileError> {
    let documents = &request.line.heredocs;
    let [first, ..] = documents.as_slice() else {
        return one(request);
    };
    let text = request.text();
    let is_one_word = raw_words(text, request.escape).len() == 1;
    if is_one_word && Announced::read(text).is_some() {
        // The document alone is the script.
        if first.content.text.starts_with("#!") {
            return Err(request.error(
                "a RUN here-document with an interpreter of its own (#!) is not supported",
                "expected a script for the shell; or RUN PROGRAM <<EOF",
            ));
        }
        return Ok(CommandLine::Shell(first.content.text.clone()));
    }
    // The shell reads the documents itself. Those of `<<-` have lost their tabs already, which the shell does not mind.
    let mut script = text.to_owned();
    for document in documents {
        script.push('\n');
        script.push_str(&document.content.text);
        script.push_str(&document.name);
    }
    script.push('\n');
    Ok(CommandLine::Shell(script))
}

/// `CMD` and `ENTRYPOINT`
pub(crate) fn command(request: Request<'_>) -> Result<CommandLine, DockerfileError> {
    let flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let request = request.behind(flags.end(request.keyword, &[], &[])?);
    one(request)
}

fn one(request: Request<'_>) -> Result<CommandLine, DockerfileError> {
    let (from, to) = request.arguments;
    if let Some(words) = json::strings(request.source, request.line, from, to)? {
        if words.is_empty() && request.keyword == "RUN" {
            return Err(request.error(
                "RUN has an empty array",
                "expected RUN [\"PROGRAM\", \"ARGUMENT\"...]",
            ));
        }
        return Ok(CommandLine::Exec(
            words.into_iter().map(|word| word.text).collect(),
        ));
    }
    request.needs_arguments(&format!(
        "{0} COMMAND or {0} [\"PROGRAM\", \"ARGUMENT\"...]",
        request.keyword
    ))?;
    Ok(CommandLine::Shell(request.text().to_owned()))
}

/// `SHELL`
pub(crate) fn shell(request: Request<'_>) -> Result<Vec<String>, DockerfileError> {
    const FORM: &str = "expected a JSON array, for example SHELL [\"/bin/bash\", \"-c\"]";
    let flags = Flags::read(
        request.source,
        request.line,
        request.arguments.0,
        request.escape,
    );
    let request = request.behind(flags.end("SHELL", &[], &[])?);
    let (from, to) = request.arguments;
    match json::strings(request.source, request.line, from, to)? {
        Some(words) if !words.is_empty() => Ok(words.into_iter().map(|word| word.text).collect()),
        Some(_) => Err(request.error("SHELL has an empty array", FORM)),
        None => Err(request.error("SHELL takes its command as an array only", FORM)),
    }
}
