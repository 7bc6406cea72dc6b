//! What a monitor tells of its pod.

use serde::{Deserialize, Serialize};

use crate::Exit;

/// A pod as its monitor last saw it. Whether the monitor still lives is not said here but by its lock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The monitor's process id, for people.
    pub monitor: i32,
    /// The containers, as in the plan.
    pub containers: Vec<ContainerStatus>,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// The process id of its first process on the host, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When it was started, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How and when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// Where a container is in its life, as its monitor records it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is about to be started: recorded before the runtime is asked.
    #[default]
    Starting,
    /// Its process runs.
    Running,
    /// Its process has ended, or could not be started.
    Exited,
}
