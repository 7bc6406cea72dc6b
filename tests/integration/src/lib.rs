//! The test kit: a place of its own for each test, the built programs, and the images that tests start from.

mod programs;
mod sandbox;

pub use programs::program;
pub use sandbox::{Ran, Sandbox};
