//! Network interfaces of the host's that a container gets (config-linux.md, "Network Devices").

use std::path::PathBuf;

use oci_spec::runtime::Linux;

use super::step::Step;
use crate::spec::SpecError;

/// The steps, in the order of the names. `has_namespace` says whether the container has a network namespace of its own, which
/// is at `joined` if it is another's.
pub(super) fn net_device_steps(
    linux: &Linux,
    has_namespace: bool,
    joined: Option<&PathBuf>,
) -> Result<Vec<Step>, SpecError> {
    let invalid = |what: String| SpecError::Invalid {
        what: format!("linux.netDevices: {what}"),
    };
    let mut devices: Vec<_> = linux.net_devices().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    let mut steps = Vec::new();
    for (from, device) in devices {
        if !has_namespace {
            return Err(invalid(
                "linux.namespaces lacks the network namespace that they would move to".to_owned(),
            ));
        }
        let to = device.name().clone().filter(|name| !name.is_empty());
        let to = to.unwrap_or_else(|| from.clone());
        for name in [from, &to] {
            if !is_name(name) {
                return Err(invalid(format!("{name:?} is no name of an interface")));
            }
        }
        steps.push(Step::MoveNetDevice {
            from: from.clone(),
            to,
            namespace: joined.cloned(),
        });
    }
    Ok(steps)
}

/// The kernel's rules for names of interfaces.
fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    // As a template it may have one %d.
    let percent = name.matches('%').count();
    if percent > 1 || (percent == 1 && !name.contains("%d")) {
        return false;
    }
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && !name.contains(forbidden)
}
