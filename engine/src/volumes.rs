//! Named volumes: directories that outlive containers.

use std::path::PathBuf;

use crate::records::{make_dir, make_dir_with_mode};
use crate::{ContainerName, Engine, EngineError};

impl Engine {
    /// The directory of the volume `name`, which is made when it is not there.
    ///
    /// # Errors
    /// When it is no name (the rules are those of containers), or the directory cannot be made.
    pub fn volume(&self, name: &str) -> Result<PathBuf, EngineError> {
        let name: ContainerName = name.parse().map_err(|_| {
            EngineError::Invalid(format!(
                "{name:?} is neither an absolute path nor a volume's name (letters, digits, '_', '.' and '-')"
            ))
        })?;
        let all = self.root.join("volumes");
        make_dir(&all)?;
        let dir = all.join(name.as_str());
        // What it is to whom in the container is a matter of its own; from the host nobody else comes this far.
        make_dir_with_mode(&dir, 0o755)?;
        Ok(dir)
    }
}
