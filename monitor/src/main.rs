//! The one small process beside a running pod.
//!
//! Started by the engine with the pod's directory as its argument and a connection to its starter as standard input, in the mount namespace in
//! which the containers' roots are mounted. It starts the containers, keeps what they write, records how they end, and is gone when all have.

mod clients;
mod container;
mod handle;
mod pod;

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use dhow_supervise::{Channel, Plan, PodFiles, PodLock, Request};

use crate::pod::{End, Pod};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dhow-monitor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .context("started without a pod's directory; dhow starts it, people do not")?
        .into();
    // The starter holds signals back to pass them on; here and in what is started from here they are wanted.
    dhow_sys::signal::unblock_all().context("unblocking signals")?;
    // No directory of the starter's is kept from being unmounted.
    rustix::process::chdir("/").context("changing to /")?;
    // Out of the starter's session: its terminal's signals are the starter's to pass on.
    let _ = rustix::process::setsid();
    // Whoever starts processes in the container goes, what they started comes here.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("becoming a subreaper")?;
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    // Nothing that is started from here may hold the starter's connection.
    let null = fs_err::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let starter = Channel::from_descriptor(input);
    let Some(begin) = starter
        .receive::<Request>()
        .context("waiting for the starter's word")?
    else {
        // The starter gave up before there was anything to do.
        return Ok(());
    };
    let Request::Begin { attached, stdin } = begin.message else {
        anyhow::bail!("the starter's first word is not to begin");
    };
    let mut descriptors = begin.descriptors.into_iter();
    let lock = PodLock::from_descriptor(descriptors.next().context("the pod's lock is missing")?);
    let mut next = |wanted: bool| if wanted { descriptors.next() } else { None };
    let attachment = container::Attachment {
        stdout: next(attached),
        stderr: next(attached),
        stdin: next(stdin),
        attached,
    };
    let files = PodFiles::new(dir);
    let plan: Plan = dhow_supervise::read(&files.plan())?.context("the pod's plan is missing")?;
    let at_end = plan.at_end.clone();
    let mut pod = Pod::new(plan, files, starter)?;
    match pod.run(attachment)? {
        End::CleanedUp => Ok(()),
        End::ToCleanUp => {
            drop(pod);
            // The command takes the lock itself.
            drop(lock);
            clean_up(&at_end)
        }
    }
}

/// Becomes the command that cleans up: no process waits for another.
fn clean_up(at_end: &[String]) -> anyhow::Result<()> {
    let Some((program, args)) = at_end.split_first() else {
        return Ok(());
    };
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .exec();
    Err(error).with_context(|| format!("starting {program} to clean up"))
}
