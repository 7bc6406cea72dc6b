//! resctrl: the kernel's file system for what a group of processes may use of caches and memory bandwidth.

use std::io;
use std::path::{Path, PathBuf};

use crate::plan::ResctrlGroup;

/// What could not be had of it.
#[derive(Debug, thiserror::Error)]
pub enum ResctrlError {
    /// It is not there.
    #[error(
        "linux.intelRdt is set, but no resctrl is mounted; mount it (mount -t resctrl resctrl /sys/fs/resctrl) if this machine has it"
    )]
    NotMounted,
    /// The group that the configuration names is not there and it does not say what it may use.
    #[error(
        "linux.intelRdt: there is no group {0}; make it, or say what it may use (l3CacheSchema, memBwSchema, schemata)"
    )]
    NoGroup(PathBuf),
    /// The group is there and may use something else.
    #[error("linux.intelRdt: {path} does not have the line {wanted:?}")]
    Differs {
        /// Its file.
        path: PathBuf,
        /// What the configuration says.
        wanted: String,
    },
    /// The kernel refused.
    #[error("linux.intelRdt: cannot {doing} {path}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Where a container's groups are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The group of those limits.
    group: PathBuf,
    /// Whether it is the container's alone.
    is_own: bool,
    /// The group that only measures.
    monitor: Option<PathBuf>,
}

impl Places {
    /// Finds them below the file system's mount.
    pub(crate) fn find(group: &ResctrlGroup) -> Result<Self, ResctrlError> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = mount_point(&mounts).ok_or(ResctrlError::NotMounted)?;
        Ok(Self::below(root, group))
    }

    fn below(root: &Path, group: &ResctrlGroup) -> Self {
        let path = match &group.name {
            Some(name) => root.join(name),
            None => root.to_owned(),
        };
        Self {
            is_own: !group.is_named,
            monitor: group
                .monitor
                .as_ref()
                .map(|name| path.join("mon_groups").join(name)),
            group: path,
        }
    }

    /// What is to go with the container: what is its own and is not there yet. The inner one comes first.
    pub(crate) fn made_by_us(&self) -> Vec<PathBuf> {
        let own = Some(&self.group).filter(|_| self.is_own);
        let all = self.monitor.iter().chain(own);
        all.filter(|path| !path.exists()).cloned().collect()
    }

    /// Makes what is missing, and writes what the group may use.
    pub(crate) fn make(&self, asked: &ResctrlGroup) -> Result<(), ResctrlError> {
        let schemata = self.group.join("schemata");
        let is_there = self.group.is_dir();
        let says_nothing = asked.compared.is_empty() && asked.written.is_empty();
        if !is_there && !self.is_own && says_nothing {
            return Err(ResctrlError::NoGroup(self.group.clone()));
        }
        if !is_there {
            make_directory(&self.group)?;
        }
        if is_there && !self.is_own {
            compare(&schemata, &asked.compared)?;
        } else {
            write_lines(&schemata, &asked.compared)?;
        }
        write_lines(&schemata, &asked.written)?;
        match &self.monitor {
            Some(monitor) if !monitor.is_dir() => make_directory(monitor),
            _ => Ok(()),
        }
    }

    /// Changes what the group may use; it must be there.
    pub(crate) fn update(&self, asked: &ResctrlGroup) -> Result<(), ResctrlError> {
        match self.group.is_dir() {
            true => write_lines(&self.group.join("schemata"), &asked.compared),
            false => Err(ResctrlError::NoGroup(self.group.clone())),
        }
    }

    /// Puts a process into the groups.
    pub(crate) fn join(&self, pid: i32) -> Result<(), ResctrlError> {
        for group in [Some(&self.group), self.monitor.as_ref()]
            .into_iter()
            .flatten()
        {
            write(&group.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }
}

/// Takes away what was made for a container. What is not there any more is as it should be.
pub(crate) fn remove(groups: &[PathBuf]) -> Result<(), ResctrlError> {
    for path in groups {
        match std::fs::remove_dir(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ResctrlError::System {
                    doing: "remove",
                    path: path.clone(),
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where resctrl is mounted, by a process's mountinfo.
fn mount_point(mounts: &str) -> Option<&Path> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_resctrl = filesystem.split(' ').next() == Some("resctrl");
        is_resctrl.then(|| mount.split(' ').nth(4).map(Path::new))?
    })
}

fn make_directory(path: &Path) -> Result<(), ResctrlError> {
    std::fs::create_dir(path).map_err(|source| ResctrlError::System {
        doing: "make the group",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), ResctrlError> {
    use std::io::Write;
    let open = std::fs::OpenOptions::new().append(true).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| ResctrlError::System {
            doing: "write to",
            path: path.to_owned(),
            source,
        })
}

fn write_lines(path: &Path, lines: &[String]) -> Result<(), ResctrlError> {
    lines
        .iter()
        .try_for_each(|line| write(path, &format!("{line}\n")))
}

/// Sees that a group has these lines, each cache or node of them.
fn compare(path: &Path, wanted: &[String]) -> Result<(), ResctrlError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|source| ResctrlError::System {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    let there: Vec<_> = text.lines().filter_map(parts).collect();
    for line in wanted {
        let same = parts(line).is_some_and(|wanted| there.contains(&wanted));
        if !same {
            return Err(ResctrlError::Differs {
                path: path.to_owned(),
                wanted: line.clone(),
            });
        }
    }
    Ok(())
}

/// A line's resource and its values by domain. The kernel pads both with spaces and zeros.
fn parts(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let mut values: Vec<_> = domains
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(domain, value)| (domain.trim(), value.trim().trim_start_matches('0')))
        .collect();
    values.sort_unstable();
    Some((resource.trim(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: Option<&str>, is_named: bool) -> ResctrlGroup {
        ResctrlGroup {
            name: name.map(str::to_owned),
            is_named,
            compared: Vec::new(),
            written: Vec::new(),
            monitor: None,
        }
    }

    #[test]
    fn it_is_found_among_the_mounts() {
        let mounts = "36 35 98:0 / /mnt1 rw - ext3 /dev/root rw\n\
                      40 35 0:40 / /sys/fs/resctrl rw,relatime shared:1 - resctrl resctrl rw\n";
        assert_eq!(mount_point(mounts), Some(Path::new("/sys/fs/resctrl")));
        assert_eq!(mount_point("36 35 98:0 / / rw - ext3 /dev/root rw\n"), None);
    }

    #[test]
    fn a_group_of_ones_own_is_made_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = group(Some("c"), false);
        asked.monitor = Some("c".to_owned());
        let places = Places::below(dir.path(), &asked);
        let own = dir.path().join("c");
        assert_eq!(places.made_by_us(), [own.join("mon_groups/c"), own.clone()]);
        std::fs::create_dir(&own).unwrap();
        // Somebody else's of the same name stays.
        assert_eq!(places.made_by_us(), [own.join("mon_groups/c")]);
        std::fs::write(own.join("schemata"), "").unwrap();
        std::fs::create_dir(own.join("mon_groups")).unwrap();
        asked.compared = vec!["L3:0=f".to_owned(), "MB:0=20".to_owned()];
        asked.written = vec!["L2:0=3".to_owned()];
        places.make(&asked).unwrap();
        let lines = std::fs::read_to_string(own.join("schemata")).unwrap();
        assert_eq!(lines, "L3:0=f\nMB:0=20\nL2:0=3\n");
        for tasks in ["tasks", "mon_groups/c/tasks"] {
            std::fs::write(own.join(tasks), "").unwrap();
        }
        places.join(7).unwrap();
        let tasks = std::fs::read_to_string(own.join("mon_groups/c/tasks")).unwrap();
        assert_eq!(tasks, "7");
        asked.compared = vec!["MB:0=30".to_owned()];
        places.update(&asked).unwrap();
        let lines = std::fs::read_to_string(own.join("schemata")).unwrap();
        assert!(lines.ends_with("\nMB:0=30\n"), "{lines}");
        let gone = Places::below(&own, &asked);
        assert!(matches!(gone.update(&asked), Err(ResctrlError::NoGroup(_))));
        std::fs::remove_file(own.join("mon_groups/c/tasks")).unwrap();
        remove(&[own.join("mon_groups/c"), own.join("gone")]).unwrap();
        assert!(!own.join("mon_groups/c").exists());
    }

    #[test]
    fn a_named_group_must_be_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = group(Some("shared"), true);
        let places = Places::below(dir.path(), &asked);
        assert!(matches!(places.make(&asked), Err(ResctrlError::NoGroup(_))));
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        let schemata = dir.path().join("shared/schemata");
        std::fs::write(&schemata, "    L3:0=00f;1=0f0\n    MB:0= 20;1= 70\n").unwrap();
        asked.compared = vec!["L3:1=f0;0=f".to_owned(), "MB:0=20;1=70".to_owned()];
        places.make(&asked).unwrap();
        asked.compared = vec!["L3:0=ff".to_owned()];
        assert!(matches!(
            places.make(&asked),
            Err(ResctrlError::Differs { .. })
        ));
        assert!(places.made_by_us().is_empty());
        assert_eq!(
            Places::below(dir.path(), &group(None, true)).group,
            dir.path()
        );
    }
}
