//! `state`, `list` and `ps`.

use super::Runtime;
use super::members::members;
use crate::container::{ContainerDir, Record, Status};
use crate::error::Error;

/// A container among others.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its record.
    pub record: Record,
    /// Where it is in its life.
    pub status: Status,
}

/// The state of a container.
///
/// # Errors
/// When there is none.
pub fn state(runtime: &Runtime, id: &str) -> Result<Listed, Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let record = dir.record()?;
    let status = dir.status(&record);
    Ok(Listed { record, status })
}

/// All containers, by id. What has no whole record (one that is being made, or that a crash left) is not among them.
///
/// # Errors
/// When the directory cannot be read; that it is missing is none.
pub fn list(runtime: &Runtime) -> Result<Vec<Listed>, Error> {
    crate::container::check_root(&runtime.root)?;
    let entries = match std::fs::read_dir(&runtime.root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::File {
                path: runtime.root.clone(),
                source,
            });
        }
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|id| crate::container::check_id(id).is_ok())
        .collect();
    ids.sort();
    Ok(ids
        .iter()
        .filter_map(|id| state(runtime, id).ok())
        .collect())
}

/// The ids (on the host) of all processes of a container.
///
/// # Errors
/// When there is none, its cgroup cannot be read, or it has neither a cgroup nor a pid namespace.
pub fn processes(runtime: &Runtime, id: &str) -> Result<Vec<i32>, Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    let record = dir.record()?;
    members(&record)
}
