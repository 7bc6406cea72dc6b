//! Instructions and a context to an image: plan, cache, execute, commit.
//!
//! [`Builder::plan`] makes a [`BuildPlan`] of a Dockerfile: an immutable graph of stages and steps in which every variable has
//! its value. [`Builder::execute`] carries it out: a step that the cache knows is not run, every other one works on a snapshot that
//! becomes its layer. Nothing is visible in the store before the image is whole.

mod arguments;
mod base;
mod builder;
mod cache;
mod context;
mod copy;
mod error;
mod execute;
mod finish;
mod guard;
mod mountpoints;
mod options;
mod plan;
mod plan_display;
mod planner;
mod root_dir;
mod run;
mod settings;
mod source_tree;
mod unpack;

pub use base::BaseImages;
pub use builder::{Builder, Built};
pub use context::{Context, ContextError};
pub use error::{BuildError, TreeError};
pub use guard::{GuardProgram, guard, sweep};
pub use options::{BuildOptions, ImageName};
pub use plan::{
    Action, Base, BuildPlan, CopyStep, InlineFile, Origin, PlannedStage, RunStep, Step,
};
