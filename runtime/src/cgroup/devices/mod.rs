//! Which devices a container may use: the specification's rules, and those that every container has.
//!
//! Rules hold in order, the last that matches an access decides, and what none matches is denied. v1 has a controller that
//! knows one default and exceptions from it; v2 asks an eBPF program.

mod bpf;
pub(super) mod systemd;
mod v1;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::io::Errno;

use super::{Cgroup, CgroupError, Controller};
use crate::privilege::is_unprivileged;

const LIMIT: &str = "a device rule";

/// May be made with mknod(2).
const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MAKE | READ | WRITE;

/// Block or character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block,
    Char,
}

/// Which devices a rule is about; what is not told is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Devices {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Devices {
    /// Whether every device of `other` is one of these.
    fn cover(&self, other: &Self) -> bool {
        let covers = |mine: Option<u32>, others: Option<u32>| mine.is_none() || mine == others;
        self.kind == other.kind
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// Whether some device is one of both.
    fn meet(&self, other: &Self) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    devices: Devices,
    access: u8,
}

/// What is decided where no rule matches, and the rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    allow: bool,
    rules: Vec<Rule>,
}

/// Sets the rules of a container that asks for these; none is asked for by most, and they have the basic devices.
pub(super) fn set(
    cgroup: &Cgroup,
    asked: Option<&[LinuxDeviceCgroup]>,
    fresh: bool,
) -> Result<(), CgroupError> {
    let rules = Rules::new(asked.unwrap_or(&[]))?;
    let set = match (cgroup.controller("devices", ""), cgroup.v2()) {
        (Some(Controller::V1(directory)), _) => v1::set(directory, &rules, fresh),
        (_, Some(directory)) => bpf::set(directory, &rules, fresh),
        // Nobody can hold a container to rules on such a host; who asks for some must know.
        // (In a user namespace, as below, there are no devices to hold it to.)
        _ if asked.is_some_and(|asked| !asked.is_empty())
            && !rules.allow_everything()
            && !is_unprivileged() =>
        {
            Err(CgroupError::MissingController {
                controller: "devices",
                limit: LIMIT,
            })
        }
        _ => Ok(()),
    };
    match set {
        // In a user namespace no device can be made, and the rules of the cgroup above hold.
        Err(CgroupError::Write { ref source, .. } | CgroupError::Devices { ref source, .. })
            if is_permission(source) && is_unprivileged() =>
        {
            Ok(())
        }
        other => other,
    }
}

fn is_permission(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::PERM.raw_os_error()) || code == Some(Errno::ACCESS.raw_os_error())
}

impl Rules {
    fn new(asked: &[LinuxDeviceCgroup]) -> Result<Self, CgroupError> {
        let mut rules = Self {
            allow: false,
            rules: Vec::new(),
        };
        for rule in asked {
            rules.add_asked(rule)?;
        }
        // Where everything is allowed but what is named, what is named stays denied.
        if !rules.allow {
            for rule in basic() {
                rules.add(rule);
            }
        }
        Ok(rules)
    }

    fn allow_everything(&self) -> bool {
        self.allow && self.rules.is_empty()
    }

    fn add_asked(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), CgroupError> {
        let access = access(rule.access().as_deref())?;
        let major = number(rule.major())?;
        let minor = number(rule.minor())?;
        let kinds: &[Kind] = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => {
                if major.is_none() && minor.is_none() && access == ALL {
                    self.allow = rule.allow();
                    self.rules.clear();
                    return Ok(());
                }
                &[Kind::Block, Kind::Char]
            }
            LinuxDeviceType::B => &[Kind::Block],
            LinuxDeviceType::C | LinuxDeviceType::U => &[Kind::Char],
            LinuxDeviceType::P => {
                return Err(super::limits::wrong(
                    LIMIT,
                    "a FIFO is no device, and its use cannot be limited",
                ));
            }
        };
        for kind in kinds {
            self.add(Rule {
                allow: rule.allow(),
                devices: Devices {
                    kind: *kind,
                    major,
                    minor,
                },
                access,
            });
        }
        Ok(())
    }

    /// Adds a rule, unless it says what is so already: no rule before it says otherwise about any of its devices.
    fn add(&mut self, rule: Rule) {
        let opposed = self
            .rules
            .iter()
            .any(|other| other.allow != rule.allow && other.devices.meet(&rule.devices));
        let said = self.allow == rule.allow
            || self.rules.iter().any(|other| {
                other.allow == rule.allow
                    && other.devices.cover(&rule.devices)
                    && rule.access & !other.access == 0
            });
        if opposed || !said {
            self.rules.push(rule);
        }
    }
}

fn access(text: Option<&str>) -> Result<u8, CgroupError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(ALL);
    };
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MAKE),
        _ => Err(super::limits::wrong(
            LIMIT,
            format!("the access {text:?} is not made of r, w and m"),
        )),
    })
}

/// -1 is any, as in runc.
fn number(number: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match number {
        None | Some(-1) => Ok(None),
        // The kernel's device numbers have 12 and 20 bits.
        Some(number @ 0..=0xf_ffff) => Ok(u32::try_from(number).ok()),
        Some(number) => Err(super::limits::wrong(
            LIMIT,
            format!("{number} is no device number"),
        )),
    }
}

/// What every container may use, as in runc: the making of any node, since a node alone opens nothing; the devices of
/// every /dev; and its own terminals.
fn basic() -> Vec<Rule> {
    let rule = |kind, major, minor, access| Rule {
        allow: true,
        devices: Devices { kind, major, minor },
        access,
    };
    let mut rules = vec![
        rule(Kind::Char, None, None, MAKE),
        rule(Kind::Block, None, None, MAKE),
    ];
    // null, zero, full, random, urandom; tty, ptmx.
    for (major, minors) in [(1, &[3, 5, 7, 8, 9][..]), (5, &[0, 2])] {
        rules.extend(
            minors
                .iter()
                .map(|minor| rule(Kind::Char, Some(major), Some(*minor), ALL)),
        );
    }
    rules.push(rule(Kind::Char, Some(136), None, ALL));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    pub(super) fn asked(
        allow: bool,
        typ: LinuxDeviceType,
        major: i64,
        minor: i64,
        access: &str,
    ) -> LinuxDeviceCgroup {
        LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .typ(typ)
            .major(major)
            .minor(minor)
            .access(access)
            .build()
            .unwrap()
    }

    #[test]
    fn a_rule_about_everything_forgets_those_before_it() {
        let all = asked(true, LinuxDeviceType::A, -1, -1, "rwm");
        let one = asked(false, LinuxDeviceType::C, 10, 200, "rwm");
        assert!(
            Rules::new(&[one.clone(), all.clone()])
                .unwrap()
                .allow_everything()
        );
        assert_eq!(Rules::new(&[all, one]).unwrap().rules.len(), 1);
    }

    #[test]
    fn what_is_said_already_is_not_said_again() {
        let basic_only = Rules::new(&[]).unwrap();
        let again = [
            asked(false, LinuxDeviceType::A, -1, -1, "rwm"),
            asked(true, LinuxDeviceType::C, 1, 3, "rwm"),
        ];
        assert_eq!(
            Rules::new(&again).unwrap().rules.len(),
            basic_only.rules.len()
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert!(Rules::new(&[asked(true, LinuxDeviceType::P, 1, 1, "r")]).is_err());
        assert!(Rules::new(&[asked(true, LinuxDeviceType::C, 1, 1, "x")]).is_err());
        assert!(Rules::new(&[asked(true, LinuxDeviceType::C, -7, 1, "r")]).is_err());
    }
}
