//! Programs that a bundle asks to be run at moments of a container's life.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags, Timespec};
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
    let limit = hook
        .timeout()
        .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let attended = Attended::new(&mut child, state.as_bytes())
        .and_then(|mut attended| Ok((attended.await_end(limit)?, attended.heard)));
    if !matches!(attended, Ok((true, _))) {
        // It may just have ended.
        let _ = child.kill();
    }
    let status = child.wait().map_err(run_error)?;
    let (in_time, heard) = attended.map_err(run_error)?;
    if !in_time {
        return Err(HookError::TimedOut {
            kind,
            number,
            path,
            seconds: hook.timeout().unwrap_or(0),
        });
    }
    if status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        kind,
        number,
        path,
        status,
        stderr: String::from_utf8_lossy(&heard).trim().to_owned(),
    })
}

/// A hook that runs: it is told the state and listened to while its end is waited for, and neither can outlast that end.
/// One that does not read, or that leaves its standard error to a daemon, is no reason to wait.
struct Attended<'a> {
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    stderr: Option<ChildStderr>,
    to_tell: &'a [u8],
    heard: Vec<u8>,
}

impl<'a> Attended<'a> {
    fn new(child: &mut Child, state: &'a [u8]) -> std::io::Result<Self> {
        let pid = Pid::from_raw(child.id() as i32).ok_or(rustix::io::Errno::SRCH)?;
        let attended = Self {
            pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            stdin: child.stdin.take(),
            stderr: child.stderr.take(),
            to_tell: state,
            heard: Vec::new(),
        };
        if let Some(stdin) = &attended.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        if let Some(stderr) = &attended.stderr {
            rustix::io::ioctl_fionbio(stderr, true)?;
        }
        Ok(attended)
    }

    /// Waits for the end; whether it came in time.
    fn await_end(&mut self, limit: Option<Duration>) -> std::io::Result<bool> {
        // A limit beyond what a clock can count is none.
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.extend(
                self.stdin
                    .as_ref()
                    .map(|fd| PollFd::new(fd, PollFlags::OUT)),
            );
            fds.extend(
                self.stderr
                    .as_ref()
                    .map(|fd| PollFd::new(fd, PollFlags::IN)),
            );
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = !fds[0].revents().is_empty();
            drop(fds);
            self.tell();
            self.listen();
            if ended {
                return Ok(true);
            }
        }
    }

    /// Writes what there is room for.
    fn tell(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            return;
        };
        match stdin.write(self.to_tell) {
            Ok(written) => self.to_tell = &self.to_tell[written..],
            Err(error) if is_for_later(&error) => return,
            // A hook need not read it.
            Err(_) => self.to_tell = &[],
        }
        if self.to_tell.is_empty() {
            self.stdin = None;
        }
    }

    /// Reads what is there; of much, the beginning is kept.
    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut bytes) {
                Ok(1..) if self.heard.len() >= MOST_HEARD => return,
                Ok(read @ 1..) => self.heard.extend_from_slice(&bytes[..read]),
                Err(error) if is_for_later(&error) => return,
                _ => self.stderr = None,
            }
        }
    }
}

/// How much of a hook's standard error is kept for its error's text.
const MOST_HEARD: usize = 16 << 10;

fn is_for_later(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
    )
}
