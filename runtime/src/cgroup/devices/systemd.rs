//! Device rules as systemd's properties. They are told so that systemd, which applies its own, does not stand against ours.

use super::v1::exceptions;
use super::{Devices, Kind, MAKE, READ, Rules, WRITE};
use crate::cgroup::CgroupError;
use crate::cgroup::systemd::{Property, Value};
use oci_spec::runtime::LinuxDeviceCgroup;

/// The properties for rules; the first clears what the unit had.
pub(in crate::cgroup) fn properties(
    asked: &[LinuxDeviceCgroup],
) -> Result<Vec<Property>, CgroupError> {
    let rules = Rules::new(asked)?;
    let allowed = allowed(&rules);
    // What systemd cannot say, it is not to hinder: the cgroup's own rules decide alone then.
    let policy = match allowed {
        Some(_) => "strict",
        None => "auto",
    };
    let mut found = vec![
        ("DeviceAllow".to_owned(), Value::Pairs(Vec::new())),
        ("DevicePolicy".to_owned(), Value::Text(policy.to_owned())),
    ];
    if let Some(allowed) = allowed {
        found.push(("DeviceAllow".to_owned(), Value::Pairs(allowed)));
    }
    Ok(found)
}

/// What is allowed where nothing else is, in systemd's words, if it has them.
fn allowed(rules: &Rules) -> Option<Vec<(String, String)>> {
    if rules.allow {
        return None;
    }
    exceptions(rules)
        .ok()?
        .iter()
        .map(|(devices, access)| Some((path(devices)?, letters(*access))))
        .collect()
}

fn path(devices: &Devices) -> Option<String> {
    let kind = match devices.kind {
        Kind::Block => "block",
        Kind::Char => "char",
    };
    match (devices.major, devices.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        // Since systemd 240; the group's name before.
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
        .into_iter()
        .filter_map(|(bit, letter)| (access & bit != 0).then_some(letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;
    use oci_spec::runtime::LinuxDeviceType as Type;

    #[test]
    fn what_systemd_has_no_word_for_is_left_to_the_cgroup() {
        let policy = |asked: &[LinuxDeviceCgroup]| properties(asked).unwrap()[1].1.clone();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(policy(&[]), text("strict"));
        assert_eq!(policy(&[asked(true, Type::A, -1, -1, "rwm")]), text("auto"));
        assert_eq!(policy(&[asked(true, Type::C, -1, 7, "r")]), text("auto"));
        let found = properties(&[asked(true, Type::B, 8, -1, "rw")]).unwrap();
        let Value::Pairs(pairs) = &found[2].1 else {
            panic!("{found:?}");
        };
        for (path, letters) in [("block-8", "rw"), ("/dev/char/1:3", "rwm"), ("char-*", "m")] {
            let pair = (path.to_owned(), letters.to_owned());
            assert!(pairs.contains(&pair), "{pairs:?}");
        }
    }
}
