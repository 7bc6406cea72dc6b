//! Everything about a container in one document, in the shape that Docker's users know.

use serde_json::{Value, json};

use crate::{ContainerState, Engine, PodStatus};

impl Engine {
    /// A container as `docker inspect` shows one, as far as there is something to show.
    pub fn inspect(&self, pod: &PodStatus) -> Value {
        let spec = &pod.spec;
        let container = spec.first();
        let options = &container.options;
        let limits = &options.limits;
        let (path, args) = match container.command.split_first() {
            Some((path, args)) => (path.as_str(), args),
            None => ("", [].as_slice()),
        };
        json!({
            "Id": container.id,
            "Created": spec.created,
            "Name": format!("/{}", spec.name),
            "Path": path,
            "Args": args,
            "State": state(pod),
            "Image": container.image_id.to_string(),
            "LogPath": self.log(&spec.id),
            "HostConfig": {
                "AutoRemove": spec.auto_remove,
                "Privileged": options.confinement.privileged,
                "ReadonlyRootfs": options.read_only,
                "NetworkMode": options.network,
                "Memory": limits.memory.unwrap_or(0),
                "MemorySwap": limits.memory_swap.unwrap_or(0),
                "NanoCpus": limits.cpu_millis.unwrap_or(0) * 1_000_000,
                "CpuShares": limits.cpu_shares.unwrap_or(0),
                "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
                "PidsLimit": limits.pids,
                "CapAdd": options.confinement.cap_add,
                "CapDrop": options.confinement.cap_drop,
                "CgroupParent": options.cgroups_path,
                "UsernsMode": if options.user_namespace.is_some() { "private" } else { "" },
                "IDMappings": options.user_namespace.as_ref().map(|own| json!({
                    "UidMap": own.uids().iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "GidMap": own.gids().iter().map(ToString::to_string).collect::<Vec<_>>(),
                })),
            },
            "Mounts": options.mounts.iter().map(|mount| json!({
                "Type": "bind",
                "Source": mount.source,
                "Destination": mount.destination,
                "RW": !mount.read_only,
            })).collect::<Vec<_>>(),
            "Config": {
                "Hostname": options.hostname,
                "User": options.user.clone().unwrap_or_default(),
                "Tty": options.terminal,
                "OpenStdin": container.stdin,
                "Env": options.env,
                "Cmd": options.args,
                "Entrypoint": options.entrypoint,
                "Image": container.image,
                "WorkingDir": options.working_dir.clone().unwrap_or_default(),
                "Labels": container.labels,
                "StopSignal": container.stop_signal,
            },
        })
    }
}

fn state(pod: &PodStatus) -> Value {
    /// What Docker writes for a time that has not come.
    const NEVER: &str = "0001-01-01T00:00:00Z";
    match pod.state() {
        ContainerState::Created => json!({
            "Status": "created", "Running": false, "OOMKilled": false, "Pid": 0, "ExitCode": 0, "Error": "",
            "StartedAt": NEVER, "FinishedAt": NEVER,
        }),
        ContainerState::Running { pid, started } => json!({
            "Status": "running", "Running": true, "OOMKilled": false, "Pid": pid.unwrap_or(0), "ExitCode": 0, "Error": "",
            "StartedAt": started.unwrap_or_else(|| NEVER.into()), "FinishedAt": NEVER,
        }),
        ContainerState::Exited { started, exit } => json!({
            "Status": "exited", "Running": false, "OOMKilled": exit.oom_killed, "Pid": 0, "ExitCode": exit.code,
            "Error": exit.error.unwrap_or_default(),
            "StartedAt": started.unwrap_or_else(|| NEVER.into()), "FinishedAt": exit.finished,
        }),
    }
}
