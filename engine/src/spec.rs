//! What a person asked for, as it is kept.

use dhow_container_spec::ContainerOptions;
use dhow_image::Digest;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerName};

/// A pod: containers that live and end together. Durable; written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Its id; that of its container in a pod of one.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Its containers, in the order in which they are started; at least one.
    pub containers: Vec<ContainerSpec>,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Its id.
    pub id: ContainerId,
    /// The image as it was named.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// The whole command, as it is shown to people.
    pub command: Vec<String>,
    /// What was asked of it.
    pub options: ContainerOptions,
    /// Whether its standard input stays open.
    pub stdin: bool,
    /// The signal that asks it to end.
    pub stop_signal: String,
    /// The labels of the image and those that were asked for.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl PodSpec {
    /// The first container: the only one of a pod of one.
    ///
    /// # Panics
    /// Never: a pod without containers is not created.
    pub fn first(&self) -> &ContainerSpec {
        &self.containers[0]
    }
}
