//! Removal, and what is done for a pod whose monitor was killed. Everything here may be done twice.

use std::io::ErrorKind as Io;

use dhow_runtime_client::ErrorKind as Runtime;
use dhow_supervise::{Exit, Phase, PodLock, Request, Status, UNKNOWN_EXIT};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::{ContainerId, Engine, EngineError, PodSpec, Prepared};

/// SIGKILL.
const KILL: i32 = 9;

impl Engine {
    /// Removes a container with all that it wrote. With `force` a running one is killed first. The anonymous volumes of images are part of the
    /// container's root and go with it; named volumes stay.
    ///
    /// # Errors
    /// When it runs and `force` is not given, or something of it cannot be removed.
    pub fn remove(&self, spec: &PodSpec, force: bool) -> Result<(), EngineError> {
        let files = self.files(&spec.id);
        crate::records::make_dir(files.dir())?;
        let lock = match self.take_if_idle(spec)? {
            Some(lock) => lock,
            None if force => {
                self.kill_and_wait(spec)?;
                PodLock::wait_and_take(&files.lock())?
            }
            None => return Err(EngineError::Running(spec.name.to_string())),
        };
        self.settle(spec, &lock)?;
        self.remove_all(spec)
    }

    /// Removes a container that was never started.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn discard(&self, prepared: Prepared) -> Result<(), EngineError> {
        self.remove_all(&prepared.spec)
    }

    /// Removes a container that was to be removed at its end, when it has ended. Nothing happens when it runs or is gone.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn remove_ended(&self, id: &str) -> Result<(), EngineError> {
        let spec = match self.find(id) {
            Err(EngineError::NoSuchContainer(_)) => return Ok(()),
            spec => spec?,
        };
        let files = self.files(&spec.id);
        crate::records::make_dir(files.dir())?;
        let lock = PodLock::wait_and_take(&files.lock())?;
        self.settle(&spec, &lock)?;
        self.remove_all(&spec)
    }

    /// Removes everything of a pod that does not run; under its lock.
    pub(crate) fn remove_all(&self, spec: &PodSpec) -> Result<(), EngineError> {
        self.remove_roots(spec)?;
        self.remove_directory(&spec.id)?;
        // Last, so that whatever a crash leaves can be found and removed again.
        self.records.remove(spec)
    }

    /// Removes a pod's directory. Who waits for its lock may make that anew while the rest goes.
    fn remove_directory(&self, id: &ContainerId) -> Result<(), EngineError> {
        const MOST_ATTEMPTS: u32 = 100;
        let files = self.files(id);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match fs_err::remove_dir_all(files.dir()) {
                Err(error) if error.kind() == Io::NotFound => return Ok(()),
                Err(error) if error.kind() == Io::DirectoryNotEmpty && attempts < MOST_ATTEMPTS => {
                    std::thread::yield_now();
                }
                done => return done.map_err(EngineError::File),
            }
        }
    }

    /// Removes the root file systems of a pod whose processes have ended.
    pub(crate) fn remove_roots(&self, spec: &PodSpec) -> Result<(), EngineError> {
        let files = self.files(&spec.id);
        for container in &spec.containers {
            let rootfs = files.bundle(container.id.as_str()).join("rootfs");
            match unmount(&rootfs, UnmountFlags::NOFOLLOW) {
                // Not mounted here: it was in a namespace that is gone.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                // Something still looks at it; it goes when that does.
                Err(Errno::BUSY) => {
                    let _ = unmount(&rootfs, UnmountFlags::DETACH);
                }
                Err(errno) => {
                    let doing = format!("unmounting {}", rootfs.display());
                    return Err(EngineError::system(doing)(errno));
                }
            }
            self.store.remove_root_fs(container.id.as_str())?;
        }
        Ok(())
    }

    /// Ends what a dead monitor left running, and records an end that nobody saw; under the pod's lock.
    pub(crate) fn settle(&self, spec: &PodSpec, _lock: &PodLock) -> Result<(), EngineError> {
        let files = self.files(&spec.id);
        let Some(mut status) = dhow_supervise::read::<Status>(&files.status())? else {
            return Ok(());
        };
        let mut changed = false;
        for container in &mut status.containers {
            if container.phase == Phase::Exited {
                continue;
            }
            match self.runtime.delete(&container.id, true) {
                Err(error) if error.kind() != Runtime::NotFound => return Err(error.into()),
                _ => {}
            }
            container.phase = Phase::Exited;
            container.pid = None;
            container.exit = Some(Exit::failed(UNKNOWN_EXIT, "its monitor was killed"));
            changed = true;
        }
        if changed {
            dhow_supervise::write(&files.status(), &status)?;
        }
        Ok(())
    }

    fn kill_and_wait(&self, spec: &PodSpec) -> Result<(), EngineError> {
        let files = self.files(&spec.id);
        let monitor = dhow_supervise::connect(files.dir())
            .map_err(EngineError::system("connecting with the monitor"))?;
        // Without a monitor the lock is free, or about to be.
        if let Some(monitor) = monitor {
            for container in &spec.containers {
                let request = Request::Signal {
                    container: Some(container.id.to_string()),
                    signal: KILL,
                };
                let _ = monitor.send(&request, &[]);
            }
            let _ = monitor.receive::<dhow_supervise::Report>();
        }
        Ok(())
    }
}
