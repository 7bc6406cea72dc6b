//! The test kit: a place of its own for each test, the built programs, and the images that tests start from.

pub mod attack;
mod base_images;
mod builds;
mod bundle;
pub mod certificates;
mod containerd;
mod cri;
mod dead_mount;
mod disk;
mod docker;
mod enclosure;
mod http;
pub mod kill_points;
mod leftovers;
mod podman;
mod programs;
pub mod registry;
mod sandbox;
mod stranger;
pub mod token_server;
mod waiting;

pub use base_images::base_image;
pub use bundle::Bundle;
pub use containerd::{Containerd, IMAGE};
pub use cri::{Cri, Message};
pub use dead_mount::DeadMount;
pub use disk::Disk;
pub use docker::Docker;
pub use enclosure::Enclosure;
pub use http::{Answer, ClosedPort, ServicePort, await_page};
pub use podman::Podman;
pub use programs::{copy_program, program, write_program};
pub use sandbox::{Ran, RemovedAtEnd, Sandbox, four_at_a_time, ran};
pub use stranger::Stranger;
pub use waiting::{PATIENCE, until};
