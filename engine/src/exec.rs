//! One more process in a container that runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dhow_container_spec::{ExecOptions, exec_process};
use dhow_runtime_client::{ExecOptions as RuntimeExec, Stdio3};
use dhow_supervise::Exit;
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::foreground::Remote;
use crate::launch::Streams;
use crate::relay::Relay;
use crate::{
    ContainerId, ContainerState, Ending, Engine, EngineError, PodSpec, Signals, StandardStreams,
};

/// A process to be executed.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// What is asked of it.
    pub options: ExecOptions,
    /// Whether it reads from the caller.
    pub stdin: bool,
    /// Whether the caller does not stay.
    pub detach: bool,
}

/// A process that this one started in a container.
struct Executed {
    pidfd: OwnedFd,
}

impl Remote for Executed {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn hear(&mut self) -> Result<Option<Exit>, EngineError> {
        let code = dhow_supervise::reap(self.pidfd.as_fd())
            .map_err(EngineError::system("asking for the exit status"))?;
        Ok(code.map(Exit::now))
    }

    fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            // Who has ended in the meantime needs no signal.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        }
    }
}

impl Engine {
    /// Executes a process in a running container and stays with it until it ends, unless it is detached. Gives its exit status, none when detached.
    ///
    /// # Errors
    /// When the container does not run, or the process could not be started ([`EngineError::exit_status`] tells how).
    pub fn exec(
        &self,
        spec: &PodSpec,
        request: &ExecRequest,
        own: StandardStreams<'_>,
        signals: &Signals,
    ) -> Result<Option<u8>, EngineError> {
        let process = self.describe_process(spec, request)?;
        // The process is this one's child, whoever starts it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(EngineError::system("becoming a subreaper"))?;
        let pid_file = PidFile(
            self.files(&spec.id)
                .dir()
                .join(format!("exec-{}.pid", std::process::id())),
        );
        let id = &spec.first().id;
        let mut streams = self.start_process(id, &process, request, &pid_file)?;
        if request.detach {
            return Ok(None);
        }
        let pidfd = pid_file.open()?;
        let mut remote = Executed { pidfd };
        let ended = Relay::new(&mut streams, own)?.run(&mut remote, signals)?;
        Ok(match ended {
            Ending::Exited(exit) => Some(exit.code),
            Ending::Left => None,
        })
    }

    fn describe_process(
        &self,
        spec: &PodSpec,
        request: &ExecRequest,
    ) -> Result<Process, EngineError> {
        let id = &spec.first().id;
        let ContainerState::Running { pid: Some(pid), .. } = self.status(spec.clone())?.state()
        else {
            return Err(EngineError::NotRunning(spec.name.to_string()));
        };
        let config = self.files(&spec.id).bundle(id.as_str()).join("config.json");
        let oci: Spec = dhow_supervise::read(&config)?
            .ok_or_else(|| EngineError::NotRunning(spec.name.to_string()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
            .map_err(EngineError::system("opening the container's root"))?;
        Ok(exec_process(&oci, &request.options, root.as_fd())?)
    }

    fn start_process(
        &self,
        id: &ContainerId,
        process: &Process,
        request: &ExecRequest,
        pid_file: &PidFile,
    ) -> Result<Streams, EngineError> {
        let mut options = RuntimeExec {
            detach: true,
            pid_file: Some(pid_file.0.clone()),
            ..RuntimeExec::default()
        };
        let mut streams = Streams::default();
        let started = if request.options.terminal {
            options.stdio = Stdio3 {
                stdin: Some(null()?),
                stdout: Some(null()?),
                stderr: Some(null()?),
            };
            let name = format!("exec-{}.sock", std::process::id());
            let dir = self.files(id).dir().to_owned();
            let (started, terminal) = dhow_supervise::receive_terminal(&dir, &name, |socket| {
                options.console_socket = Some(socket.to_owned());
                self.runtime.exec(id.as_str(), process, options)
            })
            .map_err(EngineError::system("receiving the process's terminal"))?;
            streams.terminal = terminal;
            started
        } else {
            options.stdio = pipes(request, &mut streams)?;
            self.runtime.exec(id.as_str(), process, options)
        };
        started?;
        if let Some(terminal) = &streams.terminal {
            // Reading and writing are apart, as with pipes.
            let output = terminal.try_clone().map_err(EngineError::File)?;
            streams.stdout = Some(output);
        }
        Ok(streams)
    }
}

/// Pipes for a process without a terminal; nothing at all for one that is detached.
fn pipes(request: &ExecRequest, own: &mut Streams) -> Result<Stdio3, EngineError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(EngineError::system("making a pipe"));
    if request.detach {
        return Ok(Stdio3 {
            stdin: Some(null()?),
            stdout: Some(null()?),
            stderr: Some(null()?),
        });
    }
    let (stdout, stdout_inside) = pipe()?;
    let (stderr, stderr_inside) = pipe()?;
    let stdin_inside = if request.stdin {
        let (inside, stdin) = pipe()?;
        own.stdin = Some(stdin);
        inside
    } else {
        null()?
    };
    own.stdout = Some(stdout);
    own.stderr = Some(stderr);
    Ok(Stdio3 {
        stdin: Some(stdin_inside),
        stdout: Some(stdout_inside),
        stderr: Some(stderr_inside),
    })
}

fn null() -> Result<OwnedFd, EngineError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(EngineError::system("opening /dev/null"))
}

/// The file in which the runtime leaves a process id; gone with the call.
struct PidFile(PathBuf);

impl PidFile {
    fn open(&self) -> Result<OwnedFd, EngineError> {
        let text = fs_err::read_to_string(&self.0).map_err(EngineError::File)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| {
            EngineError::Invalid(format!("{} holds no process id", self.0.display()))
        })?;
        pidfd_open(pid, PidfdFlags::empty()).map_err(EngineError::system("opening the process"))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.0);
    }
}
