//! The labels that security modules give to programs.

use std::path::Path;

use oci_spec::runtime::Linux;

use crate::plan::LabelModule;
use crate::spec::{Process, SpecError};

/// A label that asks for nothing, so that it can be had anywhere.
const UNCONFINED: &str = "unconfined";

impl LabelModule {
    /// Whether the kernel has the module and it is on.
    pub fn is_enabled(self) -> bool {
        match self {
            Self::AppArmor => std::fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.first() == Some(&b'Y')),
            Self::Selinux => Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}

/// Sees that the kernel can give the labels that are asked for: a program without its confinement must not begin.
///
/// # Errors
/// When it cannot.
pub(crate) fn check(process: &Process, linux: Option<&Linux>) -> Result<(), SpecError> {
    let unavailable = |what: &str, module: &str| SpecError::Invalid {
        what: format!(
            "{what} is set, but {module} is not enabled on this machine; enable it or leave {what} out"
        ),
    };
    let asked = |label: Option<&String>| label.is_some_and(|label| !label.is_empty());
    let profile = process
        .apparmor_profile()
        .as_ref()
        .filter(|name| *name != UNCONFINED);
    if asked(profile) && !LabelModule::AppArmor.is_enabled() {
        return Err(unavailable("process.apparmorProfile", "AppArmor"));
    }
    let selinux = [
        ("process.selinuxLabel", process.selinux_label().as_ref()),
        (
            "linux.mountLabel",
            linux.and_then(|linux| linux.mount_label().as_ref()),
        ),
    ];
    for (what, label) in selinux {
        if asked(label) && !LabelModule::Selinux.is_enabled() {
            return Err(unavailable(what, "SELinux"));
        }
    }
    Ok(())
}
