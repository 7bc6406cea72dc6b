//! What a Dockerfile says, as data.

use serde::{Deserialize, Serialize};

use crate::{DockerfileError, ExpandError, Source, Span, Variables};

/// A Dockerfile that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text it was read from.
    pub source: Source,
    /// The directives in its first lines.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`: known in `FROM` lines, and in a stage that declares them again.
    pub args: Vec<ArgDeclaration>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
}

/// The directives in the first lines of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directives {
    /// The character that escapes, `\` or `` ` ``.
    pub escape: char,
    /// The frontend that was asked for; only Docker's own stable one is accepted.
    pub syntax: Option<String>,
    /// Settings of Docker's linter, which dhow has no use for.
    pub check: Option<String>,
}

/// A `FROM` and what follows up to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The stage's number, from 0.
    pub index: usize,
    /// What it starts from.
    pub from: From,
    /// What it does.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=PLATFORM] IMAGE [AS NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The platform that was asked for; may hold variables.
    pub platform: Option<Word>,
    /// An image, an earlier stage or `scratch`; may hold variables.
    pub image: Word,
    /// The stage's name, in lower case.
    pub name: Option<Word>,
    /// The whole instruction.
    pub span: Span,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it says.
    pub kind: InstructionKind,
    /// Where it stands.
    pub span: Span,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `RUN`
    Run(Run),
    /// `COPY`
    Copy(Copy),
    /// `ADD`
    Add(Add),
    /// `ENV`
    Env(Vec<Pair>),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `WORKDIR`
    Workdir(Word),
    /// `USER`
    User(Word),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `EXPOSE`
    Expose(Vec<Word>),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `CMD`
    Cmd(CommandLine),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(Word),
    /// `MAINTAINER`
    Maintainer(String),
}

/// A stretch of the text that is one argument. Quotes, escapes and variables stand in it as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it was written, continued lines joined.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// It comes from a JSON array, so that quotes in it mean themselves.
    pub from_json: bool,
}

/// `NAME=VALUE`, or the old form `NAME VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name; in a `LABEL` it may hold variables.
    pub name: Word,
    /// The value; may hold variables.
    pub value: Word,
    /// Whether it is the old form, in which white space in the value needs no quotes.
    pub is_old_form: bool,
}

/// `NAME` or `NAME=DEFAULT` of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Word,
    /// The value when the person gives none; may hold variables.
    pub default: Option<Word>,
}

/// A command as a line for the shell, or as a list of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandLine {
    /// Given to the shell.
    Shell(String),
    /// Executed as it is.
    Exec(Vec<String>),
}

/// `RUN [--network=NETWORK] COMMAND`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The network that was asked for.
    pub network: RunNetwork,
    /// The command, with its here-documents.
    pub command: CommandLine,
}

/// The network of a `RUN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunNetwork {
    /// What the build was told.
    #[default]
    Default,
    /// Only a loopback of its own.
    None,
    /// The host's.
    Host,
}

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// `--chown=USER[:GROUP]`; may hold variables.
    pub chown: Option<Word>,
    /// `--chmod=MODE`; may hold variables.
    pub chmod: Option<Word>,
    /// `--exclude=PATTERN`, any number of times.
    pub excludes: Vec<Word>,
    /// `--link`: the copy does not depend on what lies below. It changes nothing in what comes out.
    pub link: bool,
    /// What is copied; may hold variables and wildcards.
    pub sources: Vec<Word>,
    /// Files whose text stands in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// Where it goes; may hold variables.
    pub destination: Word,
}

/// `COPY [--from=...] SOURCE... DESTINATION`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// A stage's name or number, or an image; the context where it is missing.
    pub from: Option<Word>,
    /// What, and where to.
    pub transfer: Transfer,
}

/// `ADD SOURCE... DESTINATION`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What, and where to.
    pub transfer: Transfer,
    /// `--unpack=true|false`; where it is missing, archives are unpacked.
    pub unpack: bool,
}

/// A here-document: `<<NAME`, the lines after it, and a line with only NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, which is also the file's.
    pub name: String,
    /// Its lines.
    pub content: Word,
    /// Whether variables in it are replaced: its name was not quoted.
    pub expand: bool,
}

impl Dockerfile {
    /// Reads the Dockerfile `text`; errors call it `name`.
    ///
    /// # Errors
    /// At the first mistake, with its place and what was expected there.
    pub fn parse(name: &str, text: &str) -> Result<Self, DockerfileError> {
        crate::parse::dockerfile(Source::new(name, text))
    }

    /// The value of `word`: variables replaced, quotes and escapes taken away.
    ///
    /// # Errors
    /// When a quote or a brace is not closed, a modifier is unknown, or `${NAME?}` finds nothing.
    pub fn expand(
        &self,
        word: &Word,
        variables: &dyn Variables,
    ) -> Result<String, DockerfileError> {
        word.expand(self.directives.escape, variables)
            .map_err(|error| self.expand_error(word, &error))
    }

    /// The values of `word`, which becomes several where a variable's value holds spaces outside quotes.
    ///
    /// # Errors
    /// As [`Dockerfile::expand`].
    pub fn expand_words(
        &self,
        word: &Word,
        variables: &dyn Variables,
    ) -> Result<Vec<String>, DockerfileError> {
        word.expand_words(self.directives.escape, variables)
            .map_err(|error| self.expand_error(word, &error))
    }

    /// The text of a here-document, with its variables replaced where its name was not quoted.
    ///
    /// # Errors
    /// As [`Dockerfile::expand`].
    pub fn expand_heredoc(
        &self,
        heredoc: &Heredoc,
        variables: &dyn Variables,
    ) -> Result<String, DockerfileError> {
        if !heredoc.expand {
            return Ok(heredoc.content.text.clone());
        }
        heredoc
            .content
            .expand_text(self.directives.escape, variables)
            .map_err(|error| self.expand_error(&heredoc.content, &error))
    }

    fn expand_error(&self, word: &Word, error: &ExpandError) -> DockerfileError {
        self.source
            .error(word.span, error.message.clone(), error.expected.clone())
    }
}
