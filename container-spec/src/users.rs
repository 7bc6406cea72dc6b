//! Users and groups by the names that the container's own files give them.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// More of a file that comes from an image is not read.
const LARGEST_FILE: u64 = 8 << 20;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The groups that name the user as a member, and the primary one first.
    pub groups: Vec<u32>,
    /// The home directory; `/` for a user whom the files do not know.
    pub home: String,
}

/// A user that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No entry of that name.
    #[error("no user {0:?} in the image's /etc/passwd; name one that is there, or give a number")]
    NoUser(String),
    /// No entry of that name.
    #[error("no group {0:?} in the image's /etc/group; name one that is there, or give a number")]
    NoGroup(String),
    /// A number past those that Docker and most programs take.
    #[error("{0} is no user or group; the largest id is 2147483647")]
    OutOfRange(u32),
    /// More than one colon, or an empty part.
    #[error("{0:?} names no user; write USER or USER:GROUP, names or numbers")]
    Malformed(String),
    /// The file is there but cannot be used.
    #[error("reading {file} of the image")]
    Read {
        /// The path inside.
        file: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Looks up `USER[:GROUP]` (names or numbers; empty is root) in `etc/passwd` and `etc/group` below `root`, as Docker does: a number need
/// not be in the files, a name must be; other groups are only taken where no group is named.
///
/// # Errors
/// When a name is not there, or a file cannot be read.
pub fn find_user(root: BorrowedFd<'_>, user: &str) -> Result<UserIds, UserError> {
    let (name, group) = match user.split_once(':') {
        Some((_, group)) if group.is_empty() || group.contains(':') => {
            return Err(UserError::Malformed(user.to_owned()));
        }
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let number: Option<u32> = if name.is_empty() {
        Some(0)
    } else {
        name.parse().ok()
    };
    let entry = passwd(root)?
        .into_iter()
        .find(|entry| (!name.is_empty() && entry.name == name) || number == Some(entry.uid));
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(number)) => number,
        (None, None) => return Err(UserError::NoUser(name.to_owned())),
    };
    let primary = entry.as_ref().map_or(0, |entry| entry.gid);
    let home = entry
        .as_ref()
        .map(|entry| entry.home.clone())
        .filter(|home| home.starts_with('/'))
        .unwrap_or_else(|| "/".to_owned());
    let (gid, others) = match (group, &entry) {
        (Some(wanted), _) => (find_group(root, wanted)?, Vec::new()),
        (None, Some(entry)) => (primary, memberships(root, &entry.name)?),
        (None, None) => (primary, Vec::new()),
    };
    for id in [uid, gid] {
        // The largest number says to the kernel: as before, which is root.
        if i32::try_from(id).is_err() {
            return Err(UserError::OutOfRange(id));
        }
    }
    let mut groups = vec![gid];
    for other in others {
        if !groups.contains(&other) {
            groups.push(other);
        }
    }
    Ok(UserIds {
        uid,
        gid,
        groups,
        home,
    })
}

fn find_group(root: BorrowedFd<'_>, wanted: &str) -> Result<u32, UserError> {
    let by_name = groups(root)?.into_iter().find(|group| group.name == wanted);
    match (by_name, wanted.parse()) {
        (Some(group), _) => Ok(group.gid),
        (None, Ok(number)) => Ok(number),
        (None, Err(_)) => Err(UserError::NoGroup(wanted.to_owned())),
    }
}

fn memberships(root: BorrowedFd<'_>, user: &str) -> Result<Vec<u32>, UserError> {
    Ok(groups(root)?
        .into_iter()
        .filter(|group| group.members.iter().any(|member| member == user))
        .map(|group| group.gid)
        .collect())
}

fn passwd(root: BorrowedFd<'_>) -> Result<Vec<PasswdEntry>, UserError> {
    let text = read(root, "/etc/passwd")?;
    let entry = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("/").to_owned();
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn groups(root: BorrowedFd<'_>) -> Result<Vec<GroupEntry>, UserError> {
    let text = read(root, "/etc/group")?;
    let entry = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields
            .next()
            .unwrap_or_default()
            .split(',')
            .map(|member| member.trim().to_owned())
            .filter(|member| !member.is_empty())
            .collect();
        Some(GroupEntry { name, gid, members })
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Opens a path of the container's, resolved inside its root.
pub(crate) fn open_inside(
    root: BorrowedFd<'_>,
    file: impl AsRef<Path>,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    dhow_sys::path::open_within(root, file.as_ref(), flags, Mode::empty(), resolve)
}

/// The text of a file of the image; empty where there is none. It may be anything (a FIFO, a link out of the root), so it is opened confined
/// to the root and without waiting, and only a regular file is read.
fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<String, UserError> {
    let failed = |source: std::io::Error| UserError::Read { file, source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_inside(root, file, flags) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(failed(errno.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    struct Root(std::path::PathBuf, std::fs::File);

    impl Root {
        fn new(test: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("dhow-users-{test}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("etc")).unwrap();
            let file = std::fs::File::open(&dir).unwrap();
            Self(dir, file)
        }

        fn with_files(test: &str) -> Self {
            let root = Self::new(test);
            std::fs::write(
                root.0.join("etc/passwd"),
                "root:x:0:0:root:/root:/bin/sh\n# no entry\nweb:x:33:34:Web:/srv:/bin/sh\n",
            )
            .unwrap();
            std::fs::write(
                root.0.join("etc/group"),
                "root:x:0:\nweb:x:34:\nlogs:x:4:syslog,web\nstaff:x:50:web\n",
            )
            .unwrap();
            root
        }

        fn find(&self, user: &str) -> Result<UserIds, UserError> {
            find_user(self.1.as_fd(), user)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let root = Root::with_files("name");
        let web = root.find("web").unwrap();
        assert_eq!((web.uid, web.gid), (33, 34));
        assert_eq!(web.groups, [34, 4, 50]);
        assert_eq!(web.home, "/srv");
        assert_eq!(root.find("33").unwrap(), web);
    }

    #[test]
    fn a_named_group_is_the_only_one() {
        let root = Root::with_files("group");
        let web = root.find("web:staff").unwrap();
        assert_eq!((web.uid, web.gid, web.groups), (33, 50, vec![50]));
        let numbers = root.find("1000:1001").unwrap();
        assert_eq!((numbers.uid, numbers.gid), (1000, 1001));
        assert_eq!(numbers.home, "/");
    }

    #[test]
    fn nobody_named_is_root_also_without_files() {
        assert_eq!(Root::with_files("root").find("").unwrap().home, "/root");
        let bare = Root::new("bare");
        assert_eq!(bare.find("").unwrap().uid, 0);
        assert!(matches!(bare.find("web"), Err(UserError::NoUser(_))));
        assert!(matches!(bare.find("0:web"), Err(UserError::NoGroup(_))));
        assert!(matches!(bare.find("0:"), Err(UserError::Malformed(_))));
        for far in ["4294967295", "0:4294967295"] {
            assert!(matches!(bare.find(far), Err(UserError::OutOfRange(_))));
        }
        assert!(matches!(bare.find("a:b:c"), Err(UserError::Malformed(_))));
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let root = Root::new("link");
        std::os::unix::fs::symlink("/../../../../etc/passwd", root.0.join("etc/passwd")).unwrap();
        // Inside the root the link leads to itself.
        assert!(matches!(root.find("root"), Err(UserError::Read { .. })));
    }
}
