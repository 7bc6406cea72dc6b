//! dhow for people without root: the program executes itself again as root of a user namespace of theirs.
//!
//! Layers have files of many owners, and overlays have to be mounted; a user namespace gives both to who has ids in /etc/subuid and
//! /etc/subgid. There is one such namespace as long as any process lives in it: who comes later joins it, because a container can only
//! be entered from where it was made. A lock makes sure that two who come at once do not make two.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use dhow_sys::{namespace, user_namespace};
use rustix::fs::FlockOperation;

/// Tells the program that it is inside, and who the user is outside.
const MARK: &str = "DHOW_USER_NAMESPACE";
/// This program, and with it every later one, runs as itself.
const OWN: &str = "/proc/self/exe";
/// The hidden verb by which the ids are mapped from outside.
pub(crate) const MAPPER: &str = "map-ids";
/// Programs of the family that keep the namespace alive.
const FAMILY: [&str; 2] = ["dhow", "dhow-monitor"];

/// The user's id outside, where this process is inside a user namespace that `enter` made.
pub(crate) fn outer_user() -> Option<u32> {
    std::env::var(MARK).ok()?.parse().ok()
}

/// Whether this process may do what root may, with all ids of the machine.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() && outer_user().is_none()
}

/// Executes this program again as root of a user namespace, unless it is root already. `state` is the directory of what ends with
/// the machine, where the lock is.
pub(crate) fn enter(state: &Path) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let ids = Ids::of_caller()?;
    let _lock = lock(state)?;
    match ids.living() {
        Some(there) => {
            namespace::enter(there.as_fd(), namespace::USER)
                .context("joining the user namespace of your other containers")?;
            namespace::unshare(namespace::MOUNT)
                .context("making a mount namespace inside the user namespace")?;
        }
        None => ids.make()?,
    }
    // The lock goes with the execution: now whoever looks finds this process.
    Err(Command::new(OWN)
        .arg0("dhow")
        .args(std::env::args_os().skip(1))
        .env(MARK, ids.user.to_string())
        .exec())
    .context("executing dhow inside the user namespace")
}

fn lock(state: &Path) -> anyhow::Result<File> {
    let mut making = std::fs::DirBuilder::new();
    making.recursive(true).mode(0o700);
    let made = making.create(state);
    made.with_context(|| format!("making the directory of the state {}", state.display()))?;
    for directory in in_tmp(state) {
        check_own(directory)?;
    }
    let path = state.join("userns.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening the lock {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

/// Of a path that others could have made before us, because nobody said where to: this user's directory and those below it.
fn in_tmp(state: &Path) -> impl Iterator<Item = &Path> {
    let own = in_tmp_of(rustix::process::getuid().as_raw());
    let below = move |path: &&Path| path.starts_with(&own);
    state.ancestors().take_while(below)
}

fn in_tmp_of(user: u32) -> PathBuf {
    format!("/tmp/dhow-{user}").into()
}

/// Refuses a directory that somebody else made or can write to: he could put containers' records there.
fn check_own(directory: &Path) -> anyhow::Result<()> {
    let found = fs_err::symlink_metadata(directory)?;
    let own = rustix::process::getuid().as_raw();
    ensure!(
        found.is_dir() && found.uid() == own && found.mode() & 0o022 == 0,
        "{} is not a directory that you alone may write to; name another with --state or $XDG_RUNTIME_DIR",
        directory.display()
    );
    Ok(())
}

/// A range of ids: inside, outside, how many.
type Range = (u32, u32, u32);

/// Which ids the user may have.
struct Ids {
    user: u32,
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl Ids {
    fn of_caller() -> anyhow::Result<Self> {
        let user = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        let name = user_name(user);
        let more = |file: &str| -> anyhow::Result<Vec<Range>> {
            match fs_err::read_to_string(file) {
                Ok(text) => Ok(ranges(&text, user, name.as_deref())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        };
        let (uids, gids) = (more("/etc/subuid")?, more("/etc/subgid")?);
        // One without the other is of no use: files have both.
        let (uids, gids) = match uids.is_empty() || gids.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (uids, gids),
        };
        Ok(Self {
            user,
            uids: [(0, user, 1)].into_iter().chain(uids).collect(),
            gids: [(0, group, 1)].into_iter().chain(gids).collect(),
        })
    }

    /// Whether there is more than the user's own id.
    fn are_many(&self) -> bool {
        self.uids.len() > 1
    }

    /// The user namespace in which another process of the family lives that has just these ids.
    fn living(&self) -> Option<OwnedFd> {
        let own = fs_err::metadata("/proc/self/ns/user").ok()?.ino();
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let path = entry.path();
            let is_ours = entry.metadata().is_ok_and(|found| found.uid() == self.user)
                && std::fs::read_to_string(path.join("comm"))
                    .is_ok_and(|name| FAMILY.contains(&name.trim_end()));
            if !is_ours {
                continue;
            }
            let Ok(there) = File::open(path.join("ns/user")) else {
                continue;
            };
            let maps = [("uid_map", &self.uids), ("gid_map", &self.gids)];
            let has_ids = |(map, ids): (&str, &Vec<Range>)| {
                std::fs::read_to_string(path.join(map)).is_ok_and(|text| parse_map(&text) == *ids)
            };
            if maps.into_iter().all(has_ids) && self.has_made(&there, own) {
                return Some(there.into());
            }
        }
        None
    }

    /// Whether the user made this namespace right below the one with the number `own`. One further below has the same maps for who looks
    /// from here, when it maps all ids to themselves; but containers of others above it could not be entered from it.
    fn has_made(&self, there: &File, own: u64) -> bool {
        let above = || File::from(user_namespace::parent(there.as_fd())?).metadata();
        user_namespace::owner(there.as_fd()) == Ok(self.user)
            && above().is_ok_and(|above| above.ino() == own)
    }

    /// Puts this process into a new user namespace and a mount namespace of it, as its root.
    fn make(&self) -> anyhow::Result<()> {
        // Who maps has to be outside, so it is started before.
        let mapper = match self.are_many() {
            true => Some(Mapper::start()?),
            false => None,
        };
        namespace::unshare(namespace::USER | namespace::MOUNT).context(
            "making a user namespace; the system may keep users from it (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)",
        )?;
        match mapper {
            Some(mapper) => mapper.map(),
            None => {
                fs_err::write("/proc/self/setgroups", "deny")?;
                fs_err::write("/proc/self/uid_map", as_map(&self.uids))?;
                Ok(fs_err::write("/proc/self/gid_map", as_map(&self.gids))?)
            }
        }
    }
}

/// The process that maps the ids of this one, from outside.
struct Mapper(Child);

impl Mapper {
    fn start() -> anyhow::Result<Self> {
        let own = rustix::process::getpid().as_raw_nonzero().to_string();
        let child = Command::new(OWN)
            .args([MAPPER, &own])
            .stdin(Stdio::piped())
            .spawn()
            .context("starting the program that maps ids")?;
        Ok(Self(child))
    }

    fn map(mut self) -> anyhow::Result<()> {
        if let Some(mut begin) = self.0.stdin.take() {
            begin.write_all(b"\n").context("asking for ids")?;
        }
        let status = self.0.wait().context("waiting for the ids")?;
        // It has said why.
        ensure!(
            status.success(),
            "your ids of /etc/subuid and /etc/subgid cannot be mapped"
        );
        Ok(())
    }
}

/// Maps the caller's ids into the user namespace of a process, once that has made it and says so on standard input.
#[derive(clap::Args)]
pub(crate) struct MapArgs {
    /// The process
    pid: u32,
}

/// The hidden verb.
pub(crate) fn map_ids(args: &MapArgs) -> anyhow::Result<ExitCode> {
    let mut word = [0];
    if std::io::stdin().read(&mut word)? == 0 {
        // It could not make one, and has said so.
        return Ok(ExitCode::FAILURE);
    }
    let ids = Ids::of_caller()?;
    for (program, ranges) in [("newuidmap", &ids.uids), ("newgidmap", &ids.gids)] {
        let mut words = vec![OsString::from(args.pid.to_string())];
        for (inside, outside, count) in ranges {
            words.extend([inside, outside, count].map(|number| number.to_string().into()));
        }
        let output = Command::new(program)
            .args(words)
            .output()
            .with_context(|| format!("{program} maps ids for users; install the package uidmap"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program}: {}", said.trim());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The user's name in /etc/passwd.
fn user_name(user: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == user).then(|| name.to_owned())
    })
}

/// The ranges that a file such as /etc/subuid gives a user, one after the other from 1 on.
fn ranges(text: &str, user: u32, name: Option<&str>) -> Vec<Range> {
    let number = user.to_string();
    let mut next: u32 = 1;
    let given = dhow_engine::subordinate_ids(text, &[&number, name.unwrap_or(&number)]);
    let place = |(first, count)| {
        let range = (next, first, count);
        next = next.saturating_add(count);
        range
    };
    given.into_iter().map(place).collect()
}

fn as_map(ranges: &[Range]) -> String {
    let line = |(inside, outside, count): &Range| format!("{inside} {outside} {count}\n");
    ranges.iter().map(line).collect()
}

fn parse_map(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        match (numbers.next()?, numbers.next()?, numbers.next()?) {
            (Ok(inside), Ok(outside), Ok(count)) => Some((inside, outside, count)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

/// Where what ends with the machine is for this user, when nobody says.
pub(crate) fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => dir.into(),
        None => {
            let user = outer_user().unwrap_or_else(|| rustix::process::getuid().as_raw());
            in_tmp_of(user)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_the_ranges_that_name_him_one_after_the_other() {
        let text =
            "root:1:9\nme:100000:65536\n1000:300000:10\nother:400000:7\nme:broken:3\nme:5:0\n";
        assert_eq!(
            ranges(text, 1000, Some("me")),
            [(1, 100_000, 65_536), (65_537, 300_000, 10)]
        );
        assert_eq!(ranges(text, 1000, None), [(1, 300_000, 10)]);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_not_ones_own() {
        let directory = std::env::temp_dir().join(format!("dhow-own-{}", std::process::id()));
        let mode = |mode| std::fs::DirBuilder::new().mode(mode).create(&directory);
        mode(0o700).unwrap();
        let own = check_own(&directory);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&directory, open).unwrap();
        let shared = check_own(&directory);
        std::fs::remove_dir(&directory).unwrap();
        std::os::unix::fs::symlink("/root", &directory).unwrap();
        let link = check_own(&directory);
        std::fs::remove_file(&directory).unwrap();
        own.unwrap();
        assert!(shared.is_err() && link.is_err());
        let own = in_tmp_of(rustix::process::getuid().as_raw());
        let state = own.join("dhow");
        assert_eq!(in_tmp(&state).count(), 2);
        assert_eq!(in_tmp(Path::new("/tmp/elsewhere/dhow")).count(), 0);
    }

    #[test]
    fn a_map_is_read_as_it_is_written() {
        let map = [(0, 1000, 1), (1, 100_000, 65_536)];
        assert_eq!(parse_map(&as_map(&map)), map);
        assert_eq!(parse_map("         0       1000          1\n"), map[..1]);
    }
}
