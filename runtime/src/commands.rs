//! What the program's commands do, as functions.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod inspect;
mod members;
mod passed;
mod restore;
mod signal;
mod start;
mod template;
mod update;

pub use checkpoint::checkpoint;
pub(crate) use create::connect;
pub use create::{CreateOptions, Outcome, create, plan, run};
pub use delete::delete;
pub use events::{Event, events, stats};
pub use exec::{ExecOptions, exec};
pub use features::features;
pub use inspect::{Listed, list, processes, state};
pub use restore::{RestoreOptions, restore};
pub use signal::kill;
pub use start::start;
pub use template::template;
pub use update::{pause, resume, update};

use std::path::PathBuf;
use std::time::Duration;

/// How long a command waits for others that are at work on the same container.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the containers' records are.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The directory of all records.
    pub root: PathBuf,
    /// Whether to go without the cgroups that this user may not make; none: if it is not the host's root.
    pub rootless: Option<bool>,
}
