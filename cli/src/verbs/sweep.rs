//! `dhow sweep`, which a removal starts to have what it left removed after it has answered.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use crate::context::Context;

pub(crate) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    // A store that is gone by now is not to be made anew.
    if context.root().join("lock").exists() {
        context.store()?.sweep()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has what nothing uses any more removed: by a process that nobody waits for, or at once where there is little room left or none
/// can be started.
pub(crate) fn begin(context: &Context) -> anyhow::Result<()> {
    let store = context.store()?;
    if store.is_short_of_room()? || start(context).is_err() {
        store.collect()?;
    }
    Ok(())
}

fn start(context: &Context) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("finding dhow's own program")?;
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(context.root())
        .arg("--state")
        .arg(context.state())
        .arg("sweep")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A terminal that is interrupted or closed means the command that was typed there.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()?;
    Ok(())
}
