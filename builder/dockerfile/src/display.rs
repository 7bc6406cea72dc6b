//! What was understood, printed as a Dockerfile again.

use std::fmt::{self, Display, Formatter};

use crate::lines::{continued, is_command_with_documents};
use crate::{
    Add, ArgDeclaration, CommandLine, Copy, Dockerfile, From, Instruction, InstructionKind, Pair,
    Run, RunNetwork, Transfer, Word,
};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={syntax}")?;
        }
        if let Some(check) = &self.directives.check {
            writeln!(f, "# check={check}")?;
        }
        if self.directives.escape != '\\' {
            writeln!(f, "# escape={}", self.directives.escape)?;
        }
        let escape = self.directives.escape;
        for arg in &self.args {
            line(f, format!("ARG {arg}"), escape)?;
        }
        for stage in &self.stages {
            line(f, stage.from.to_string(), escape)?;
            for instruction in &stage.instructions {
                line(f, instruction.to_string(), escape)?;
            }
        }
        Ok(())
    }
}

/// Writes an instruction so that it ends where it ends. One that ends with an escape was the last of its file, as only a
/// continuation without a next line leaves one behind; it gets its continuation back, or it would lose the escape.
fn line(f: &mut Formatter<'_>, instruction: String, escape: char) -> fmt::Result {
    f.write_str(&instruction)?;
    // The last line of a here-document is not continued, whatever it ends with.
    if !instruction.contains('\n') && continued(&instruction, escape).is_some() {
        write!(f, " {escape}")?;
    }
    f.write_str("\n")
}

impl Display for From {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("FROM ")?;
        flag(f, "platform", self.platform.as_ref())?;
        end_flags(f, &self.image.text)?;
        write!(f, "{}", self.image)?;
        match &self.name {
            Some(name) => write!(f, " AS {name}"),
            None => Ok(()),
        }
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Display for InstructionKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => run.fmt(f),
            Self::Copy(copy) => copy.fmt(f),
            Self::Add(add) => add.fmt(f),
            Self::Env(pairs) => write!(f, "ENV {}", joined(pairs)),
            Self::Label(pairs) => write!(f, "LABEL {}", joined(pairs)),
            Self::Arg(args) => write!(f, "ARG {}", joined(args)),
            Self::Workdir(word) => write!(f, "WORKDIR {word}"),
            Self::User(word) => write!(f, "USER {word}"),
            Self::Stopsignal(word) => write!(f, "STOPSIGNAL {word}"),
            Self::Expose(words) => write!(f, "EXPOSE {}", joined(words)),
            Self::Volume(words) => write!(f, "VOLUME {}", arguments(words.iter())),
            Self::Cmd(command) => write!(f, "CMD {command}"),
            Self::Entrypoint(command) => write!(f, "ENTRYPOINT {command}"),
            Self::Shell(words) => write!(f, "SHELL {}", array(words)),
            Self::Maintainer(name) => write!(f, "MAINTAINER {name}"),
        }
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Display for Pair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, value, .. } = self;
        if !self.is_old_form || !value.text.contains(char::is_whitespace) {
            write!(f, "{name}={value}")
        } else if value.text.contains(['\'', '"', '\\', '`']) {
            // More quotes would make another value of these.
            write!(f, "{name} {value}")
        } else {
            write!(f, "{name}=\"{value}\"")
        }
    }
}

impl Display for ArgDeclaration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        match &self.default {
            Some(default) => write!(f, "={default}"),
            None => Ok(()),
        }
    }
}

impl Display for CommandLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Exec(words) => f.write_str(&array(words)),
        }
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let network = match self.network {
            RunNetwork::Default => "",
            RunNetwork::None => "--network=none ",
            RunNetwork::Host => "--network=host ",
        };
        write!(f, "RUN {network}")?;
        match &self.command {
            // A script came from a here-document, and only as one is it one instruction again.
            CommandLine::Shell(script)
                if script.is_empty()
                    || script.contains('\n') && !is_command_with_documents(script) =>
            {
                let mut name = "EOF".to_owned();
                while script.lines().any(|line| line == name) {
                    name.push('_');
                }
                write!(f, "<<{name}\n{script}{name}")
            }
            CommandLine::Shell(line) => {
                end_flags(f, line)?;
                f.write_str(line)
            }
            exec @ CommandLine::Exec(_) => exec.fmt(f),
        }
    }
}

impl Display for Copy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("COPY ")?;
        flag(f, "from", self.from.as_ref())?;
        self.transfer.fmt(f)
    }
}

impl Display for Add {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("ADD ")?;
        if !self.unpack {
            f.write_str("--unpack=false ")?;
        }
        self.transfer.fmt(f)
    }
}

impl Display for Transfer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        flag(f, "chown", self.chown.as_ref())?;
        flag(f, "chmod", self.chmod.as_ref())?;
        for exclude in &self.excludes {
            flag(f, "exclude", Some(exclude))?;
        }
        if self.link {
            f.write_str("--link ")?;
        }
        for heredoc in &self.heredocs {
            let quote = if heredoc.expand { "" } else { "'" };
            write!(f, "<<{quote}{}{quote} ", heredoc.name)?;
        }
        let words = self.sources.iter();
        let words = arguments(words.chain(std::iter::once(&self.destination)));
        if self.heredocs.is_empty() {
            end_flags(f, &words)?;
        }
        f.write_str(&words)?;
        for heredoc in &self.heredocs {
            write!(f, "\n{}{}", heredoc.content, heredoc.name)?;
        }
        Ok(())
    }
}

fn flag(f: &mut Formatter<'_>, name: &str, value: Option<&Word>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "--{name}={value} "),
        None => Ok(()),
    }
}

/// Keeps what looks like a flag from being read as one.
fn end_flags(f: &mut Formatter<'_>, rest: &str) -> fmt::Result {
    f.write_str(if rest.starts_with("--") { "-- " } else { "" })
}

fn joined<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

/// Words as they were, or as a JSON array where they came from one.
fn arguments<'a>(words: impl Iterator<Item = &'a Word> + Clone) -> String {
    if words.clone().any(|word| word.from_json) {
        let texts: Vec<String> = words.map(|word| word.text.clone()).collect();
        array(&texts)
    } else {
        let texts: Vec<&str> = words.map(|word| word.text.as_str()).collect();
        texts.join(" ")
    }
}

fn array(words: &[String]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| serde_json::Value::from(word.as_str()).to_string())
        .collect();
    format!("[{}]", words.join(", "))
}
