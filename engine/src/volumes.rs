//! Named volumes: directories that outlive containers.

use std::path::PathBuf;

use crate::records::make_dir;
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
        let dir = self.root.join("volumes").join(name.as_str());
        make_dir(&dir)?;
        Ok(dir)
    }
}
