//! The start: a bundle, a mounted root, and a monitor that holds the container from then on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dhow_container_spec::container_spec;
use dhow_supervise::{Channel, ContainerPlan, Phase, Plan, PodFiles, PodLock, Report, Request};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::records::make_dir;
use crate::{Engine, EngineError, PodSpec, Prepared};

/// A started container, and what the caller is attached to it with.
#[derive(Debug)]
pub struct Session {
    pub(crate) spec: PodSpec,
    pub(crate) channel: Channel,
    pub(crate) monitor: Child,
    pub(crate) streams: Streams,
}

/// The caller's ends of what the container reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// The ends that go to the monitor.
#[derive(Default)]
struct RemoteEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Session {
    /// What was asked for.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }
}

impl Engine {
    /// Takes a created or ended container to start it.
    ///
    /// # Errors
    /// When it runs already, or its image or root file system is gone.
    pub fn prepare(&self, spec: PodSpec) -> Result<Prepared, EngineError> {
        make_dir(self.files(&spec.id).dir())?;
        let Some(lock) = self.take_if_idle(&spec)? else {
            return Err(EngineError::Invalid(format!(
                "container {} is running already",
                spec.name
            )));
        };
        self.settle(&spec, &lock)?;
        let image = self.store.find(&spec.first().image_id.to_string())?;
        let root_fs = self.store.find_root_fs(spec.id.as_str())?.ok_or_else(|| {
            EngineError::Invalid(format!(
                "the root file system of container {0} is gone; remove the container (dhow rm {0})",
                spec.name
            ))
        })?;
        Ok(Prepared {
            spec,
            image,
            root_fs,
            lock,
        })
    }

    /// Starts a container. With `attach`, what it reads and writes passes through the caller (see [`Session`]); otherwise it goes to its log.
    /// A container that cannot be started and was to be removed at its end is removed.
    ///
    /// # Errors
    /// [`EngineError::NotStarted`] with the exit status when its program cannot be run; others when it did not come so far.
    pub fn start(&self, prepared: Prepared, attach: bool) -> Result<Session, EngineError> {
        let spec = prepared.spec.clone();
        let started = self.launch(prepared, attach);
        if started.is_err() && spec.auto_remove {
            // The first error is the one to tell; the monitor may have removed it before.
            let _ = self.remove_ended(spec.id.as_str());
        }
        started
    }

    fn launch(&self, prepared: Prepared, attach: bool) -> Result<Session, EngineError> {
        let spec = prepared.spec.clone();
        let files = self.files(&spec.id);
        let rootfs = files.bundle(spec.id.as_str()).join("rootfs");
        make_dir(&rootfs)?;
        dhow_image_store::enter_private_mounts()?;
        // The monitor starts up while the bundle is made; it shares this mount namespace and waits for the word to begin.
        let (channel, remote) =
            Channel::pair().map_err(EngineError::system("connecting with the monitor"))?;
        let monitor = self.spawn_monitor(&files, remote)?;
        let own = spec.first().options.user_namespace.as_ref();
        let ids = own.map(crate::user_namespace::make).transpose()?;
        prepared.root_fs.mount(&rootfs, ids.as_ref())?;
        self.write_bundle(&prepared, &files, &rootfs)?;
        let container = spec.first();
        let with_stdin = attach && container.stdin;
        let (streams, ends) = streams(attach, with_stdin, container.options.terminal)?;
        let request = Request::Begin {
            attached: attach,
            stdin: ends.stdin.is_some(),
        };
        let mut descriptors = vec![prepared.lock.as_fd()];
        let ends_in_order = [&ends.stdout, &ends.stderr, &ends.stdin];
        descriptors.extend(ends_in_order.into_iter().flatten().map(AsFd::as_fd));
        let sent = channel.send(&request, &descriptors);
        drop(ends);
        // From here on the monitor alone holds the lock.
        drop(prepared);
        let mut session = Session {
            spec,
            channel,
            monitor,
            streams,
        };
        if sent.is_err() {
            return Err(EngineError::MonitorDied(session.spec.name.to_string()));
        }
        session.await_start()?;
        Ok(session)
    }

    fn spawn_monitor(&self, files: &PodFiles, remote: Channel) -> Result<Child, EngineError> {
        // Without a change of directory this is a spawn and no fork of all that this process has; the monitor changes its directory itself.
        Command::new(&self.monitor)
            .arg(files.dir())
            .env_clear()
            .stdin(remote.into_descriptor())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| EngineError::Monitor {
                program: self.monitor.clone(),
                source,
            })
    }

    /// The runtime's config and the monitor's plan.
    fn write_bundle(
        &self,
        prepared: &Prepared,
        files: &PodFiles,
        rootfs: &Path,
    ) -> Result<(), EngineError> {
        let spec = &prepared.spec;
        let container = spec.first();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(rootfs, flags, Mode::empty())
            .map_err(EngineError::system("opening the container's root"))?;
        let oci = container_spec(prepared.image.config(), &container.options, root.as_fd())?;
        let bundle = files.bundle(container.id.as_str());
        dhow_supervise::write(&bundle.join("config.json"), &oci)?;
        // What a former life of the container left says nothing of this one.
        match fs_err::remove_file(files.status()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::File(error));
            }
            _ => {}
        }
        let mut at_end = Vec::new();
        if spec.auto_remove {
            at_end.clone_from(&self.clean_up);
            at_end.push(spec.id.to_string());
        }
        let plan = Plan {
            pod: spec.id.to_string(),
            runtime: self.runtime.program().to_owned(),
            runtime_root: self.runtime.root().to_owned(),
            containers: vec![ContainerPlan {
                id: container.id.to_string(),
                bundle,
                terminal: container.options.terminal,
                stdin: container.stdin,
                log: self.log(&spec.id),
                cgroup: Self::cgroup(&container.id),
            }],
            at_end,
        };
        Ok(dhow_supervise::write(&files.plan(), &plan)?)
    }

    /// The pod's lock when the pod does not run; none when it does. Whoever holds it only for a moment is waited for.
    pub(crate) fn take_if_idle(&self, spec: &PodSpec) -> Result<Option<PodLock>, EngineError> {
        let files = self.files(&spec.id);
        if let Some(lock) = PodLock::try_take(&files.lock())? {
            return Ok(Some(lock));
        }
        let status: Option<dhow_supervise::Status> = dhow_supervise::read(&files.status())?;
        let runs = status
            .iter()
            .flat_map(|status| &status.containers)
            .any(|container| container.phase != Phase::Exited);
        if runs {
            return Ok(None);
        }
        Ok(Some(PodLock::wait_and_take(&files.lock())?))
    }
}

impl Session {
    /// Waits for the monitor's word that the runtime keeps nothing of the container any more.
    pub(crate) fn await_end(&self) -> Result<(), EngineError> {
        loop {
            let word = self
                .channel
                .receive::<Report>()
                .map_err(EngineError::system("hearing from the monitor"))?;
            match word.map(|word| word.message) {
                Some(Report::Ended) | None => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// Waits for the monitor's word that the container runs.
    fn await_start(&mut self) -> Result<(), EngineError> {
        let word = self
            .channel
            .receive::<Report>()
            .map_err(EngineError::system("hearing from the monitor"))?;
        let died = || EngineError::MonitorDied(self.spec.name.to_string());
        let word = word.ok_or_else(died)?;
        match word.message {
            Report::Started { .. } => {
                self.streams.terminal = word.descriptors.into_iter().next();
                Ok(())
            }
            Report::Failed { code, message } => {
                // The monitor has nothing more to do; a dead one is not left behind.
                let _ = self.channel.send(&Request::Cleaned, &[]);
                let _ = self.monitor.wait();
                Err(EngineError::NotStarted { code, message })
            }
            _ => Err(died()),
        }
    }
}

/// The two ends of everything that passes between the container and the caller.
fn streams(
    attach: bool,
    with_stdin: bool,
    terminal: bool,
) -> Result<(Streams, RemoteEnds), EngineError> {
    let mut own = Streams::default();
    let mut remote = RemoteEnds::default();
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(EngineError::system("making a pipe"));
    if attach {
        let (read, write) = pipe()?;
        (own.stdout, remote.stdout) = (Some(read), Some(write));
        let (read, write) = pipe()?;
        (own.stderr, remote.stderr) = (Some(read), Some(write));
    }
    if with_stdin && !terminal {
        let (read, write) = pipe()?;
        (own.stdin, remote.stdin) = (Some(write), Some(read));
    }
    Ok((own, remote))
}
