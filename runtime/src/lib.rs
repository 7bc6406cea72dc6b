//! The OCI runtime: turns a bundle into a confined process and manages its life.

pub mod cgroup;
pub mod seccomp;
