//! The v1 devices controller: one default, and exceptions from it.

use std::collections::BTreeMap;

use super::{Devices, Kind, LIMIT, MAKE, READ, Rules, WRITE};
use crate::cgroup::directory::Directory;
use crate::cgroup::{CgroupError, limits};

/// Writes the rules. A cgroup that was just made allows what the one above it allows.
pub(super) fn set(directory: &Directory, rules: &Rules, fresh: bool) -> Result<(), CgroupError> {
    if fresh && rules.allow_everything() {
        return Ok(());
    }
    let exceptions = exceptions(rules)?;
    let (default, other) = if rules.allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    directory.write(default, "a")?;
    let file = directory
        .open(other, rustix::fs::OFlags::WRONLY)
        .map_err(|errno| directory.refused(other, "", errno))?;
    for (devices, access) in exceptions {
        let line = line(&devices, access);
        rustix::io::write(&file, line.as_bytes())
            .map_err(|errno| directory.refused(other, &line, errno))?;
    }
    Ok(())
}

fn line(devices: &Devices, access: u8) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = match devices.kind {
        Kind::Block => 'b',
        Kind::Char => 'c',
    };
    let letters: String = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
        .into_iter()
        .filter_map(|(bit, letter)| (access & bit != 0).then_some(letter))
        .collect();
    format!(
        "{kind} {}:{} {letters}",
        number(devices.major),
        number(devices.minor)
    )
}

/// The rules in order as exceptions without order.
pub(super) fn exceptions(rules: &Rules) -> Result<BTreeMap<Devices, u8>, CgroupError> {
    let mut exceptions: BTreeMap<Devices, u8> = BTreeMap::new();
    for rule in &rules.rules {
        if rule.allow != rules.allow {
            *exceptions.entry(rule.devices).or_default() |= rule.access;
            continue;
        }
        for (devices, access) in &mut exceptions {
            if rule.devices.cover(devices) {
                *access &= !rule.access;
            } else if rule.devices.meet(devices) && *access & rule.access != 0 {
                return Err(limits::wrong(
                    LIMIT,
                    format!(
                        "\"{}\" takes a part out of \"{}\" before it, which cgroup v1 cannot express",
                        line(&rule.devices, rule.access),
                        line(devices, *access)
                    ),
                ));
            }
        }
        exceptions.retain(|_, access| *access != 0);
    }
    Ok(exceptions)
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;
    use oci_spec::runtime::LinuxDeviceType as Type;

    #[test]
    fn a_later_rule_takes_back_what_it_covers() {
        let rules = Rules::new(&[
            asked(true, Type::B, 8, 0, "rw"),
            asked(true, Type::B, 8, 16, "rw"),
            asked(false, Type::B, 8, -1, "w"),
        ])
        .unwrap();
        let lines: Vec<String> = exceptions(&rules)
            .unwrap()
            .iter()
            .map(|(devices, access)| line(devices, *access))
            .collect();
        assert!(lines.contains(&"b 8:0 r".to_owned()), "{lines:?}");
        assert!(lines.contains(&"b 8:16 r".to_owned()));
        assert!(lines.contains(&"c *:* m".to_owned()));
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
    }

    #[test]
    fn a_hole_is_refused() {
        let rules = Rules::new(&[
            asked(true, Type::B, 8, -1, "rw"),
            asked(false, Type::B, 8, 16, "rw"),
        ])
        .unwrap();
        assert!(exceptions(&rules).is_err());
    }
}
