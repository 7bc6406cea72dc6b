//! The options of a mount: words to bits.

use dhow_sys::mount::{self as attr, Attributes};

/// All words among a mount's options that are the runtime's and not a file system's (config.md, "Linux mount options").
pub const NAMES: [&str; 64] = [
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What a mount's options ask for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// A bind mount (`bind`, `rbind`).
    pub bind: bool,
    /// With all mounts below the source (`rbind`).
    pub recursive: bool,
    /// Attributes of the mount itself.
    pub attributes: Attributes,
    /// Attributes of it and all mounts below it (`rro`, `rnosuid` ...).
    pub recursive_attributes: Attributes,
    /// Propagation to give it, in order; `true` for all mounts below it too.
    pub propagation: Vec<(u64, bool)>,
    /// Flags of the file system itself that are not attributes of a mount (`sync`, `lazytime` ...).
    pub filesystem_flags: Vec<String>,
    /// What the file system understands (`mode=755`), in order.
    pub data: Vec<(String, Option<String>)>,
    /// Copy what the root has at the destination into the new tmpfs.
    pub copy_up: bool,
    /// Change the mount that is there (`remount`).
    pub remount: bool,
    /// Map the ids of its files; `true` for all mounts below it too (`idmap`, `ridmap`).
    pub id_map: Option<bool>,
}

/// A word that sets or clears attribute bits.
fn attribute(word: &str) -> Option<Attributes> {
    let set = |set| Attributes {
        set,
        ..Attributes::default()
    };
    let clear = |clear| Attributes {
        clear,
        ..Attributes::default()
    };
    let atime = |value| Attributes {
        set: value,
        clear: attr::ATTR_ATIME,
        propagation: 0,
    };
    Some(match word {
        "ro" => set(attr::ATTR_RDONLY),
        "rw" => clear(attr::ATTR_RDONLY),
        "nosuid" => set(attr::ATTR_NOSUID),
        "suid" => clear(attr::ATTR_NOSUID),
        "nodev" => set(attr::ATTR_NODEV),
        "dev" => clear(attr::ATTR_NODEV),
        "noexec" => set(attr::ATTR_NOEXEC),
        "exec" => clear(attr::ATTR_NOEXEC),
        "noatime" => atime(attr::ATTR_NOATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => atime(attr::ATTR_RELATIME),
        "strictatime" => atime(attr::ATTR_STRICTATIME),
        "nodiratime" => set(attr::ATTR_NODIRATIME),
        "diratime" => clear(attr::ATTR_NODIRATIME),
        "nosymfollow" => set(attr::ATTR_NOSYMFOLLOW),
        "symfollow" => clear(attr::ATTR_NOSYMFOLLOW),
        _ => return None,
    })
}

/// A word that gives propagation.
fn propagation(word: &str) -> Option<(u64, bool)> {
    let (word, recursive) = match word.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    let kind = match word {
        "private" => attr::PRIVATE,
        "shared" => attr::SHARED,
        "slave" => attr::SLAVE,
        "unbindable" => attr::UNBINDABLE,
        _ => return None,
    };
    Some((kind, recursive))
}

/// The words that are flags of the file system's superblock.
const FILESYSTEM_FLAGS: [&str; 7] = [
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
];

/// The words that mean nothing to the kernel, or what is so anyway: its file systems count versions by themselves, and how
/// much it writes to its log is no matter of the container's.
const WITHOUT_MEANING: [&str; 8] = [
    "defaults",
    "",
    "acl",
    "noacl",
    "iversion",
    "noiversion",
    "silent",
    "loud",
];

/// Words of mount(8) about when, by whom and with which help something is mounted, which it never tells the kernel. The
/// specification asks to do as it does.
fn is_for_the_mount_program(word: &str) -> bool {
    const WORDS: [&str; 9] = [
        "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
    ];
    WORDS.contains(&word)
        || ["x-", "X-", "comment="]
            .iter()
            .any(|start| word.starts_with(start))
}

/// A later word wins over an earlier one on the same bits.
fn merge(into: &mut Attributes, change: Attributes) {
    into.set = (into.set & !change.clear & !change.set) | change.set;
    into.clear = (into.clear & !change.set) | change.clear;
}

impl MountOptions {
    /// Reads a mount's options. `ro` and its like become attributes of the mount, never of the file system, which others
    /// may have mounted too.
    pub fn parse(options: &[String], fstype: Option<&str>) -> Self {
        let mut parsed = Self {
            bind: fstype == Some("bind"),
            ..Self::default()
        };
        for word in options {
            parsed.word(word);
        }
        parsed
    }

    fn word(&mut self, word: &str) {
        if let Some(change) = attribute(word) {
            merge(&mut self.attributes, change);
        } else if let Some(change) = propagation(word) {
            self.propagation.push(change);
        } else if let Some(change) = word.strip_prefix('r').and_then(attribute) {
            merge(&mut self.recursive_attributes, change);
        } else if FILESYSTEM_FLAGS.contains(&word) {
            self.filesystem_flags.push(word.to_owned());
        } else if !WITHOUT_MEANING.contains(&word) && !is_for_the_mount_program(word) {
            match word {
                "bind" => self.bind = true,
                "rbind" => {
                    self.bind = true;
                    self.recursive = true;
                }
                "tmpcopyup" => self.copy_up = true,
                "remount" => self.remount = true,
                "idmap" => self.id_map = Some(false),
                "ridmap" => self.id_map = Some(true),
                _ => self.data.push(match word.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (word.to_owned(), None),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> MountOptions {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        MountOptions::parse(&words, None)
    }

    #[test]
    fn the_last_word_on_a_bit_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes.set, 0);
        assert_eq!(parse(&["ro", "rw"]).attributes.clear, attr::ATTR_RDONLY);
        assert_eq!(parse(&["rw", "ro"]).attributes.set, attr::ATTR_RDONLY);
        assert_eq!(parse(&["rw", "ro"]).attributes.clear, 0);
        let atime = parse(&["noatime", "strictatime"]).attributes;
        assert_eq!(atime.set, attr::ATTR_STRICTATIME);
        assert_eq!(atime.clear, attr::ATTR_ATIME);
    }

    #[test]
    fn recursive_words_are_apart_from_propagation() {
        let options = parse(&["rbind", "rro", "rslave", "rnosuid"]);
        assert!(options.bind && options.recursive);
        assert_eq!(
            options.recursive_attributes.set,
            attr::ATTR_RDONLY | attr::ATTR_NOSUID
        );
        assert_eq!(options.propagation, [(attr::SLAVE, true)]);
    }

    #[test]
    fn every_word_of_the_specification_is_known() {
        for word in NAMES {
            assert_eq!(parse(&[word]).data, [], "{word}");
        }
        assert_eq!(parse(&["ridmap"]).id_map, Some(true));
        assert_eq!(
            parse(&["rnoatime"]).recursive_attributes.set,
            attr::ATTR_NOATIME
        );
    }

    #[test]
    fn what_mount_keeps_to_itself_goes_nowhere() {
        let words = [
            "bind",
            "x-gvfs-hide",
            "X-mount.mkdir=755",
            "comment=systemd.x",
            "_netdev",
        ];
        let options = parse(&words);
        assert!(options.bind);
        assert_eq!(options.data, []);
    }

    #[test]
    fn what_is_left_is_the_file_systems() {
        let options = parse(&["nosuid", "mode=755", "size=64k", "newinstance"]);
        assert_eq!(
            options.data,
            [
                ("mode".to_owned(), Some("755".to_owned())),
                ("size".to_owned(), Some("64k".to_owned())),
                ("newinstance".to_owned(), None)
            ]
        );
    }
}
