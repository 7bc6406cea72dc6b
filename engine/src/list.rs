//! What containers there are, and how they are.

use dhow_supervise::{Phase, PodLock, Status};

use rustix::io::Errno;

use crate::{ContainerId, Engine, EngineError, PodSpec, PodStatus};

impl Engine {
    /// All containers, latest created first.
    ///
    /// # Errors
    /// When a record or a status cannot be read.
    pub fn list(&self) -> Result<Vec<PodStatus>, EngineError> {
        let mut all = Vec::new();
        let specs = self.records.list()?;
        self.collect_leftovers(&specs)?;
        for spec in specs {
            if let Some(status) = self.look_at(spec)? {
                all.push(status);
            }
        }
        Ok(all)
    }

    /// Removes what was left of pods without a record: their creator or their remover was killed in the middle.
    fn collect_leftovers(&self, known: &[PodSpec]) -> Result<(), EngineError> {
        let states = std::fs::read_dir(self.states());
        let ids = states
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse::<ContainerId>().ok())
            .chain(self.records.ids()?);
        for id in ids.filter(|id| known.iter().all(|spec| spec.id != *id)) {
            let files = self.files(&id);
            // A creator makes the state and locks it before anything else, so what has no state has no creator.
            let lock = match PodLock::try_take(&files.lock()) {
                Ok(Some(lock)) => Some(lock),
                Err(error) if error.source == Errno::NOENT => None,
                Ok(None) | Err(_) => continue,
            };
            if self.records.get(&id)?.is_none() {
                // Whoever else collects may have been faster.
                let _ = fs_err::remove_dir_all(self.records.dir(&id));
                let _ = fs_err::remove_dir_all(files.dir());
            }
            drop(lock);
        }
        Ok(())
    }

    /// How one container is.
    ///
    /// # Errors
    /// When its status cannot be read, or it is gone in the meantime.
    pub fn status(&self, spec: PodSpec) -> Result<PodStatus, EngineError> {
        let name = spec.name.to_string();
        self.look_at(spec)?
            .ok_or(EngineError::NoSuchContainer(name))
    }

    /// How a container is; none when it was to be removed at its end, has ended, and nobody was left to remove it: then that is done.
    fn look_at(&self, spec: PodSpec) -> Result<Option<PodStatus>, EngineError> {
        let files = self.files(&spec.id);
        let status: Option<Status> = dhow_supervise::read(&files.status())?;
        let is_over = status
            .iter()
            .flat_map(|status| &status.containers)
            .all(|container| container.phase == Phase::Exited);
        // An ended one that stays needs no second look; nor does one that was never started, unless its creation was cut off.
        let is_kept = !spec.auto_remove && self.records.owns_its_name(&spec);
        if is_over && is_kept {
            return Ok(Some(PodStatus { spec, status }));
        }
        if !files.dir().exists() {
            crate::records::make_dir(files.dir())?;
        }
        // Whoever lives holds the lock.
        let Some(lock) = PodLock::try_take(&files.lock())? else {
            return Ok(Some(PodStatus { spec, status }));
        };
        self.settle(&spec, &lock)?;
        if !is_kept {
            self.remove_all(&spec)?;
            return Ok(None);
        }
        let status = dhow_supervise::read(&files.status())?;
        Ok(Some(PodStatus { spec, status }))
    }
}
