//! The durable records of pods, and the index of their names.
//!
//! `pods/ID/spec.json` is what makes a pod exist. `pod-names/NAME` is a symbolic link to its id, made with the name's lock held, after the
//! record and removed before it: a name without a record is a leftover of a crash and may be taken.

use std::io::ErrorKind as Io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dhow_supervise::PodLock;

use crate::{ContainerId, ContainerName, EngineError, PodSpec};

const SPEC: &str = "spec.json";

/// The records under one root directory.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pods: PathBuf,
    names: PathBuf,
}

impl Records {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            pods: root.join("pods"),
            names: root.join("pod-names"),
        }
    }

    /// The directory of a pod.
    pub(crate) fn dir(&self, id: &ContainerId) -> PathBuf {
        self.pods.join(id.as_str())
    }

    /// Records a pod under its name. With `durable` it survives a failure of power from here on.
    pub(crate) fn create(&self, spec: &PodSpec, durable: bool) -> Result<(), EngineError> {
        let dir = self.dir(&spec.id);
        make_dir(&dir)?;
        dhow_supervise::write(&dir.join(SPEC), spec)?;
        if durable {
            let file = fs_err::File::open(dir.join(SPEC)).map_err(EngineError::File)?;
            file.sync_data().map_err(EngineError::File)?;
            sync_dir(&dir)?;
            sync_dir(&self.pods)?;
        }
        if let Err(error) = self.claim(&spec.name, &spec.id) {
            let _ = fs_err::remove_dir_all(&dir);
            return Err(error);
        }
        if durable {
            sync_dir(&self.names)?;
        }
        Ok(())
    }

    fn claim(&self, name: &ContainerName, id: &ContainerId) -> Result<(), EngineError> {
        let link = self.names.join(name.as_str());
        let made = match symlink(id.as_str(), &link) {
            Err(error) if error.kind() == Io::NotFound => {
                make_dir(&self.names)?;
                symlink(id.as_str(), &link)
            }
            made => made,
        };
        match made {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == Io::AlreadyExists => {}
            Err(error) => return Err(file_error("naming", &link, &error)),
        }
        // Taken, unless by a pod that is no more; only one process may decide that at a time.
        let _lock = PodLock::wait_and_take(&self.names.join(".lock"))?;
        if let Ok(by) = std::fs::read_link(&link) {
            if self.pods.join(&by).join(SPEC).exists() {
                return Err(EngineError::NameTaken {
                    name: name.to_string(),
                    by: by.to_string_lossy().chars().take(12).collect(),
                });
            }
            remove_file(&link)?;
        }
        symlink(id.as_str(), &link).map_err(|error| file_error("naming", &link, &error))
    }

    /// Removes a pod's name and record. Nothing happens where they are gone.
    pub(crate) fn remove(&self, spec: &PodSpec) -> Result<(), EngineError> {
        if self.owns_its_name(spec) {
            let link = self.names.join(spec.name.as_str());
            // The lock keeps the name from becoming another's between the look and the removal.
            let _lock = PodLock::wait_and_take(&self.names.join(".lock"))?;
            if self.owns_its_name(spec) {
                remove_file(&link)?;
            }
        }
        let dir = self.dir(&spec.id);
        // The record goes last of what is in the directory: until then the pod can be found and removed again.
        let entries = match fs_err::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == Io::NotFound => return Ok(()),
            Err(error) => return Err(EngineError::File(error)),
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name() != SPEC {
                remove_file(&entry.path())?;
            }
        }
        remove_file(&dir.join(SPEC))?;
        match fs_err::remove_dir(&dir) {
            Err(error) if error.kind() != Io::NotFound => Err(EngineError::File(error)),
            _ => Ok(()),
        }
    }

    /// Whether the index knows this pod by its name: not so for one whose creation was cut off.
    pub(crate) fn owns_its_name(&self, spec: &PodSpec) -> bool {
        std::fs::read_link(self.names.join(spec.name.as_str()))
            .is_ok_and(|id| id.as_os_str() == spec.id.as_str())
    }

    /// The record of a pod; none where there is no such pod.
    pub(crate) fn get(&self, id: &ContainerId) -> Result<Option<PodSpec>, EngineError> {
        Ok(dhow_supervise::read(&self.dir(id).join(SPEC))?)
    }

    /// All records, latest created first.
    pub(crate) fn list(&self) -> Result<Vec<PodSpec>, EngineError> {
        let mut specs = Vec::new();
        for id in self.ids()? {
            // One that was just removed is not there any more.
            if let Some(spec) = self.get(&id)? {
                specs.push(spec);
            }
        }
        specs.sort_by(|a: &PodSpec, b| b.created.cmp(&a.created));
        Ok(specs)
    }

    /// The ids of all records, and of what was left of one.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, EngineError> {
        let entries = match fs_err::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(EngineError::File(error)),
        };
        Ok(entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// A pod by its name, its id or the beginning of its id.
    pub(crate) fn find(&self, name: &str) -> Result<PodSpec, EngineError> {
        let none = || EngineError::NoSuchContainer(name.to_owned());
        if name.parse::<ContainerName>().is_ok()
            && let Ok(id) = std::fs::read_link(self.names.join(name))
            && let Some(Ok(id)) = id.to_str().map(str::parse)
            && let Some(spec) = self.get(&id)?
        {
            return Ok(spec);
        }
        if name.is_empty() {
            return Err(none());
        }
        let mut fitting = self
            .ids()?
            .into_iter()
            .filter(|id| id.as_str().starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some(_), Some(_)) => Err(EngineError::Ambiguous(name.to_owned())),
            (Some(id), None) => self.get(&id)?.ok_or_else(none),
            (None, _) => Err(none()),
        }
    }
}

/// Makes a directory and what is missing above it, for its owner alone: records and bundles hold what people pass to containers, and
/// logs what those write.
pub(crate) fn make_dir(path: &Path) -> Result<(), EngineError> {
    make_dir_with_mode(path, 0o700)
}

/// The same with other permissions.
pub(crate) fn make_dir_with_mode(path: &Path, mode: u32) -> Result<(), EngineError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path);
    made.map_err(|error| file_error("making", path, &error))
}

fn remove_file(path: &Path) -> Result<(), EngineError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != Io::NotFound => Err(EngineError::File(error)),
        _ => Ok(()),
    }
}

fn sync_dir(path: &Path) -> Result<(), EngineError> {
    let dir = fs_err::File::open(path).map_err(EngineError::File)?;
    dir.sync_all().map_err(EngineError::File)
}

fn file_error(doing: &str, path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::File(std::io::Error::new(
        error.kind(),
        format!("{doing} {}: {error}", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use dhow_container_spec::ContainerOptions;

    use super::*;
    use crate::ContainerSpec;

    fn spec(name: &str) -> PodSpec {
        let id = ContainerId::random().unwrap();
        PodSpec {
            id: id.clone(),
            name: name.parse().unwrap(),
            created: "2024-01-01T00:00:00Z".into(),
            auto_remove: false,
            containers: vec![ContainerSpec {
                id,
                image: "x".into(),
                image_id: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
                command: vec!["true".into()],
                options: ContainerOptions::default(),
                stdin: false,
                stop_signal: "SIGTERM".into(),
                labels: Default::default(),
            }],
        }
    }

    fn records(test: &str) -> (PathBuf, Records) {
        let dir = std::env::temp_dir().join(format!("dhow-records-{test}-{}", std::process::id()));
        let records = Records::new(&dir);
        (dir, records)
    }

    #[test]
    fn a_pod_is_found_by_name_id_and_the_beginning_of_its_id() {
        let (dir, records) = records("find");
        let web = spec("web");
        records.create(&web, true).unwrap();
        for name in ["web", web.id.as_str(), web.id.short()] {
            assert_eq!(records.find(name).unwrap(), web, "{name}");
        }
        assert!(matches!(
            records.find("we"),
            Err(EngineError::NoSuchContainer(_))
        ));
        records.remove(&web).unwrap();
        records.remove(&web).unwrap();
        assert!(records.find("web").is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_name_is_one_pods_until_it_is_gone() {
        let (dir, records) = records("names");
        let (first, second) = (spec("web"), spec("web"));
        records.create(&first, false).unwrap();
        let refused = records.create(&second, false).unwrap_err();
        assert!(matches!(refused, EngineError::NameTaken { .. }));
        assert_eq!(records.list().unwrap(), std::slice::from_ref(&first));
        // A crash between name and record leaves a name that means nothing.
        std::fs::remove_dir_all(records.dir(&first.id)).unwrap();
        records.create(&second, false).unwrap();
        assert_eq!(records.find("web").unwrap(), second);
        // Removing the first again does not take the second's name.
        records.remove(&first).unwrap();
        assert_eq!(records.find("web").unwrap(), second);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn many_at_once_get_a_name_once() {
        let (dir, records) = records("race");
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| records.create(&spec("web"), false).is_ok()))
                .collect();
            tries
                .into_iter()
                .filter(|_| true)
                .map(|t| t.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(won, 1);
        assert_eq!(records.list().unwrap().len(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
