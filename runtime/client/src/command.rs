//! One call of the program: its arguments, its log, its answer.

use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{CreateOptions, ErrorKind, RuntimeClient, RuntimeError, Stdio3};

/// A call being put together.
pub(crate) struct Call {
    command: Command,
    verb: String,
    program: PathBuf,
    /// Files of this call; gone with it.
    scratch: Scratch,
}

/// One line of the JSON log.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
    #[serde(default)]
    kind: ErrorKind,
}

impl Call {
    pub(crate) fn new(client: &RuntimeClient, verb: &str) -> Result<Self, RuntimeError> {
        let scratch = Scratch::new(client.root())?;
        let mut command = Command::new(client.program());
        command
            // What process lists show, also where the program is started through a descriptor.
            .arg0("dhow-runtime")
            .arg("--root")
            .arg(client.root())
            .arg("--log")
            .arg(scratch.path("log"))
            // Standard error may be the container's.
            .args(["--log-format", "json", "--log-only"])
            .arg(verb)
            // Whether this program is ready, where it is a service of systemd's, is not its containers' to say.
            .env_remove("NOTIFY_SOCKET");
        Ok(Self {
            command,
            verb: verb.to_owned(),
            program: client.program().to_owned(),
            scratch,
        })
    }

    pub(crate) fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn flag(&mut self, name: &str, value: Option<&Path>) -> &mut Self {
        if let Some(value) = value {
            self.command.arg(name).arg(value);
        }
        self
    }

    pub(crate) fn preserve(&mut self, count: u32) -> &mut Self {
        if count > 0 {
            self.command.arg("--preserve-fds").arg(count.to_string());
        }
        self
    }

    pub(crate) fn stdio(&mut self, stdio: Stdio3) {
        let own = |fd: Option<_>| fd.map_or_else(Stdio::inherit, Stdio::from);
        self.command
            .stdin(own(stdio.stdin))
            .stdout(own(stdio.stdout))
            .stderr(own(stdio.stderr));
    }

    /// What every way to make a container asks, whose id comes last.
    pub(crate) fn on_bundle(&mut self, id: &str, bundle: &Path, options: CreateOptions) {
        self.flag("--bundle", Some(bundle))
            .flag("--pid-file", options.pid_file.as_deref())
            .flag("--console-socket", options.console_socket.as_deref())
            .preserve(options.preserve_fds)
            .arg(id)
            .stdio(options.stdio);
    }

    /// Writes a document that the runtime reads by path.
    pub(crate) fn document(
        &self,
        name: &str,
        document: &impl Serialize,
    ) -> Result<PathBuf, RuntimeError> {
        let path = self.scratch.path(name);
        let text = serde_json::to_vec(document).map_err(|error| RuntimeError::Answer {
            verb: self.verb.clone(),
            detail: error.to_string(),
        })?;
        fs_err::write(&path, text).map_err(|source| RuntimeError::File {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    fn cannot_start(&self, source: std::io::Error) -> RuntimeError {
        RuntimeError::Start {
            program: self.program.clone(),
            source,
        }
    }

    /// Runs to the end; what the runtime logged as an error is one.
    pub(crate) fn status(mut self) -> Result<ExitStatus, RuntimeError> {
        let status = self
            .command
            .status()
            .map_err(|source| self.cannot_start(source))?;
        match self.logged() {
            Some(error) if !status.success() => Err(error),
            _ => Ok(status),
        }
    }

    /// Runs to the end and expects success.
    pub(crate) fn succeed(self) -> Result<(), RuntimeError> {
        let verb = self.verb.clone();
        let status = self.status()?;
        if status.success() {
            return Ok(());
        }
        Err(RuntimeError::Refused {
            message: format!("dhow-runtime {verb} failed without a word ({status})"),
            kind: ErrorKind::Other,
        })
    }

    /// Runs to the end and reads what it printed.
    pub(crate) fn json<T: DeserializeOwned>(mut self) -> Result<T, RuntimeError> {
        let output = self
            .command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|source| self.cannot_start(source))?;
        if !output.status.success() {
            return Err(self.logged().unwrap_or_else(|| RuntimeError::Refused {
                message: format!(
                    "dhow-runtime {} failed without a word ({})",
                    self.verb, output.status
                ),
                kind: ErrorKind::Other,
            }));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| RuntimeError::Answer {
            verb: self.verb.clone(),
            detail: error.to_string(),
        })
    }

    /// The last error in the log.
    fn logged(&self) -> Option<RuntimeError> {
        let log = fs_err::read_to_string(self.scratch.path("log")).ok()?;
        log.lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<LogLine>(line).ok())
            .find(|line| line.level == "error" || line.level == "fatal")
            .map(|line| RuntimeError::Refused {
                message: line.msg,
                kind: line.kind,
            })
    }
}

/// A directory for the files of one call. It lies beside the containers' state, where only its owner can read.
struct Scratch {
    prefix: PathBuf,
}

impl Scratch {
    fn new(root: &Path) -> Result<Self, RuntimeError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let dir = root.join(".calls");
        let failed = |source| RuntimeError::File {
            path: dir.clone(),
            source,
        };
        fs_err::create_dir_all(root).map_err(failed)?;
        // A process's document has its environment.
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            prefix: dir.join(format!("{}-{number}", std::process::id())),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.prefix.with_extension(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in ["log", "process", "resources"] {
            // Most calls leave no file: the log is written only when there is something to say.
            let _ = fs_err::remove_file(self.path(name));
        }
    }
}
