//! One container of the pod: started through the runtime, its output pumped, its end seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use dhow_runtime_client::{CreateOptions, ErrorKind, RuntimeClient, RuntimeError, Stdio3};
use dhow_supervise::{ContainerPlan, Exit, LogWriter, PodFiles, Pump, StreamName};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What the starter is attached to the first container with.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    /// Whether it is.
    pub(crate) attached: bool,
    /// What the container reads.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where its standard output goes, besides the log.
    pub(crate) stdout: Option<OwnedFd>,
    /// Where its standard error goes, besides the log.
    pub(crate) stderr: Option<OwnedFd>,
}

/// A container that could not be started.
#[derive(Debug)]
pub(crate) struct StartError {
    /// 125, 126 or 127.
    pub(crate) code: u8,
    /// Why.
    pub(crate) message: String,
}

impl From<RuntimeError> for StartError {
    fn from(error: RuntimeError) -> Self {
        let code = match error.kind() {
            ErrorKind::CommandNotFound => 127,
            ErrorKind::CommandNotExecutable => 126,
            _ => 125,
        };
        Self {
            code,
            message: error.to_string(),
        }
    }
}

impl From<anyhow::Error> for StartError {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: 125,
            message: format!("{error:#}"),
        }
    }
}

/// A container that was started.
pub(crate) struct Container {
    pub(crate) plan: ContainerPlan,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) pumps: Vec<Pump>,
    pub(crate) log: LogWriter,
    /// The master end of its terminal, where it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// What keeps its standard input open while nobody is attached.
    _stdin: Option<OwnedFd>,
    pub(crate) exit: Option<Exit>,
}

impl Container {
    /// Starts it. Its process may have ended already when this returns: as a child of this process it waits to be reaped.
    pub(crate) fn start(
        plan: ContainerPlan,
        files: &PodFiles,
        runtime: &RuntimeClient,
        attachment: Attachment,
    ) -> Result<Self, StartError> {
        let pid_file = plan.bundle.join("pid");
        let mut options = CreateOptions {
            pid_file: Some(pid_file.clone()),
            ..CreateOptions::default()
        };
        let log = LogWriter::new(&plan.log);
        let (pumps, terminal, stdin) = if plan.terminal {
            let (pump, terminal) =
                start_with_terminal(&plan, files.dir(), runtime, options, attachment.stdout)?;
            (vec![pump], Some(terminal), None)
        } else {
            let (pumps, stdio, stdin) = pipes(&plan, attachment)?;
            options.stdio = stdio;
            runtime.run_detached(&plan.id, &plan.bundle, options)?;
            (pumps, None, stdin)
        };
        let (pid, pidfd) = open_process(&pid_file)?;
        Ok(Self {
            plan,
            pid,
            pidfd,
            pumps,
            log,
            terminal,
            _stdin: stdin,
            exit: None,
        })
    }

    /// Moves output that waits.
    pub(crate) fn pump(&mut self) {
        for pump in &mut self.pumps {
            pump.step(&mut self.log);
        }
    }

    /// Gives up on output that others than the container hold open.
    pub(crate) fn close_output(&mut self) {
        for pump in &mut self.pumps {
            pump.close_source(&mut self.log);
        }
    }

    /// Whether all output has been moved.
    pub(crate) fn is_drained(&self) -> bool {
        self.pumps.iter().all(Pump::is_done)
    }

    /// The descriptor to wait for the end with; none once it was seen.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.exit.is_none().then(|| self.pidfd.as_fd())
    }
}

/// A container with a terminal: the runtime makes it inside and sends its master end here.
fn start_with_terminal(
    plan: &ContainerPlan,
    dir: &Path,
    runtime: &RuntimeClient,
    mut options: CreateOptions,
    sink: Option<OwnedFd>,
) -> Result<(Pump, OwnedFd), StartError> {
    options.stdio = Stdio3 {
        stdin: Some(null()?),
        stdout: Some(null()?),
        stderr: Some(null()?),
    };
    let (started, terminal) = dhow_supervise::receive_terminal(dir, "console.sock", |socket| {
        options.console_socket = Some(socket.to_owned());
        runtime.run_detached(&plan.id, &plan.bundle, options)
    })
    .context("receiving the container's terminal")?;
    started?;
    let terminal = terminal.context("the runtime sent no terminal")?;
    // Both share one open description: who writes to it from outside must expect that it does not wait.
    let source = terminal
        .try_clone()
        .context("duplicating the terminal's descriptor")?;
    let pump = Pump::new(StreamName::Stdout, source, sink).context("using the terminal")?;
    Ok((pump, terminal))
}

type Pipes = (Vec<Pump>, Stdio3, Option<OwnedFd>);

/// Pipes for a container without a terminal.
fn pipes(plan: &ContainerPlan, attachment: Attachment) -> Result<Pipes, StartError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("making a pipe");
    let (stdout, stdout_inside) = pipe()?;
    let (stderr, stderr_inside) = pipe()?;
    let (stdin_inside, stdin) = match (attachment.stdin, plan.stdin) {
        (Some(stdin), _) => (stdin, None),
        (None, true) => {
            let (inside, stdin) = pipe()?;
            (inside, Some(stdin))
        }
        (None, false) => (null()?, None),
    };
    let pump = |name, source, sink| Pump::new(name, source, sink).context("using a pipe");
    let pumps = vec![
        pump(StreamName::Stdout, stdout, attachment.stdout)?,
        pump(StreamName::Stderr, stderr, attachment.stderr)?,
    ];
    let stdio = Stdio3 {
        stdin: Some(stdin_inside),
        stdout: Some(stdout_inside),
        stderr: Some(stderr_inside),
    };
    Ok((pumps, stdio, stdin))
}

fn null() -> Result<OwnedFd, anyhow::Error> {
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into_parts().0.into())
}

/// The first process, which as a child of this one cannot be mistaken for another.
fn open_process(pid_file: &Path) -> Result<(i32, OwnedFd), anyhow::Error> {
    let text = fs_err::read_to_string(pid_file)?;
    let raw: i32 = text
        .trim()
        .parse()
        .with_context(|| format!("{} holds no process id", pid_file.display()))?;
    let pid = Pid::from_raw(raw).context("the runtime gave the process id 0")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .with_context(|| format!("opening the container's process {raw}"))?;
    Ok((raw, pidfd))
}
