//! Dockerfile text to instructions with their source spans, and `.dockerignore`.
//!
//! [`Dockerfile::parse`] takes a text and gives its stages; what it gives prints itself as a Dockerfile again.
//! Variables stay as they were written, because their values are known only while a build is planned: a [`Word`]
//! is expanded with [`Dockerfile::expand`]. Nothing here reads a file or starts a process.

mod command;
mod copy;
mod display;
mod error;
mod expand;
mod flags;
mod from;
mod ignore;
mod instruction;
mod json;
mod lines;
mod parse;
mod settings;
mod source;
mod spelling;
mod wildcard;
mod words;

pub use error::DockerfileError;
pub use expand::{ExpandError, Variables};
pub use ignore::{IgnoreError, IgnoreFile};
pub use instruction::{
    Add, ArgDeclaration, CommandLine, Copy, Directives, Dockerfile, From, Heredoc, Instruction,
    InstructionKind, Pair, Run, RunNetwork, Stage, Transfer, Word,
};
pub use source::{Position, Source, Span};
pub use spelling::nearest;
pub use wildcard::{Wildcard, WildcardError};
