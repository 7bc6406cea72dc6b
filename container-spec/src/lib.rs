//! An image's config and a person's options to the OCI Spec of a safe container.
//!
//! What is not asked for is what Docker would give: its capability set, its masked and read-only paths, its mounts, private namespaces of
//! every kind but user and time. The builder and the engine both come here, so that a RUN step is confined as a container is.

mod capabilities;
mod limits;
mod machine;
mod mounts;
mod options;
mod process;
mod seccomp;
mod spec;
mod user_namespace;
mod users;

pub use capabilities::{CapabilityError, all_capabilities, default_capabilities, parse_capability};
pub use limits::{DeviceRate, LimitError, Limits, parse_cpus, parse_size};
pub use options::{
    BindMount, Confinement, ContainerOptions, NetworkMode, Rlimit, SeccompChoice, TmpfsMount,
};
pub use process::{DEFAULT_PATH, ExecOptions, command_line, environment, exec_process};
pub use seccomp::default_seccomp;
pub use spec::{SpecError, container_spec};
pub use user_namespace::{IdMapError, IdRange, UserNamespace, check_ranges};
pub use users::{UserError, UserIds, find_user};
