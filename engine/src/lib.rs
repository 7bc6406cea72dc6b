//! Pods and containers as people know them: create, start, logs, exec, stop, remove.
//!
//! A plain container is a pod of one. Its spec is durable, under the root directory; its status is not, and lies under the state directory, where
//! its monitor writes it. Whoever holds the pod's lock works on it: the creator, then the monitor, then whoever removes it.

mod auto_ids;
mod create;
mod engine;
mod error;
mod exec;
mod foreground;
mod inspect;
mod launch;
mod list;
mod logs;
mod name;
mod records;
mod relay;
mod remove;
mod spec;
mod status;
mod stop;
mod user_namespace;
mod volumes;

pub use dhow_supervise::{Exit, LogLine, StreamName};

pub use auto_ids::{AutoIds, subordinate_ids};
pub use create::{CreateRequest, Prepared};
pub use engine::{Engine, EngineOptions};
pub use error::{EngineError, ErrorKind};
pub use exec::ExecRequest;
pub use foreground::{Ending, Signals, StandardStreams};
pub use launch::Session;
pub use logs::LogOptions;
pub use name::{ContainerId, ContainerName, NameError};
pub use spec::{ContainerSpec, PodSpec};
pub use status::{ContainerState, PodStatus};
pub use user_namespace::may_map_ids;
