//! Where the cgroup hierarchies are mounted, and where this process stands in them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use super::CgroupError;
use super::directory::read_whole;
use crate::procfs::read_record;

/// The v1 controllers that a container gets a cgroup in. What else stands in a mount's options is no controller.
const V1_CONTROLLERS: [&str; 15] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    // systemd's own hierarchy, without a controller: a service's container must not stay in the service's cgroup there.
    "name=systemd",
];

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// What it controls; none for a v2 tree, whose controllers are told by its files.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// Which of its directories is seen there; not `/` for a bind mount or in a container.
    root: PathBuf,
}

impl Hierarchy {
    /// Whether this is the v2 tree.
    pub(super) fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The hierarchies of this host, each once; looked for once, since they do not change while a command is carried out.
///
/// # Errors
/// When /proc is not there.
pub(super) fn mounted() -> Result<Vec<Hierarchy>, CgroupError> {
    static FOUND: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let file = "/proc/self/mountinfo";
    let text =
        read_whole(Path::new(file)).map_err(|source| CgroupError::Discover { file, source })?;
    Ok(FOUND.get_or_init(|| parse_mounts(text.as_bytes())).clone())
}

fn parse_mounts(text: &[u8]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(hierarchy) = parse_mount(line) else {
            continue;
        };
        match found
            .iter_mut()
            .find(|other| other.controllers == hierarchy.controllers)
        {
            None => found.push(hierarchy),
            // The same hierarchy again: the mount that shows more of it serves better.
            Some(other) if hierarchy.root == Path::new("/") && other.root != Path::new("/") => {
                *other = hierarchy;
            }
            Some(_) => {}
        }
    }
    found
}

/// A line of mountinfo (proc_pid_mountinfo(5)) that is about cgroups.
fn parse_mount(line: &[u8]) -> Option<Hierarchy> {
    let at = line.windows(9).position(|part| part == b" - cgroup")?;
    let mut after = line[at + 3..].split(|byte| *byte == b' ');
    let kind = after.next()?;
    let options = after.nth(1)?;
    let mut before = line[..at].split(|byte| *byte == b' ').skip(3);
    let root = path(before.next()?);
    let mount = path(before.next()?);
    let controllers = match kind {
        b"cgroup2" => Vec::new(),
        b"cgroup" => {
            let known: Vec<String> = options
                .split(|byte| *byte == b',')
                .filter_map(|option| std::str::from_utf8(option).ok())
                .filter(|option| V1_CONTROLLERS.contains(option))
                .map(str::to_owned)
                .collect();
            if known.is_empty() {
                return None;
            }
            known
        }
        _ => return None,
    };
    Some(Hierarchy {
        controllers,
        mount,
        root,
    })
}

/// A path as mountinfo writes it: white space and backslashes are three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            bytes.push(byte);
            rest = &others[3..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The file of this process's own cgroups, read once: they do not change while a command is carried out.
fn own_cgroups(file: &'static str) -> Result<&'static [u8], CgroupError> {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let text = read_record(Path::new(file)).map_err(|errno| CgroupError::Discover {
        file,
        source: errno.into(),
    })?;
    Ok(TEXT.get_or_init(|| text))
}

/// Where each of the hierarchies has the container's directory, in the hierarchies' order.
///
/// An absolute path is below each mount, as runc's cgroupfs driver has it; a relative one, or the container's id, is below
/// the calling process's own cgroup. In a v2 tree that has the controllers it is beside it instead, since a cgroup with
/// processes cannot have limited children.
///
/// # Errors
/// When the path has `..` in it, or /proc is not there.
pub(super) fn directories(
    hierarchies: &[Hierarchy],
    path: Option<&Path>,
    id: &str,
) -> Result<Vec<PathBuf>, CgroupError> {
    let path = path
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new(id));
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(CgroupError::Path(path.to_owned()));
    }
    if let Ok(inner) = path.strip_prefix("/") {
        return Ok(hierarchies.iter().map(|h| h.mount.join(inner)).collect());
    }
    let file = "/proc/self/cgroup";
    let own = own_cgroups(file)?;
    let pure_v2 = hierarchies.iter().all(Hierarchy::is_v2);
    hierarchies
        .iter()
        .map(|hierarchy| {
            let mut base = own_directory(hierarchy, own).ok_or_else(|| CgroupError::Discover {
                file,
                source: io::Error::from(io::ErrorKind::NotFound),
            })?;
            if pure_v2 && base != hierarchy.mount {
                base.pop();
            }
            Ok(base.join(path))
        })
        .collect()
}

/// Where the calling process is in each of the hierarchies.
///
/// # Errors
/// When /proc is not there.
pub(super) fn own(hierarchies: &[Hierarchy]) -> Result<Vec<Option<PathBuf>>, CgroupError> {
    let own = own_cgroups("/proc/self/cgroup")?;
    Ok(hierarchies
        .iter()
        .map(|hierarchy| own_directory(hierarchy, own))
        .collect())
}

/// The directory of a process's cgroup under a hierarchy's mount, from the text of its /proc/PID/cgroup.
pub(super) fn own_directory(hierarchy: &Hierarchy, text: &[u8]) -> Option<PathBuf> {
    let own = text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        let controllers = std::str::from_utf8(fields.next()?).ok()?;
        let path = fields.next()?;
        let same = match hierarchy.controllers.first() {
            None => controllers.is_empty(),
            Some(first) => controllers.split(',').any(|name| name == first),
        };
        same.then(|| Path::new(OsStr::from_bytes(path)))
    })?;
    let below = own
        .strip_prefix(&hierarchy.root)
        .ok()
        // Outside of what the mount or the cgroup namespace shows there is no directory for it.
        .filter(|below| !below.components().any(|part| part == Component::ParentDir))
        .unwrap_or(Path::new(""));
    Some(if below.as_os_str().is_empty() {
        hierarchy.mount.clone()
    } else {
        hierarchy.mount.join(below)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n\
        33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/my\\040dir rw - cgroup none rw,clone_children,name=systemd\n\
        37 31 0:34 / /sys/fs/cgroup/elogind rw - cgroup none rw,name=elogind\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n\
        42 27 0:32 /foo /other/memory rw - cgroup cgroup rw,memory\n";

    fn named(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn mounts_are_found_once_with_their_controllers() {
        let found = parse_mounts(HYBRID);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].controllers, named(&["cpu", "cpuacct"]));
        assert_eq!(found[1].mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found[2].mount, Path::new("/sys/fs/cgroup/my dir"));
        assert!(found[3].is_v2());
    }

    #[test]
    fn a_bound_part_gives_way_to_the_whole() {
        let found = parse_mounts(
            b"42 27 0:32 /foo /other/memory rw - cgroup cgroup rw,memory\n\
              35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn an_absolute_path_is_below_each_mount() {
        let found = parse_mounts(HYBRID);
        let places = directories(&found, Some(Path::new("/dhow/a")), "a").unwrap();
        assert_eq!(places[1], Path::new("/sys/fs/cgroup/memory/dhow/a"));
        assert_eq!(places[3], Path::new("/sys/fs/cgroup/unified/dhow/a"));
        assert!(matches!(
            directories(&found, Some(Path::new("/dhow/../../etc")), "a"),
            Err(CgroupError::Path(_))
        ));
    }

    #[test]
    fn the_own_cgroup_is_seen_through_the_mount() {
        let own = b"5:cpu,cpuacct:/a\n4:memory:/docker/abc/inner\n0::/../other\n";
        let hierarchy = |controllers: &[&str], root: &str| Hierarchy {
            controllers: named(controllers),
            mount: "/cg".into(),
            root: root.into(),
        };
        for (controllers, root, expected) in [
            (&["cpuacct", "cpu"][..], "/", "/cg/a"),
            (&["memory"][..], "/docker/abc", "/cg/inner"),
            (&["memory"][..], "/elsewhere", "/cg"),
            (&[][..], "/", "/cg"),
        ] {
            assert_eq!(
                own_directory(&hierarchy(controllers, root), own),
                Some(PathBuf::from(expected))
            );
        }
        assert_eq!(own_directory(&hierarchy(&["pids"], "/"), own), None);
    }
}
