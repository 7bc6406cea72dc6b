//! Who a registry is told that we are.

use std::path::PathBuf;

/// Where names and passwords come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// From Docker's `config.json`: the file named, else `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    /// A file that is not there means none.
    DockerConfig(Option<PathBuf>),
    /// Nobody.
    #[default]
    Anonymous,
}
