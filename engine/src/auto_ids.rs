//! User namespaces whose ids nobody else has (`--userns auto`): taken from those that /etc/subuid and /etc/subgid give the user
//! `containers`, as podman does.

use std::ops::Range;

use dhow_container_spec::{IdMapError, IdRange, UserNamespace, check_ranges};

use crate::{Engine, EngineError, PodSpec};

/// To whom the files give the ids of containers.
const OWNER: &str = "containers";
/// As many as most images' files have owners, `nobody` among them.
const SIZE: u32 = 65_536;

/// A user namespace to be made of ids that no other container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoIds {
    /// How many ids it has from 0 on; 65536 where nobody says.
    pub size: Option<u32>,
    /// Users that are mapped so, whatever the others are.
    pub uids: Vec<IdRange>,
    /// The same for groups.
    pub gids: Vec<IdRange>,
}

/// One of the two kinds of ids.
struct Kind {
    file: &'static str,
    of: fn(&UserNamespace) -> &[IdRange],
}

impl Engine {
    /// Chooses the ids of a container; whoever calls holds the lock until they are recorded.
    pub(crate) fn choose_ids(&self, auto: &AutoIds) -> Result<UserNamespace, EngineError> {
        match choose_both(auto, &self.records.list()?) {
            // Of those that were to go when they ended some may be dead, with nobody left who removes them: then this does.
            Err(Refusal::Ids(_)) => {
                self.list()?;
                Ok(choose_both(auto, &self.records.list()?)?)
            }
            chosen => Ok(chosen?),
        }
    }
}

/// Why there are no ids for a container.
enum Refusal {
    /// The file gives too few.
    Ids(&'static str),
    Other(EngineError),
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ids(file) => Self::Invalid(format!(
                "--userns auto: of the ids that {file} gives the user {OWNER} too few are left; remove containers, give it more, or \
                 take fewer (--userns auto:size=1024)"
            )),
            Refusal::Other(error) => error,
        }
    }
}

/// Users and groups that none of `taken` has.
fn choose_both(auto: &AutoIds, taken: &[PodSpec]) -> Result<UserNamespace, Refusal> {
    let uids = Kind {
        file: "/etc/subuid",
        of: UserNamespace::uids,
    };
    let gids = Kind {
        file: "/etc/subgid",
        of: UserNamespace::gids,
    };
    let uids = choose_kind(&uids, &auto.uids, auto.size, taken)?;
    let gids = choose_kind(&gids, &auto.gids, auto.size, taken)?;
    UserNamespace::new(uids, gids).map_err(|error| invalid(&error))
}

fn choose_kind(
    kind: &Kind,
    fixed: &[IdRange],
    size: Option<u32>,
    taken: &[PodSpec],
) -> Result<Vec<IdRange>, Refusal> {
    let file = kind.file;
    let text = match fs_err::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.map_err(|error| Refusal::Other(EngineError::File(error)))?,
    };
    let given = subordinate_ids(&text, &[OWNER]);
    if given.is_empty() {
        return Err(Refusal::Other(EngineError::Invalid(format!(
            "--userns auto: {file} gives no ids to the user {OWNER}, from whose containers take theirs; add a line such as \
             {OWNER}:2147483648:1048576 there, or say which with --uidmap"
        ))));
    }
    let taken = taken.iter().flat_map(|pod| ranges_of(pod, kind.of));
    choose(given, taken, fixed, size.unwrap_or(SIZE)).map_err(|lacking| match lacking {
        Lacking::Ids => Refusal::Ids(file),
        Lacking::Sense(error) => invalid(&error),
    })
}

fn invalid(error: &IdMapError) -> Refusal {
    Refusal::Other(EngineError::Invalid(format!("--userns auto: {error}")))
}

/// The host's ids that a pod has.
fn ranges_of(pod: &PodSpec, of: fn(&UserNamespace) -> &[IdRange]) -> Vec<Range<u64>> {
    let own = pod.containers.iter();
    let own = own.filter_map(|container| container.options.user_namespace.as_ref());
    own.flat_map(|own| of(own).iter().map(|range| span(range.host, range.size)))
        .collect()
}

fn span(first: u32, size: u32) -> Range<u64> {
    u64::from(first)..u64::from(first) + u64::from(size)
}

/// What there is too little of.
#[derive(Debug)]
enum Lacking {
    Ids,
    Sense(IdMapError),
}

/// The first ids of each range that a file such as /etc/subuid gives one of the owners (a user's name or number), and how many they are.
pub fn subordinate_ids(text: &str, owners: &[&str]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        if !owners.contains(&fields.next().unwrap_or_default()) {
            continue;
        }
        let mut numbers = fields.map(|field| field.parse::<u32>());
        if let (Some(Ok(first)), Some(Ok(count @ 1..))) = (numbers.next(), numbers.next()) {
            found.push((first, count));
        }
    }
    found
}

/// Maps the ids from 0 to below `size`: those of `fixed` so, the others to ids that are given and not taken, in one piece where there is
/// one that is large enough.
fn choose(
    given: Vec<(u32, u32)>,
    taken: impl Iterator<Item = Range<u64>>,
    fixed: &[IdRange],
    size: u32,
) -> Result<Vec<IdRange>, Lacking> {
    check_ranges(fixed).map_err(Lacking::Sense)?;
    let mut free: Vec<Range<u64>> = Vec::new();
    for (first, count) in given {
        // The same ids may be given twice.
        let new = span(first, count);
        free = free.iter().flat_map(|old| without(old, &new)).collect();
        free.push(new.start..new.end.min(u64::from(u32::MAX)));
    }
    for used in taken.chain(fixed.iter().map(|range| span(range.host, range.size))) {
        free = free
            .iter()
            .flat_map(|piece| without(piece, &used))
            .collect();
    }
    let mut wanted = Vec::from([span(0, size)]);
    for range in fixed {
        let inside = span(range.container, range.size);
        wanted = wanted
            .iter()
            .flat_map(|piece| without(piece, &inside))
            .collect();
    }
    let mut chosen = fixed.to_vec();
    for mut piece in wanted {
        while !piece.is_empty() {
            let whole = |one: &Range<u64>| one.end - one.start >= piece.end - piece.start;
            let best = free.iter().position(whole).unwrap_or_default();
            let from = free.get_mut(best).ok_or(Lacking::Ids)?;
            let count = (piece.end - piece.start).min(from.end - from.start);
            let number = |id: u64| u32::try_from(id).map_err(|_| Lacking::Ids);
            chosen.push(IdRange {
                container: number(piece.start)?,
                host: number(from.start)?,
                size: number(count)?,
            });
            piece.start += count;
            from.start += count;
            free.retain(|left| !left.is_empty());
        }
    }
    chosen.sort_by_key(|range| range.container);
    Ok(chosen)
}

/// What is left of a range.
fn without(whole: &Range<u64>, part: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let below = whole.start..whole.end.min(part.start);
    let above = whole.start.max(part.end)..whole.end;
    [below, above].into_iter().filter(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &[&str]) -> Vec<IdRange> {
        text.iter().map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn ids_are_those_of_the_owner_alone() {
        let text = "root:1:9\ncontainers:100000:65536\n1000:7:10\ncontainers:broken:3\ncontainers:5:0\ncontainers:4294967296:1\n\
                    containers\n  containers:300000:10  \n";
        let own = subordinate_ids(text, &[OWNER]);
        assert_eq!(own, [(100_000, 65_536), (300_000, 10)]);
        let both = subordinate_ids(text, &["root", "1000"]);
        assert_eq!(both, [(1, 9), (7, 10)]);
        assert_eq!(subordinate_ids("", &[OWNER]), []);
    }

    #[test]
    fn what_is_taken_is_left_alone_and_a_whole_piece_comes_first() {
        let given = vec![(1000, 100), (5000, 1000)];
        let none = || std::iter::empty();
        let plain = choose(given.clone(), none(), &[], 50).unwrap();
        assert_eq!(plain, ranges(&["0:1000:50"]));
        let large = choose(given.clone(), none(), &[], 500).unwrap();
        assert_eq!(large, ranges(&["0:5000:500"]));
        let taken = [1000..1010, 5000..5999];
        let pieces = choose(given.clone(), taken.into_iter(), &[], 91).unwrap();
        assert_eq!(pieces, ranges(&["0:1010:90", "90:5999:1"]));
        let taken = [1000..1010, 5000..5999];
        let all = choose(given.clone(), taken.into_iter(), &[], 92);
        assert!(matches!(all, Err(Lacking::Ids)));
        let twice = choose(vec![(1000, 10), (1005, 10)], none(), &[], 15).unwrap();
        assert_eq!(twice, ranges(&["0:1000:5", "5:1005:10"]));
        assert!(choose(vec![(1000, 10), (1005, 10)], none(), &[], 16).is_err());
    }

    #[test]
    fn fixed_ids_stay_and_the_others_go_around_them() {
        let fixed = ranges(&["10:1005:5"]);
        let chosen = choose(vec![(1000, 100)], std::iter::empty(), &fixed, 20).unwrap();
        assert_eq!(chosen, ranges(&["0:1010:10", "10:1005:5", "15:1000:5"]));
        check_ranges(&chosen).unwrap();
        let overlapping = ranges(&["10:1005:5", "12:7:1"]);
        let refused = choose(vec![(1000, 100)], std::iter::empty(), &overlapping, 20);
        assert!(matches!(refused, Err(Lacking::Sense(_))));
    }

    #[test]
    fn the_largest_number_is_no_id() {
        let given = vec![(u32::MAX - 9, 20)];
        assert!(choose(given.clone(), std::iter::empty(), &[], 10).is_err());
        let chosen = choose(given, std::iter::empty(), &[], 9).unwrap();
        check_ranges(&chosen).unwrap();
    }
}
