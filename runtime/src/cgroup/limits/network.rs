//! Marks on network traffic, which only v1 has, and remote memory access.

use oci_spec::runtime::{LinuxNetwork, LinuxRdma};

use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Sets what is asked for.
pub(super) fn set(cgroup: &Cgroup, network: &LinuxNetwork) -> Result<(), CgroupError> {
    let missing = |controller, limit| CgroupError::MissingController { controller, limit };
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        match cgroup.controller("net_cls", "") {
            Some(Controller::V1(directory)) => {
                directory.write("net_cls.classid", &class.to_string())?;
            }
            _ => return Err(missing("net_cls", "the class of network traffic")),
        }
    }
    for priority in network.priorities().iter().flatten() {
        match cgroup.controller("net_prio", "") {
            Some(Controller::V1(directory)) => directory.write(
                "net_prio.ifpriomap",
                &format!("{} {}", priority.name(), priority.priority()),
            )?,
            _ => return Err(missing("net_prio", "the priority of network traffic")),
        }
    }
    Ok(())
}

/// Limits a device for remote memory access; both versions have the same file.
pub(super) fn set_rdma(
    cgroup: &Cgroup,
    device: &str,
    limit: &LinuxRdma,
) -> Result<(), CgroupError> {
    let (Controller::V1(directory) | Controller::V2(directory)) =
        cgroup.require("rdma", "rdma", "the limit on remote memory access")?;
    let mut value = device.to_owned();
    for (key, limit) in [
        ("hca_handle", limit.hca_handles()),
        ("hca_object", limit.hca_objects()),
    ] {
        if let Some(limit) = limit {
            value.push_str(&format!(" {key}={limit}"));
        }
    }
    directory.write("rdma.max", &value)
}
