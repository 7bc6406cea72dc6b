//! Programs that a bundle asks to be run at moments of a container's life.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::plan::HookKind;

/// A hook that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be run.
    #[error("error running {kind} hook #{number} ({path}): {source}")]
    Run {
        /// Its moment.
        kind: &'static str,
        /// Its place in the list, from 0.
        number: usize,
        /// Its program.
        path: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// It failed.
    #[error("error running {kind} hook #{number} ({path}): {status}, stderr: {stderr}")]
    Failed {
        /// Its moment.
        kind: &'static str,
        /// Its place in the list, from 0.
        number: usize,
        /// Its program.
        path: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote.
        stderr: String,
    },
    /// It took too long.
    #[error("error running {kind} hook #{number} ({path}): it did not end within {seconds} s")]
    TimedOut {
        /// Its moment.
        kind: &'static str,
        /// Its place in the list, from 0.
        number: usize,
        /// Its program.
        path: String,
        /// Its limit.
        seconds: i64,
    },
}

/// The hooks of one moment.
pub fn of(hooks: Option<&Hooks>, kind: HookKind) -> &[Hook] {
    let Some(hooks) = hooks else {
        return &[];
    };
    let list = match kind {
        HookKind::Prestart => hooks.prestart(),
        HookKind::CreateRuntime => hooks.create_runtime(),
        HookKind::CreateContainer => hooks.create_container(),
        HookKind::StartContainer => hooks.start_container(),
        HookKind::Poststart => hooks.poststart(),
        HookKind::Poststop => hooks.poststop(),
    };
    list.as_deref().unwrap_or_default()
}

/// All hooks with their moments.
pub fn all(hooks: Option<&Hooks>) -> impl Iterator<Item = (HookKind, &[Hook])> {
    [
        HookKind::Prestart,
        HookKind::CreateRuntime,
        HookKind::CreateContainer,
        HookKind::StartContainer,
        HookKind::Poststart,
        HookKind::Poststop,
    ]
    .into_iter()
    .map(move |kind| (kind, of(hooks, kind)))
}

/// Runs hooks one after another, each with the container's state (JSON) on its standard input.
///
/// # Errors
/// The first that fails; those after it are not run.
pub fn run(hooks: &[Hook], kind: HookKind, state: &str) -> Result<(), HookError> {
    for (number, hook) in hooks.iter().enumerate() {
        run_one(hook, kind.name(), number, state)?;
    }
    Ok(())
}

fn run_one(hook: &Hook, kind: &'static str, number: usize, state: &str) -> Result<(), HookError> {
    let path = hook.path().display().to_string();
    let run_error = |source: std::io::Error| HookError::Run {
        kind,
        number,
        path: path.clone(),
        source,
    };
    let mut command = Command::new(hook.path());
    if let Some((name, args)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(args);
    }
    // A hook gets the environment that the bundle gives it and nothing of ours.
    command.env_clear();
    for (name, value) in hook
        .env()
        .iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='))
    {
        command.env(name, value);
    }
    // A hook is a program like others: no signal of ours blocked or ignored.
    dhow_sys::signal::reset_in_child(&mut command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run_error)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(state.as_bytes());
    }
    if let Some(seconds) = hook.timeout() {
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if !ends_within(child.id(), limit).map_err(run_error)? {
            let _ = child.kill();
            let _ = child.wait();
            return Err(HookError::TimedOut {
                kind,
                number,
                path,
                seconds,
            });
        }
    }
    let output = child.wait_with_output().map_err(run_error)?;
    if output.status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        kind,
        number,
        path,
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Waits for a child's end; whether it came in time.
fn ends_within(pid: u32, limit: Duration) -> std::io::Result<bool> {
    let Some(pid) = Pid::from_raw(pid as i32) else {
        return Ok(true);
    };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
