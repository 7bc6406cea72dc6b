//! `RUN`: a command in a container on the root that is being built.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dhow_container_spec::{BindMount, ContainerOptions, NetworkMode, container_spec};
use dhow_dockerfile::RunNetwork;
use dhow_image::{ImageConfiguration, Progress};
use dhow_runtime_client::{CreateOptions, RuntimeClient, RuntimeError, Stdio3};
use oci_spec::runtime::Spec;

use crate::guard::Watched;
use crate::mountpoints::Mountpoints;
use crate::plan::RunStep;
use crate::root_dir::RootDir;
use crate::{BuildError, TreeError};

/// The host's files by which names are found in its network.
const NAMES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The longest line of output that is kept together.
const LONGEST_LINE: u64 = 64 << 10;

/// How many lines a quiet build shows of a command that failed.
const TAIL: usize = 20;

/// How a command ended.
pub(crate) struct Ended {
    /// Its exit status; 128 + N for an end by signal N.
    pub(crate) status: i32,
    /// The last lines that it wrote.
    pub(crate) tail: Vec<String>,
}

/// What could not be done, of a command or for it.
pub(crate) enum RunError {
    /// The root or the container's description.
    Tree(TreeError),
    /// The runtime.
    Runtime(RuntimeError),
    /// A file of the build's own.
    Build(BuildError),
}

impl From<TreeError> for RunError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Where a command runs.
pub(crate) struct Place<'a> {
    pub(crate) runtime: &'a RuntimeClient,
    /// The mounted root.
    pub(crate) root: &'a Path,
    pub(crate) watched: &'a Watched<'a>,
    pub(crate) progress: &'a dyn Progress,
    /// What stands before each line of its output.
    pub(crate) prefix: &'a str,
}

impl Place<'_> {
    /// Runs a command to its end.
    pub(crate) fn run(&self, step: &RunStep) -> Result<Ended, RunError> {
        let root = RootDir::open(self.root)
            .map_err(TreeError::system("opening", &self.root.to_string_lossy()))?;
        let options = self.options(step);
        let spec = container_spec(&ImageConfiguration::default(), &options, root.fd())
            .map_err(TreeError::from)?;
        self.write_bundle(&spec)?;
        let mounts = spec.mounts().clone().unwrap_or_default();
        let destinations = mounts.iter().map(|mount| mount.destination().clone());
        let mountpoints = Mountpoints::look(&root, destinations)?;
        let ended = self.run_bundle();
        mountpoints.clear(&root)?;
        ended
    }

    fn options(&self, step: &RunStep) -> ContainerOptions {
        let mut env = step.env.clone();
        env.extend(step.proxies.iter().cloned());
        let host = step.network != RunNetwork::None;
        let is_root = dhow_image_store::is_hosts_root();
        ContainerOptions {
            // An empty entrypoint leaves all words to the arguments.
            entrypoint: Some(Vec::new()),
            args: step.command.clone(),
            env,
            working_dir: Some(step.working_dir.clone()),
            user: Some(step.user.clone()),
            mounts: if host { host_names() } else { Vec::new() },
            network: if host {
                NetworkMode::Host
            } else {
                NetworkMode::None
            },
            root_path: self.root.to_owned(),
            // Without root there may be none, and the runtime goes without.
            cgroups_path: is_root.then(|| PathBuf::from("/dhow").join(&self.watched.id)),
            rootless: !is_root,
            ..ContainerOptions::default()
        }
    }

    fn write_bundle(&self, spec: &Spec) -> Result<(), RunError> {
        let path = self.watched.dir.join("config.json");
        let failed = |source| {
            RunError::Build(BuildError::File {
                doing: "writing",
                path: path.clone(),
                source,
            })
        };
        let text = serde_json::to_vec(spec).map_err(|error| failed(error.into()))?;
        fs_err::write(&path, text).map_err(failed)
    }

    fn run_bundle(&self) -> Result<Ended, RunError> {
        let dir = &self.watched.dir;
        let failed = |source| {
            RunError::Build(BuildError::File {
                doing: "preparing the output of a command in",
                path: dir.clone(),
                source,
            })
        };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let stderr = writer.try_clone().map_err(failed)?;
        let stdin = fs_err::File::open("/dev/null").map_err(failed)?;
        let stdio = Stdio3 {
            stdin: Some(OwnedFd::from(stdin.into_parts().0)),
            stdout: Some(writer.into()),
            stderr: Some(stderr.into()),
        };
        let options = CreateOptions {
            stdio,
            ..CreateOptions::default()
        };
        std::thread::scope(|scope| {
            let output = scope.spawn(|| self.report(reader));
            let status = self.runtime.run(&self.watched.id, dir, options);
            let tail = output.join().unwrap_or_default();
            let status = status.map_err(RunError::Runtime)?;
            Ok(Ended {
                status: exit_status(status),
                tail,
            })
        })
    }

    /// Reports the lines of a command while they come.
    fn report(&self, output: impl Read) -> Vec<String> {
        let mut output = BufReader::new(output);
        let mut tail = VecDeque::with_capacity(TAIL);
        loop {
            let mut line = Vec::new();
            let read = output
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return tail.into();
            }
            let text = String::from_utf8_lossy(&line);
            let text = printable(text.trim_end_matches(['\n', '\r']));
            self.progress.note(&format!("{} {text}", self.prefix));
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text);
        }
    }
}

/// A line of a command's output as it may stand on a terminal: of a line that was written over, the last state; and no
/// character that moves the cursor.
fn printable(line: &str) -> String {
    let last = line.rsplit('\r').next().unwrap_or(line);
    last.chars()
        .filter(|c| !c.is_control() || *c == '\t' || *c == '\u{1b}')
        .collect()
}

fn host_names() -> Vec<BindMount> {
    NAMES
        .iter()
        .filter(|file| Path::new(file).is_file())
        .map(|file| BindMount {
            source: file.into(),
            destination: file.into(),
            read_only: true,
            id_mapped: false,
        })
        .collect()
}

fn exit_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
