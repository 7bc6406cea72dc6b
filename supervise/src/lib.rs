//! What monitor, shim and engine share of watching processes: plan and status documents, exit records, output pumps, log files.
//!
//! A pod's directory under the state directory is what passes between its monitor and everyone else: the immutable `plan.json`, the
//! `status.json` that the monitor replaces atomically, the `lock` that says that the monitor lives, and the socket `monitor.sock`.

mod channel;
mod document;
mod exit;
mod lock;
mod log;
mod oom;
mod plan;
mod pump;
mod status;

pub use channel::{Channel, Received, Report, Request, connect, listen, receive_terminal};
pub use document::{DocumentError, read, write};
pub use exit::{Exit, UNKNOWN_EXIT, reap, reap_strangers};
pub use lock::{LockError, PodLock};
pub use log::{LogLine, LogWriter, StreamName};
pub use oom::oom_kills;
pub use plan::{ContainerPlan, Plan, PodFiles};
pub use pump::Pump;
pub use status::{ContainerStatus, Phase, Status};
