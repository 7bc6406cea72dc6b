//! A container's own user namespace: which ids inside are which on the host.

use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};
use serde::{Deserialize, Serialize};

/// How many ranges the kernel takes for one map (`UID_GID_MAP_MAX_EXTENTS`).
const MOST_RANGES: usize = 340;
/// How many characters it takes for one: less than a page.
const LONGEST_MAP: usize = 4095;

/// A mapping of ids that cannot be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdMapError {
    /// Not three numbers.
    #[error(
        "{0:?} is no range of ids; write CONTAINER:HOST:LENGTH, numbers, for example 0:100000:65536"
    )]
    Malformed(String),
    /// Of no id.
    #[error("{0}: a range of no ids; give it a length of 1 or more")]
    Empty(IdRange),
    /// Past the largest id, 4294967294.
    #[error("{0}: the range goes past the largest id, 4294967294; make it shorter")]
    TooLarge(IdRange),
    /// An id would be two.
    #[error("{0} and {1}: the ranges overlap {2}; every id is mapped once")]
    Overlap(IdRange, IdRange, &'static str),
    /// Nobody would be root inside.
    #[error(
        "no {0} inside is 0, and the container's root has to be somebody; map 0, for example 0:100000:65536"
    )]
    NoRoot(&'static str),
    /// More than the kernel takes.
    #[error(
        "{0} ranges are too many for a user namespace; the kernel takes {MOST_RANGES}, written in {LONGEST_MAP} characters"
    )]
    TooMany(usize),
}

/// Successive ids inside a container, and which they are on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// The first id inside.
    pub container: u32,
    /// The first id on the host.
    pub host: u32,
    /// How many they are.
    pub size: u32,
}

impl IdRange {
    /// The id on the host that is `id` inside, where this range has it.
    fn host_of(&self, id: u32) -> Option<u32> {
        let at = id.checked_sub(self.container)?;
        (at < self.size).then(|| self.host + at)
    }

    fn check(&self) -> Result<(), IdMapError> {
        if self.size == 0 {
            return Err(IdMapError::Empty(*self));
        }
        // The largest number is no id: it means none.
        let fits = |first: u32| u64::from(first) + u64::from(self.size) <= u64::from(u32::MAX);
        match fits(self.container) && fits(self.host) {
            true => Ok(()),
            false => Err(IdMapError::TooLarge(*self)),
        }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
    }
}

impl FromStr for IdRange {
    type Err = IdMapError;

    /// `CONTAINER:HOST:LENGTH`.
    fn from_str(text: &str) -> Result<Self, IdMapError> {
        let malformed = || IdMapError::Malformed(text.to_owned());
        // A sign is a number to the standard library, and has a meaning of its own in podman's words.
        let number = |word: &str| match word.bytes().all(|byte| byte.is_ascii_digit()) {
            true => word.parse().map_err(|_| malformed()),
            false => Err(malformed()),
        };
        let words: Vec<&str> = text.split(':').collect();
        let [container, host, size] = words[..] else {
            return Err(malformed());
        };
        let range = Self {
            container: number(container)?,
            host: number(host)?,
            size: number(size)?,
        };
        range.check()?;
        Ok(range)
    }
}

/// The ids of a user namespace: at least root's, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNamespace {
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
}

impl UserNamespace {
    /// A namespace with these users and groups.
    ///
    /// # Errors
    /// When a range is empty or goes past the largest id, two overlap, there are too many, or nobody is root.
    pub fn new(uids: Vec<IdRange>, gids: Vec<IdRange>) -> Result<Self, IdMapError> {
        for (ranges, kind) in [(&uids, "user"), (&gids, "group")] {
            check_ranges(ranges)?;
            if host_of(ranges, 0).is_none() {
                return Err(IdMapError::NoRoot(kind));
            }
        }
        Ok(Self { uids, gids })
    }

    /// That of a container which was described so; none where it has none of its own.
    pub(crate) fn of_spec(spec: &Spec) -> Option<Self> {
        let linux = spec.linux().as_ref()?;
        let range = |mapping: &LinuxIdMapping| IdRange {
            container: mapping.container_id(),
            host: mapping.host_id(),
            size: mapping.size(),
        };
        let ranges = |mappings: &Option<Vec<LinuxIdMapping>>| -> Option<Vec<IdRange>> {
            Some(mappings.as_ref()?.iter().map(range).collect())
        };
        Self::new(ranges(linux.uid_mappings())?, ranges(linux.gid_mappings())?).ok()
    }

    /// The users.
    pub fn uids(&self) -> &[IdRange] {
        &self.uids
    }

    /// The groups.
    pub fn gids(&self) -> &[IdRange] {
        &self.gids
    }

    /// The host's id of the user `id` inside.
    pub fn host_user(&self, id: u32) -> Option<u32> {
        host_of(&self.uids, id)
    }

    /// The host's id of the group `id` inside.
    pub fn host_group(&self, id: u32) -> Option<u32> {
        host_of(&self.gids, id)
    }

    /// The last group of those that follow group 0 without a gap, and whose ids rise on the host as well: the kernel compares
    /// those, and takes a range that falls for none.
    pub(crate) fn last_group_from_root(&self) -> u32 {
        let (mut next, mut host) = (0, 0);
        let follows = |next, host| {
            let mut ranges = self.gids.iter();
            ranges.find(|range| range.container == next && range.host >= host)
        };
        while let Some(range) = follows(next, host) {
            next += range.size;
            host = range.host + range.size;
        }
        next.saturating_sub(1)
    }
}

/// Checks that single ranges make a map: none is empty or too large, none overlaps another inside or on the host.
///
/// # Errors
/// When they do not.
pub fn check_ranges(ranges: &[IdRange]) -> Result<(), IdMapError> {
    let written: usize = ranges.iter().map(|range| range.to_string().len() + 1).sum();
    if ranges.len() > MOST_RANGES || written > LONGEST_MAP {
        return Err(IdMapError::TooMany(ranges.len()));
    }
    for (at, range) in ranges.iter().enumerate() {
        range.check()?;
        for other in &ranges[..at] {
            let overlap = |a: u32, b: u32| {
                let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
                u64::from(a) < end(b, other.size) && u64::from(b) < end(a, range.size)
            };
            if overlap(range.container, other.container) {
                return Err(IdMapError::Overlap(*other, *range, "in the container"));
            }
            if overlap(range.host, other.host) {
                return Err(IdMapError::Overlap(*other, *range, "on the host"));
            }
        }
    }
    Ok(())
}

/// The ranges in the words of the runtime specification.
pub(crate) fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let mapping = |range: &IdRange| {
        LinuxIdMappingBuilder::default()
            .container_id(range.container)
            .host_id(range.host)
            .size(range.size)
            .build()
            .ok() // Nothing is left out that it could miss.
    };
    ranges.iter().filter_map(mapping).collect()
}

fn host_of(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| range.host_of(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &[&str]) -> Vec<IdRange> {
        text.iter().map(|range| range.parse().unwrap()).collect()
    }

    fn namespace(uids: &[&str], gids: &[&str]) -> Result<UserNamespace, IdMapError> {
        UserNamespace::new(ranges(uids), ranges(gids))
    }

    #[test]
    fn a_range_is_three_numbers() {
        let range: IdRange = "0:100000:65536".parse().unwrap();
        assert_eq!(
            (range.container, range.host, range.size),
            (0, 100_000, 65_536)
        );
        assert_eq!(range.to_string(), "0:100000:65536");
        for wrong in [
            "",
            "0",
            "0:1",
            "0:1:2:3",
            "a:1:2",
            "0:-1:2",
            "+0:1:2",
            "0: 1:2",
            "0:@1:2",
            "0:4294967296:1",
        ] {
            let malformed = IdMapError::Malformed(wrong.to_owned());
            assert_eq!(wrong.parse::<IdRange>(), Err(malformed), "{wrong}");
        }
    }

    #[test]
    fn a_range_has_ids_and_no_more_than_there_are() {
        assert!(matches!(
            "0:1:0".parse::<IdRange>(),
            Err(IdMapError::Empty(_))
        ));
        assert!("0:0:4294967295".parse::<IdRange>().is_ok());
        assert!("4294967294:1:1".parse::<IdRange>().is_ok());
        for large in [
            "4294967295:1:1",
            "0:4294967295:1",
            "1:0:4294967295",
            "0:4294967290:6",
        ] {
            let parsed = large.parse::<IdRange>();
            assert!(matches!(parsed, Err(IdMapError::TooLarge(_))), "{large}");
        }
    }

    #[test]
    fn every_id_is_mapped_once() {
        let inside = namespace(&["0:1000:10", "9:2000:1"], &["0:1000:10"]);
        assert!(matches!(
            inside,
            Err(IdMapError::Overlap(_, _, "in the container"))
        ));
        let outside = namespace(&["0:1000:10"], &["0:1000:10", "10:1009:5"]);
        assert!(matches!(
            outside,
            Err(IdMapError::Overlap(_, _, "on the host"))
        ));
        assert!(namespace(&["10:1010:5", "0:1000:10"], &["0:1000:10"]).is_ok());
        let many: Vec<String> = (0..341).map(|id| format!("{id}:{id}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(namespace(&many, &["0:0:1"]), Err(IdMapError::TooMany(341)));
        assert!(namespace(&many[..340], &["0:0:1"]).is_ok());
        let long: Vec<String> = (0..340)
            .map(|id| format!("{id}:{}:1", 300_000 + id))
            .collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert_eq!(namespace(&long, &["0:0:1"]), Err(IdMapError::TooMany(340)));
    }

    #[test]
    fn somebody_is_root() {
        let (some, none) = (["0:1000:1"], ["1:1000:1"]);
        assert_eq!(namespace(&none, &some), Err(IdMapError::NoRoot("user")));
        assert_eq!(namespace(&some, &none), Err(IdMapError::NoRoot("group")));
        assert_eq!(namespace(&some, &[]), Err(IdMapError::NoRoot("group")));
    }

    #[test]
    fn ids_inside_are_ids_on_the_host() {
        let namespace = namespace(
            &["0:100000:1000", "1000:500:1", "1001:101000:9"],
            &["0:7:1", "5:9:1", "1:20:3"],
        )
        .unwrap();
        for (inside, host) in [
            (0, Some(100_000)),
            (999, Some(100_999)),
            (1000, Some(500)),
            (1001, Some(101_000)),
            (1010, None),
        ] {
            assert_eq!(namespace.host_user(inside), host, "{inside}");
        }
        assert_eq!(namespace.host_group(5), Some(9));
        assert_eq!(namespace.host_group(4), None);
        assert_eq!(namespace.last_group_from_root(), 3);
    }

    #[test]
    fn groups_follow_roots_as_long_as_their_ids_rise_on_the_host() {
        let last = |gids: &[&str]| {
            let namespace = namespace(&["0:7:1"], gids).unwrap();
            namespace.last_group_from_root()
        };
        assert_eq!(last(&["0:1000:10", "10:2000:5"]), 14);
        // In whatever order they are given.
        assert_eq!(last(&["10:2000:5", "0:1000:10"]), 14);
        assert_eq!(last(&["0:1000:10", "10:500:5"]), 9);
        assert_eq!(last(&["0:1000:10", "10:2000:5", "15:1500:5"]), 14);
        assert_eq!(last(&["0:1000:1", "1:0:1000", "1001:1001:100"]), 0);
    }
}
