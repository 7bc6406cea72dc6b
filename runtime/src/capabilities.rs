//! Capabilities: the names of the spec and the bits of the kernel.

use oci_spec::runtime::{Capabilities, Capability};
use rustix::thread::CapabilitySet;

/// The bit of a capability.
pub fn bit(capability: Capability) -> u64 {
    let set = match capability {
        Capability::Chown => CapabilitySet::CHOWN,
        Capability::DacOverride => CapabilitySet::DAC_OVERRIDE,
        Capability::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
        Capability::Fowner => CapabilitySet::FOWNER,
        Capability::Fsetid => CapabilitySet::FSETID,
        Capability::Kill => CapabilitySet::KILL,
        Capability::Setgid => CapabilitySet::SETGID,
        Capability::Setuid => CapabilitySet::SETUID,
        Capability::Setpcap => CapabilitySet::SETPCAP,
        Capability::LinuxImmutable => CapabilitySet::LINUX_IMMUTABLE,
        Capability::NetBindService => CapabilitySet::NET_BIND_SERVICE,
        Capability::NetBroadcast => CapabilitySet::NET_BROADCAST,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::NetRaw => CapabilitySet::NET_RAW,
        Capability::IpcLock => CapabilitySet::IPC_LOCK,
        Capability::IpcOwner => CapabilitySet::IPC_OWNER,
        Capability::SysModule => CapabilitySet::SYS_MODULE,
        Capability::SysRawio => CapabilitySet::SYS_RAWIO,
        Capability::SysChroot => CapabilitySet::SYS_CHROOT,
        Capability::SysPtrace => CapabilitySet::SYS_PTRACE,
        Capability::SysPacct => CapabilitySet::SYS_PACCT,
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
        Capability::SysBoot => CapabilitySet::SYS_BOOT,
        Capability::SysNice => CapabilitySet::SYS_NICE,
        Capability::SysResource => CapabilitySet::SYS_RESOURCE,
        Capability::SysTime => CapabilitySet::SYS_TIME,
        Capability::SysTtyConfig => CapabilitySet::SYS_TTY_CONFIG,
        Capability::Mknod => CapabilitySet::MKNOD,
        Capability::Lease => CapabilitySet::LEASE,
        Capability::AuditWrite => CapabilitySet::AUDIT_WRITE,
        Capability::AuditControl => CapabilitySet::AUDIT_CONTROL,
        Capability::Setfcap => CapabilitySet::SETFCAP,
        Capability::MacOverride => CapabilitySet::MAC_OVERRIDE,
        Capability::MacAdmin => CapabilitySet::MAC_ADMIN,
        Capability::Syslog => CapabilitySet::SYSLOG,
        Capability::WakeAlarm => CapabilitySet::WAKE_ALARM,
        Capability::BlockSuspend => CapabilitySet::BLOCK_SUSPEND,
        Capability::AuditRead => CapabilitySet::AUDIT_READ,
        Capability::Perfmon => CapabilitySet::PERFMON,
        Capability::Bpf => CapabilitySet::BPF,
        Capability::CheckpointRestore => CapabilitySet::CHECKPOINT_RESTORE,
    };
    set.bits()
}

/// All that are known.
pub const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The bits of a set.
pub fn bits(set: &Capabilities) -> u64 {
    set.iter()
        .fold(0, |bits, capability| bits | bit(*capability))
}

/// The names (CAP_...) of bits.
pub fn names(bits: u64) -> impl Iterator<Item = String> {
    ALL.into_iter()
        .filter(move |capability| bits & bit(*capability) != 0)
        .map(|capability| format!("CAP_{capability}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_its_own_bit_and_name() {
        let all = ALL
            .into_iter()
            .fold(0, |bits, capability| bits | bit(capability));
        assert_eq!(all, (1 << 41) - 1);
        assert_eq!(names(1).collect::<Vec<_>>(), ["CAP_CHOWN"]);
        assert_eq!(names(1 << 21).collect::<Vec<_>>(), ["CAP_SYS_ADMIN"]);
    }
}
