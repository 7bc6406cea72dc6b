//! Where the containers' records are when nobody says.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dhow_runtime::{Error, is_in_user_namespace};
use rustix::fs::{FileType, Mode};

use super::flags::{Given, Verb};

/// Where root's are.
const OF_ROOT: &str = "/run/dhow/runtime";

/// The directory of the records: `--root`, or root's own, or one of the user's. A user's is made, for the commands that need it, so that
/// nobody else can look into it.
///
/// # Errors
/// When it is no place for records.
pub(super) fn find(global: &Given, verb: &Verb) -> Result<PathBuf, Error> {
    if let Some(given) = global.value("root") {
        let root = std::path::absolute(given).unwrap_or_default();
        if root.parent().is_none() {
            return Err(Error::Asked(
                "Option --root argument should not be set to /: name a directory of the runtime's own".to_owned(),
            ));
        }
        return Ok(root);
    }
    if matches!(verb.name, "spec" | "features") {
        return Ok(PathBuf::new());
    }
    let makes = matches!(verb.name, "create" | "run" | "restore");
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let given = given.filter(|dir| dir.is_absolute());
    let own = rustix::process::geteuid();
    if own.is_root() {
        return match given {
            Some(dir) if is_a_users_root() => of_user(&dir, makes),
            _ => Ok(PathBuf::from(OF_ROOT)),
        };
    }
    match given {
        Some(dir) => of_user(&dir, makes),
        None => in_tmp(Path::new(&format!("/tmp/dhow-{}", own.as_raw()))),
    }
}

/// Whether this is root of a user namespace that a user without privileges made (as podman does), and not a container's
/// root, which calls itself so.
fn is_a_users_root() -> bool {
    std::env::var_os("USER").is_none_or(|user| user != "root") && is_in_user_namespace()
}

/// Below a user's runtime directory. The sticky bit keeps it from being tidied away (XDG Base Directory Specification).
fn of_user(dir: &Path, makes: bool) -> Result<PathBuf, Error> {
    let root = dir.join("dhow/runtime");
    if !makes {
        return Ok(root);
    }
    let mode = Mode::from_raw_mode(0o1700);
    let made = match rustix::fs::stat(&root) {
        Ok(stat) if Mode::from_raw_mode(stat.st_mode) == mode => return Ok(root),
        Ok(_) => Ok(()),
        Err(_) => make(&root),
    };
    made.and_then(|()| Ok(rustix::fs::chmod(&root, mode)?))
        .map_err(|error| {
            Error::Asked(format!(
                "cannot make {}: {error}; XDG_RUNTIME_DIR must be a directory of this user's own (or name another place with --root)",
                root.display()
            ))
        })?;
    Ok(root)
}

/// In a directory where everybody may make what they will: the user's own, or none. It is made even to find nothing there, or
/// somebody else could make it meanwhile, with records that say which processes to kill.
fn in_tmp(dir: &Path) -> Result<PathBuf, Error> {
    // What it is now is looked at below.
    let _ = make(dir);
    let is_own = rustix::fs::lstat(dir).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & 0o022 == 0
    });
    if is_own {
        return Ok(dir.join("runtime"));
    }
    Err(Error::Asked(format!(
        "{} is not a directory that this user alone may write to: set XDG_RUNTIME_DIR, or name another place with --root",
        dir.display()
    )))
}

/// Makes a directory with those above it, for this user alone.
fn make(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}
