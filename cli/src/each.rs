//! One verb for several containers: each is done, whatever became of the one before.

use std::io::Write;
use std::process::ExitCode;

use crate::OWN_ERROR;

/// Does `act` for each name and prints the name, or why not. The exit status is an error's when one failed.
pub(crate) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> anyhow::Result<String>,
) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            // What was done is done, whether or not anybody reads of it.
            Ok(answer) => drop(writeln!(std::io::stdout(), "{answer}")),
            Err(error) => {
                eprintln!("dhow: {}", crate::one_line(&error));
                status = ExitCode::from(OWN_ERROR);
            }
        }
    }
    status
}
