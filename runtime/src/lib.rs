//! The OCI runtime: turns a bundle into a confined process and manages its life.
//!
//! One way for the data: a bundle's config.json is checked once ([`spec`]), becomes a printable list of steps
//! ([`plan`]), and the steps are carried out in order by the command itself and by the process that it makes, each
//! failure reported by the step's name.

pub mod capabilities;
pub mod cgroup;
mod channel;
pub mod commands;
pub mod container;
mod criu;
pub mod error;
mod foreground;
pub mod hooks;
mod init;
mod labels;
mod listener;
pub mod log;
mod netlink;
mod notify;
mod parent;
pub mod plan;
mod privilege;
mod procfs;
pub mod protect;
pub mod resctrl;
mod root_dir;
pub mod seccomp;
pub mod signals;
pub mod spec;
mod terminal;

pub use criu::CriuOptions;
pub use error::{Error, Kind};
pub use init::StepError;
pub use privilege::is_in_user_namespace;
