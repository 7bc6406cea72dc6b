//! The ids and names of containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 64 hexadecimal digits, by chance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A name that a person gives, or that is made up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// A text that is no name or id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a name.
    #[error(
        "{0:?} is not a container's name; it begins with a letter or digit and has at least two of letters, digits, '_', '.' and '-'"
    )]
    Name(String),
    /// Not an id.
    #[error("{0:?} is not a container's id")]
    Id(String),
}

impl ContainerId {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn random() -> Result<Self, rustix::io::Errno> {
        let mut bytes = [0u8; 32];
        random(&mut bytes)?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// All its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The twelve digits that people are shown.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl ContainerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A made-up one.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn random() -> Result<Self, rustix::io::Errno> {
        let mut bytes = [0u8; 4];
        random(&mut bytes)?;
        let pick = |list: &[&'static str], low: u8, high: u8| {
            list[usize::from(u16::from_le_bytes([low, high])) % list.len()]
        };
        Ok(Self(format!(
            "{}_{}",
            pick(&ADJECTIVES, bytes[0], bytes[1]),
            pick(&NOUNS, bytes[2], bytes[3])
        )))
    }

    /// The same with a number, for when the short one is taken.
    pub(crate) fn numbered(&self, number: u32) -> Self {
        Self(format!("{}{number}", self.0))
    }
}

fn random(bytes: &mut [u8]) -> Result<(), rustix::io::Errno> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let fits = bytes.len() >= 2
            && bytes.len() <= 128
            && bytes[0].is_ascii_alphanumeric()
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Name(text.to_owned()))
        }
    }
}

impl FromStr for ContainerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Id(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the sea and those on it can be.
const ADJECTIVES: [&str; 48] = [
    "able", "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "clear", "coral",
    "crisp", "daring", "deft", "eager", "fair", "fleet", "gentle", "glad", "golden", "hardy",
    "hearty", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "misty", "nimble",
    "noble", "patient", "placid", "proud", "quick", "quiet", "ready", "salty", "serene", "silver",
    "sleek", "steady", "sturdy", "sunny", "swift", "tidy", "trusty", "windward",
];

/// What is found on and by the sea.
const NOUNS: [&str; 48] = [
    "albatross",
    "anchor",
    "atoll",
    "beacon",
    "bosun",
    "bowline",
    "breaker",
    "buoy",
    "capstan",
    "compass",
    "cormorant",
    "cove",
    "current",
    "cutter",
    "dolphin",
    "estuary",
    "fjord",
    "gannet",
    "gull",
    "harbour",
    "heron",
    "jetty",
    "keel",
    "lagoon",
    "lantern",
    "lateen",
    "lighthouse",
    "mariner",
    "mast",
    "monsoon",
    "narwhal",
    "oar",
    "osprey",
    "otter",
    "pelican",
    "petrel",
    "porpoise",
    "puffin",
    "reef",
    "rudder",
    "sandbar",
    "schooner",
    "sextant",
    "shoal",
    "spinnaker",
    "tern",
    "tide",
    "wharf",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_to_their_rules() {
        for good in ["web", "a1", "my_app.v2-x"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-web", "_web", "we b", "../x", "web/1", "wäb"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn made_up_names_and_ids_are_valid() {
        for _ in 0..100 {
            let name = ContainerName::random().unwrap();
            assert!(name.as_str().parse::<ContainerName>().is_ok());
        }
        let id = ContainerId::random().unwrap();
        assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
    }
}
