//! Which capabilities a container has.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::Confinement;

/// A name that is no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a capability; write its name as in capabilities(7), for example NET_ADMIN")]
pub struct CapabilityError(String);

/// The set that Docker gives.
pub fn default_capabilities() -> HashSet<Capability> {
    use Capability as C;
    HashSet::from([
        C::AuditWrite,
        C::Chown,
        C::DacOverride,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Mknod,
        C::NetBindService,
        C::NetRaw,
        C::Setfcap,
        C::Setgid,
        C::Setpcap,
        C::Setuid,
        C::SysChroot,
    ])
}

/// Every capability that the specification names.
pub fn all_capabilities() -> HashSet<Capability> {
    use Capability as C;
    let mut all = default_capabilities();
    all.extend([
        C::AuditControl,
        C::AuditRead,
        C::BlockSuspend,
        C::Bpf,
        C::CheckpointRestore,
        C::DacReadSearch,
        C::IpcLock,
        C::IpcOwner,
        C::Lease,
        C::LinuxImmutable,
        C::MacAdmin,
        C::MacOverride,
        C::NetAdmin,
        C::NetBroadcast,
        C::Perfmon,
        C::SysAdmin,
        C::SysBoot,
        C::SysModule,
        C::SysNice,
        C::SysPacct,
        C::SysPtrace,
        C::SysRawio,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Syslog,
        C::WakeAlarm,
    ]);
    all
}

/// A capability by its name, with or without `CAP_`, in any case.
///
/// # Errors
/// When there is none of that name.
pub fn parse_capability(name: &str) -> Result<Capability, CapabilityError> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|_| CapabilityError(name.to_owned()))
}

impl Confinement {
    /// The capabilities that the container's root has.
    pub fn capabilities(&self) -> HashSet<Capability> {
        if self.privileged {
            return held_by_this_process();
        }
        let mut set = match (self.cap_add_all, self.cap_drop_all) {
            (true, _) => held_by_this_process(),
            (false, true) => HashSet::new(),
            (false, false) => default_capabilities(),
        };
        for dropped in &self.cap_drop {
            set.remove(dropped);
        }
        set.extend(self.cap_add.iter().copied());
        set
    }
}

/// What "all" can mean: a process cannot give what it does not have.
fn held_by_this_process() -> HashSet<Capability> {
    let all = all_capabilities();
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return all;
    };
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match bounding {
        Some(mask) => all
            .into_iter()
            .filter(|capability| mask & (1 << number(*capability)) != 0)
            .collect(),
        None => all,
    }
}

/// The kernel's number of a capability (linux/capability.h).
fn number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}

/// The sets of a process: root has them all, another user only the bounding set, from which a set-user-id program or file capabilities draw.
pub(crate) fn sets(capabilities: &HashSet<Capability>, is_root: bool) -> LinuxCapabilities {
    let held = if is_root {
        capabilities.clone()
    } else {
        HashSet::new()
    };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()));
    sets.set_effective(Some(held.clone()));
    sets.set_permitted(Some(held));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for name in ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(parse_capability(name).unwrap(), Capability::NetAdmin);
        }
        assert!(parse_capability("NET_ADMINS").is_err());
    }

    #[test]
    fn dropping_all_leaves_what_was_added() {
        let confinement = Confinement {
            cap_drop_all: true,
            cap_add: vec![Capability::Chown],
            ..Default::default()
        };
        assert_eq!(
            confinement.capabilities(),
            HashSet::from([Capability::Chown])
        );
    }

    #[test]
    fn every_capability_has_a_number_of_its_own() {
        let numbers: HashSet<u32> = all_capabilities().into_iter().map(number).collect();
        assert_eq!(numbers.len(), 41);
    }
}
