//! The OCI runtime: turns a bundle into a confined process and manages its life.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Executed through a descriptor, the process would be called by that one's number.
    let _ = rustix::thread::set_name(c"dhow-runtime");
    cli::main()
}
