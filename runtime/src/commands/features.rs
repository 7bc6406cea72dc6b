//! `features`: what this runtime can do, as the specification's document.

use serde_json::{Value, json};

use crate::capabilities;
use crate::container::OCI_VERSION;
use crate::plan::mount_options;

/// The features document (OCI runtime specification, "Features").
pub fn features() -> Value {
    let capabilities: Vec<String> = capabilities::names(u64::MAX).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "mountOptions": mount_options::NAMES.as_slice(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
                "rdma": true
            },
            "seccomp": seccomp(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true }
        },
        "annotations": {
            "io.dhow.runtime.version": env!("CARGO_PKG_VERSION")
        },
        "potentiallyUnsafeConfigAnnotations": [
            super::checkpoint::CRIU_CONFIG, crate::cgroup::SYSTEMD_PROPERTY
        ]
    })
}

fn seccomp() -> Value {
    let flags = [
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ];
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP"
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
        ],
        "archs": [
            "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
            "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
            "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
            "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64",
            "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB", "SCMP_ARCH_X32",
            "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"
        ],
        "knownFlags": flags,
        "supportedFlags": flags
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sees that what is told is what a configuration may say: every word of a list is one of the type's.
    fn all_parse<T: serde::de::DeserializeOwned>(list: &Value) {
        let words = list.as_array().unwrap();
        assert!(!words.is_empty());
        for word in words {
            assert!(serde_json::from_value::<T>(word.clone()).is_ok(), "{word}");
        }
    }

    #[test]
    fn every_word_is_one_that_a_configuration_may_say() {
        use oci_spec::runtime as oci;
        let features = features();
        let linux = &features["linux"];
        all_parse::<oci::Arch>(&linux["seccomp"]["archs"]);
        all_parse::<oci::LinuxSeccompAction>(&linux["seccomp"]["actions"]);
        all_parse::<oci::LinuxSeccompOperator>(&linux["seccomp"]["operators"]);
        all_parse::<oci::LinuxSeccompFilterFlag>(&linux["seccomp"]["supportedFlags"]);
        all_parse::<oci::MemoryPolicyModeType>(&linux["memoryPolicy"]["modes"]);
        all_parse::<oci::MemoryPolicyFlagType>(&linux["memoryPolicy"]["flags"]);
        all_parse::<oci::LinuxNamespaceType>(&linux["namespaces"]);
        all_parse::<oci::Capability>(&linux["capabilities"]);
        assert_eq!(features["ociVersionMax"], "1.3.0");
        // What annotations may change is what they are looked at for; a name with a dot at its end is the beginning of many.
        assert_eq!(
            features["potentiallyUnsafeConfigAnnotations"],
            json!(["org.criu.config", "org.systemd.property."])
        );
    }
}
