//! A profile's rules as what is done with each number of an architecture.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::architecture::{Architecture, Group, Word, X32_BIT};
use super::{RETURN_ENOSYS, RETURN_KILL_THREAD, SeccompError};

/// What is done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same whatever its arguments are.
    Always(u32),
    /// What the first rule says whose conditions hold all; the last has none.
    ByArguments { rules: Rc<[Rule]>, word: Word },
}

/// An action, and what must hold of the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// What must hold of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) operator: LinuxSeccompOperator,
    pub(super) value: u64,
    /// For `MaskedEq`, in which `value` is the mask.
    pub(super) second: u64,
}

/// Numbers from `first` to the next span's first are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) decision: Decision,
}

/// A profile, checked.
pub(super) struct Profile<'a> {
    default: u32,
    /// Each of the profile's rules, in its order.
    entries: Vec<Entry>,
    /// Which of them name a call; none for a call that is only named by rules that say what the default says.
    named: HashMap<&'a str, Vec<usize>, BuildHasherDefault<NameHasher>>,
}

/// FNV-1a: names are short and looked up a thousand times each time that a container is made.
struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One rule of the profile.
struct Entry {
    action: u32,
    /// None: always. Otherwise any of these, each all of its conditions.
    alternatives: Vec<Vec<Condition>>,
}

impl<'a> Profile<'a> {
    pub(super) fn new(seccomp: &'a LinuxSeccomp) -> Result<Self, SeccompError> {
        let default = action(
            seccomp.default_action(),
            seccomp.default_errno_ret(),
            "all others",
        )?;
        let mut profile = Self {
            default,
            entries: Vec::new(),
            named: HashMap::with_capacity_and_hasher(512, BuildHasherDefault::default()),
        };
        for rule in seccomp.syscalls().iter().flatten() {
            profile.add(rule)?;
        }
        Ok(profile)
    }

    fn add(&mut self, rule: &'a LinuxSyscall) -> Result<(), SeccompError> {
        let name = rule.names().first().map_or("", String::as_str);
        let action = action(rule.action(), rule.errno_ret(), name)?;
        let conditions: Vec<Condition> = rule
            .args()
            .iter()
            .flatten()
            .map(|arg| condition(arg, name))
            .collect::<Result<_, _>>()?;
        if action == self.default {
            // As in runc it changes nothing, not even what another rule says of the same call; but the call is known.
            for name in rule.names() {
                self.named.entry(name).or_default();
            }
            return Ok(());
        }
        let index = self.entries.len();
        self.entries.push(Entry {
            action,
            alternatives: alternatives(conditions),
        });
        for name in rule.names() {
            self.named.entry(name).or_default().push(index);
        }
        Ok(())
    }

    /// What is done with every number of the architectures of one audit value, in order. The first span begins with 0.
    pub(super) fn spans(&self, group: &Group, newer: bool) -> Vec<Span> {
        let mut spans = Vec::with_capacity(128);
        let has = |wanted| group.members.contains(&wanted);
        let lower = group
            .members
            .iter()
            .find(|member| **member != Architecture::X32);
        match lower {
            Some(member) => self.add_spans(*member, 0, newer, &mut spans),
            None => push(&mut spans, 0, Decision::Always(RETURN_KILL_THREAD)),
        }
        if has(Architecture::X32) {
            self.add_spans(Architecture::X32, X32_BIT, newer, &mut spans);
        } else if has(Architecture::X86_64) {
            push(&mut spans, X32_BIT, Decision::Always(RETURN_KILL_THREAD));
            // A tracer writes -1 in place of a call's number to have it skipped.
            push(&mut spans, u32::MAX, Decision::Always(self.default));
        }
        spans
    }

    fn add_spans(&self, member: Architecture, from: u32, newer: bool, spans: &mut Vec<Span>) {
        let calls = self.calls(member);
        let mut next = from;
        for (number, decision) in calls.decisions {
            if number > next {
                push(spans, next, Decision::Always(self.default));
            }
            push(spans, number, decision);
            next = number + 1;
        }
        match calls.newest.filter(|_| newer) {
            Some(newest) => {
                if newest >= next {
                    push(spans, next, Decision::Always(self.default));
                }
                push(spans, newest + 1, Decision::Always(RETURN_ENOSYS));
            }
            None => push(spans, next, Decision::Always(self.default)),
        }
    }

    /// The calls of an architecture that the profile says something about, in the order of their numbers.
    fn calls(&self, member: Architecture) -> Calls {
        let mut calls = Calls {
            decisions: Vec::with_capacity(512),
            newest: None,
        };
        let mut by_first_argument: BTreeMap<u32, Vec<(usize, u32)>> = BTreeMap::new();
        member.visit(|name, number| {
            let Some(indices) = self.named.get(name) else {
                return;
            };
            calls.newest = calls.newest.max(Some(number));
            if !indices.is_empty() {
                let decision = self.decide(member, indices.iter().map(|index| (*index, None)));
                calls.decisions.push((number, decision));
            }
        });
        for (name, indices) in self.named.iter().filter(|_| member.multiplexes()) {
            if let Some((through, first)) = member.multiplexed(name) {
                let list = by_first_argument.entry(through).or_default();
                list.extend(indices.iter().map(|index| (*index, first)));
            }
        }
        for (through, mut list) in by_first_argument {
            let own = match through {
                102 => "socketcall",
                _ => "ipc",
            };
            list.sort_unstable();
            let own = self.named.get(own).into_iter().flatten();
            let all = own
                .map(|index| (*index, None))
                .chain(list.iter().map(|(index, first)| (*index, Some(*first))));
            calls.decisions.retain(|(number, _)| *number != through);
            calls.decisions.push((through, self.decide(member, all)));
        }
        calls.decisions.sort_by_key(|(number, _)| *number);
        calls.decisions.dedup_by_key(|(number, _)| *number);
        calls
    }

    /// What the entries together say of one call: the first that has no conditions holds, whatever stands beside it, as in
    /// libseccomp; otherwise the first whose conditions hold. With a number the first argument must be that.
    fn decide(
        &self,
        member: Architecture,
        entries: impl Iterator<Item = (usize, Option<u32>)>,
    ) -> Decision {
        let mut rules = Vec::new();
        for (index, first) in entries {
            let entry = &self.entries[index];
            if entry.alternatives.is_empty() && first.is_none() {
                return Decision::Always(entry.action);
            }
            let none = [Vec::new()];
            let alternatives = match entry.alternatives.as_slice() {
                [] => &none[..],
                some => some,
            };
            for conditions in alternatives {
                let conditions = match first {
                    None => conditions.clone(),
                    Some(first) => with_first(conditions, first),
                };
                rules.push(Rule {
                    conditions,
                    action: entry.action,
                });
            }
        }
        rules.push(Rule {
            conditions: Vec::new(),
            action: self.default,
        });
        Decision::ByArguments {
            rules: rules.into(),
            word: member.word(),
        }
    }
}

struct Calls {
    decisions: Vec<(u32, Decision)>,
    /// The largest number that the profile names.
    newest: Option<u32>,
}

/// Adds a span, unless it goes on with what the one before it says.
fn push(spans: &mut Vec<Span>, first: u32, decision: Decision) {
    if spans.last().is_none_or(|last| last.decision != decision) {
        spans.push(Span { first, decision });
    }
}

/// The first argument tells which call it is, so that a condition on it cannot be meant.
fn with_first(conditions: &[Condition], first: u32) -> Vec<Condition> {
    let which = Condition {
        argument: 0,
        operator: LinuxSeccompOperator::ScmpCmpEq,
        value: first.into(),
        second: 0,
    };
    let others = conditions.iter().filter(|other| other.argument != 0);
    std::iter::once(which).chain(others.copied()).collect()
}

/// All conditions together; but where two are about one argument each by itself, as runc has done since it had no other way.
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    if conditions.is_empty() {
        return Vec::new();
    }
    let mut seen = 0u8;
    let repeated = conditions.iter().any(|condition| {
        let bit = 1 << condition.argument;
        let again = seen & bit != 0;
        seen |= bit;
        again
    });
    if repeated {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    }
}

fn condition(arg: &LinuxSeccompArg, syscall: &str) -> Result<Condition, SeccompError> {
    let argument = u8::try_from(arg.index())
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| SeccompError::Argument {
            syscall: syscall.to_owned(),
            index: arg.index(),
        })?;
    Ok(Condition {
        argument,
        operator: arg.op(),
        value: arg.value(),
        // Bits outside of the mask are not looked at on either side, as in libseccomp.
        second: arg.value_two().unwrap_or(0) & arg.value(),
    })
}

/// `SECCOMP_RET_*` with its data; EPERM where an errno is wanted and none is named.
fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    syscall: &str,
) -> Result<u32, SeccompError> {
    let largest = match action {
        LinuxSeccompAction::ScmpActErrno => 4095,
        LinuxSeccompAction::ScmpActTrace => 0xffff,
        _ if errno.is_some() => {
            return Err(SeccompError::NoErrno {
                syscall: syscall.to_owned(),
                action,
            });
        }
        _ => u32::MAX,
    };
    match errno {
        Some(errno) if errno > largest => Err(SeccompError::Errno {
            syscall: syscall.to_owned(),
            errno,
        }),
        other => Ok(action.as_u32(other)),
    }
}
