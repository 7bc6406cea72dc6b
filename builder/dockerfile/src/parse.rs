//! The frame of a Dockerfile: directives, the arguments before the first stage, stages, instructions.

use crate::lines::{Line, Lines, is_comment};
use crate::{
    Directives, Dockerfile, DockerfileError, Instruction, InstructionKind, Position, Source, Span,
    Stage, command, copy, from, nearest, settings,
};

/// Every instruction, as a person writes it.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction's line, with what its readers need.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) source: &'a Source,
    pub(crate) line: &'a Line,
    /// The keyword in capitals.
    pub(crate) keyword: &'static str,
    /// Where the keyword stands.
    pub(crate) keyword_span: Span,
    /// Where the arguments start and end, without the white space around them.
    pub(crate) arguments: (usize, usize),
    pub(crate) escape: char,
}

impl Request<'_> {
    /// The text of the arguments.
    pub(crate) fn text(&self) -> &str {
        &self.line.text[self.arguments.0..self.arguments.1]
    }

    /// The place of the arguments, or of the keyword where there are none.
    pub(crate) fn span(&self) -> Span {
        if self.text().is_empty() {
            self.keyword_span
        } else {
            self.line.span(self.arguments.0, self.arguments.1)
        }
    }

    /// An error about the arguments.
    pub(crate) fn error(
        &self,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> DockerfileError {
        self.source.error(self.span(), message, expected)
    }

    /// Refuses a line without arguments.
    pub(crate) fn needs_arguments(&self, form: &str) -> Result<(), DockerfileError> {
        if self.text().is_empty() {
            return Err(self.error(
                format!("{} has no arguments", self.keyword),
                format!("expected {form}"),
            ));
        }
        Ok(())
    }

    /// The same line with its arguments starting at `rest`, behind flags.
    pub(crate) fn behind(self, rest: usize) -> Self {
        Self {
            arguments: self.line.trimmed(rest, self.line.text.len()),
            ..self
        }
    }
}

/// Reads a whole Dockerfile.
pub(crate) fn dockerfile(source: Source) -> Result<Dockerfile, DockerfileError> {
    let directives = directives(&source)?;
    let mut lines = Lines::new(&source, &directives);
    let mut args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some(line) = lines.next()? {
        let request = request(&source, &line, directives.escape)?;
        if request.keyword == "FROM" {
            let from = from::from(request)?;
            refuse_twice(&source, &stages, &from)?;
            stages.push(Stage {
                index: stages.len(),
                from,
                instructions: Vec::new(),
            });
            continue;
        }
        let kind = instruction(request)?;
        match (stages.last_mut(), kind) {
            (Some(stage), kind) => stage.instructions.push(Instruction {
                kind,
                span: line.span(0, line.text.len()),
            }),
            (None, InstructionKind::Arg(declared)) => args.extend(declared),
            (None, _) => {
                return Err(source.error(
                    request.keyword_span,
                    format!("{} stands before the first FROM", request.keyword),
                    "expected FROM (or ARG) first",
                ));
            }
        }
    }
    if stages.is_empty() {
        return Err(source.error(
            Span::first_line(),
            "there is no FROM",
            "expected FROM IMAGE, for example FROM scratch",
        ));
    }
    Ok(Dockerfile {
        source,
        directives,
        args,
        stages,
    })
}

fn refuse_twice(
    source: &Source,
    stages: &[Stage],
    from: &crate::From,
) -> Result<(), DockerfileError> {
    let Some(name) = &from.name else {
        return Ok(());
    };
    let other = stages.iter().find(|stage| {
        stage
            .from
            .name
            .as_ref()
            .is_some_and(|n| n.text == name.text)
    });
    match other {
        None => Ok(()),
        Some(stage) => Err(source.error(
            name.span,
            format!(
                "the stage name {} is already used in line {}",
                name.text, stage.from.span.start.line
            ),
            "expected a name of its own",
        )),
    }
}

/// Splits a line into its keyword and arguments.
fn request<'a>(
    source: &'a Source,
    line: &'a Line,
    escape: char,
) -> Result<Request<'a>, DockerfileError> {
    let (start, end) = line.trimmed(0, line.text.len());
    let text = &line.text[start..end];
    let word = text.split(char::is_whitespace).next().unwrap_or(text);
    let keyword_span = line.span(start, start + word.len());
    let keyword = INSTRUCTIONS
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(word))
        .ok_or_else(|| {
            let shown: String = word.chars().take(40).collect();
            let expected = match nearest(word, INSTRUCTIONS) {
                Some(near) => format!("did you mean {near}?"),
                None => "expected an instruction such as FROM, RUN or COPY".into(),
            };
            source.error(
                keyword_span,
                format!("unknown instruction {shown}"),
                expected,
            )
        })?;
    Ok(Request {
        source,
        line,
        keyword,
        keyword_span,
        arguments: line.trimmed(start + word.len(), end),
        escape,
    })
}

fn instruction(request: Request<'_>) -> Result<InstructionKind, DockerfileError> {
    match request.keyword {
        "RUN" => command::run(request).map(InstructionKind::Run),
        "CMD" => command::command(request).map(InstructionKind::Cmd),
        "ENTRYPOINT" => command::command(request).map(InstructionKind::Entrypoint),
        "SHELL" => command::shell(request).map(InstructionKind::Shell),
        "COPY" => copy::copy(request).map(InstructionKind::Copy),
        "ADD" => copy::add(request).map(InstructionKind::Add),
        "ENV" => settings::pairs(request).map(InstructionKind::Env),
        "LABEL" => settings::pairs(request).map(InstructionKind::Label),
        "ARG" => settings::arg(request).map(InstructionKind::Arg),
        "WORKDIR" => settings::one(request, "WORKDIR DIRECTORY").map(InstructionKind::Workdir),
        "USER" => settings::one(request, "USER NAME[:GROUP]").map(InstructionKind::User),
        "STOPSIGNAL" => {
            settings::one(request, "STOPSIGNAL SIGNAL").map(InstructionKind::Stopsignal)
        }
        "EXPOSE" => {
            settings::words(request, "EXPOSE PORT[/PROTOCOL]...").map(InstructionKind::Expose)
        }
        "VOLUME" => settings::volumes(request).map(InstructionKind::Volume),
        "MAINTAINER" => settings::maintainer(request).map(InstructionKind::Maintainer),
        "HEALTHCHECK" => Err(request.source.error(
            request.keyword_span,
            "HEALTHCHECK is not supported",
            "remove it: an OCI image has no place for a health check",
        )),
        "ONBUILD" => Err(request.source.error(
            request.keyword_span,
            "ONBUILD is not supported",
            "write its instruction into the Dockerfiles that start FROM this image",
        )),
        keyword => Err(request.source.error(
            request.keyword_span,
            format!("{keyword} is not supported"),
            "",
        )),
    }
}

/// The directives in the first lines.
fn directives(source: &Source) -> Result<Directives, DockerfileError> {
    let mut found = Directives {
        escape: '\\',
        syntax: None,
        check: None,
    };
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in source.text().lines().enumerate() {
        let Some((name, value)) = directive(line) else {
            break;
        };
        let span = line_span(index, line);
        if seen.contains(&name) {
            return Err(source.error(
                span,
                format!("the directive {name} is given twice"),
                "expected it once",
            ));
        }
        match name.as_str() {
            "escape" => {
                found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        return Err(source.error(
                            span,
                            format!("{value:?} cannot be the escape character"),
                            "expected escape=\\ or escape=`",
                        ));
                    }
                };
            }
            "syntax" if is_dockers(value) => found.syntax = Some(value.to_owned()),
            "syntax" => {
                return Err(source.error(
                    span,
                    format!("the frontend {value} cannot be used"),
                    "expected docker/dockerfile:1, or no syntax line: dhow reads Dockerfiles itself",
                ));
            }
            "check" => found.check = Some(value.to_owned()),
            _ => continue,
        }
        seen.push(name);
    }
    Ok(found)
}

/// `# name=value`, the name in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    if !is_comment(line) {
        return None;
    }
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then(|| (name.to_lowercase(), value))
}

/// Whether a frontend is Docker's stable one, the language of which dhow reads.
fn is_dockers(frontend: &str) -> bool {
    let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
    let name = name.split(['@', ':']).next().unwrap_or(name);
    name == "docker/dockerfile" && !frontend.contains("labs")
}

fn line_span(index: usize, line: &str) -> Span {
    let line_number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let length = u32::try_from(line.chars().count()).unwrap_or(u32::MAX - 1);
    let place = |column| Position {
        line: line_number,
        column,
    };
    Span {
        start: place(1),
        end: place(length + 1),
    }
}

#[cfg(test)]
mod tests;
