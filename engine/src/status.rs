//! How a pod is, as seen from outside.

use dhow_supervise::{ContainerStatus, Exit, Phase, Status};

use crate::PodSpec;

/// A pod with what its monitor says of it.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// What was asked for.
    pub spec: PodSpec,
    /// What its monitor recorded; none when it was never started since the machine was.
    pub status: Option<Status>,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// It was never started.
    Created,
    /// It runs, or is about to.
    Running {
        /// The process id of its first process on the host.
        pid: Option<i32>,
        /// Since when, RFC 3339.
        started: Option<String>,
    },
    /// It has ended.
    Exited {
        /// When it had started, RFC 3339; none when it could not be.
        started: Option<String>,
        /// How.
        exit: Exit,
    },
}

impl PodStatus {
    /// The state of the first container: of the only one in a pod of one.
    pub fn state(&self) -> ContainerState {
        match self.status.as_ref().and_then(|s| s.containers.first()) {
            None => ContainerState::Created,
            Some(ContainerStatus {
                phase: Phase::Exited,
                started,
                exit,
                ..
            }) => ContainerState::Exited {
                started: started.clone(),
                exit: exit
                    .clone()
                    .unwrap_or_else(|| Exit::failed(dhow_supervise::UNKNOWN_EXIT, "unknown")),
            },
            Some(running) => ContainerState::Running {
                pid: running.pid,
                started: running.started.clone(),
            },
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state(), ContainerState::Running { .. })
    }
}
