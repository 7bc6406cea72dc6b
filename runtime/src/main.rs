//! The OCI runtime: turns a bundle into a confined process and manages its life.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
