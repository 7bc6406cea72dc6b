//! What a build will do, as data.

use dhow_dockerfile::RunNetwork;
use dhow_image::{DiffId, Digest, Platform};
use oci_spec::image::Config;
use serde::Serialize;

/// What a build will do. Every variable has its value; nothing has happened yet.
#[derive(Clone, Debug, Serialize)]
pub struct BuildPlan {
    /// The name of the Dockerfile.
    pub dockerfile: String,
    /// The platform of the image.
    pub platform: Platform,
    /// The stages that the target needs, each after those that it needs itself; the target is the last.
    pub stages: Vec<PlannedStage>,
    /// Values given for `ARG`s that no needed stage declares.
    pub unused_args: Vec<String>,
    /// What is likely not meant as it is understood, with file and line.
    pub warnings: Vec<String>,
}

/// A stage that will be made.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStage {
    /// Its number in the Dockerfile, from 0.
    pub index: usize,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it starts from.
    pub base: Base,
    /// The line of its `FROM`.
    pub line: u32,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// The configuration of an image of this stage.
    pub config: Config,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its place in [`BuildPlan::stages`].
    Stage(usize),
    /// An image.
    Image(BaseImage),
}

/// An image, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseImage {
    /// The name in the Dockerfile.
    pub reference: String,
    /// The digest of its config.
    pub id: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
    /// What its own history says, so that the new image's can go on from there.
    #[serde(skip)]
    pub history: Vec<oci_spec::image::History>,
}

/// One instruction that will be carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The instruction as it was understood.
    pub instruction: String,
    /// Its line.
    pub line: u32,
    /// What to do.
    pub action: Action,
    /// How the image's history will tell it.
    #[serde(skip)]
    pub history: String,
}

/// What a step does.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Runs a command.
    Run(RunStep),
    /// Copies files.
    Copy(CopyStep),
    /// Makes a directory, with those above it, where there is none.
    Directory {
        /// Absolute.
        path: String,
        /// Whose a new one is: `USER[:GROUP]`, root where it is empty.
        user: String,
    },
    /// Changes the configuration only, which [`PlannedStage::config`] already says.
    Configure,
}

/// A command to run.
#[derive(Clone, Debug, Serialize)]
pub struct RunStep {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=VALUE`s: the image's and those of `ARG`s.
    pub env: Vec<String>,
    /// Proxies. They may hold passwords, change nothing in what comes out, and are printed nowhere.
    #[serde(skip)]
    pub proxies: Vec<String>,
    /// `USER[:GROUP]`; root where it is empty.
    pub user: String,
    /// Absolute.
    pub working_dir: String,
    /// Whose network.
    pub network: RunNetwork,
}

/// Files to copy.
#[derive(Clone, Debug, Serialize)]
pub struct CopyStep {
    /// Where from.
    pub origin: Origin,
    /// Paths and patterns, relative to the origin's root.
    pub sources: Vec<String>,
    /// Files whose text stands in the Dockerfile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InlineFile>,
    /// Absolute; with a slash at its end it is a directory.
    pub destination: String,
    /// `USER[:GROUP]` for all that is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chown: Option<String>,
    /// Permission bits for all that is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chmod: Option<u32>,
    /// Patterns of what is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Unpack archives.
    pub unpack: bool,
}

/// Where files are copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The context.
    Context,
    /// An earlier stage, by its place in [`BuildPlan::stages`].
    Stage(usize),
    /// An image.
    Image(BaseImage),
}

/// A file whose text stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl BuildPlan {
    /// The stage that is built.
    pub fn target(&self) -> &PlannedStage {
        // A plan is made with its target last.
        &self.stages[self.stages.len() - 1]
    }

    /// Whether a step reads the context.
    pub fn needs_context(&self) -> bool {
        self.stages
            .iter()
            .flat_map(|stage| &stage.steps)
            .any(|step| {
                matches!(&step.action, Action::Copy(copy)
                if copy.origin == Origin::Context && !copy.sources.is_empty())
            })
    }

    /// The file and line of a step, for errors.
    pub(crate) fn place(&self, step: &Step) -> String {
        format!("{}:{}", self.dockerfile, step.line)
    }
}

impl PlannedStage {
    /// What the stage is called in messages.
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("stage-{}", self.index),
        }
    }
}

impl Step {
    /// The instruction in one line of at most 100 characters.
    pub fn title(&self) -> String {
        const LONGEST: usize = 100;
        let words: Vec<&str> = self.instruction.split_whitespace().collect();
        let line = words.join(" ");
        if line.chars().count() <= LONGEST {
            return line;
        }
        let start: String = line.chars().take(LONGEST - 3).collect();
        format!("{start}...")
    }

    /// Whether it makes a layer.
    pub fn makes_layer(&self) -> bool {
        !matches!(self.action, Action::Configure)
    }
}
