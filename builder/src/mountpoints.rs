//! The places at which a `RUN` sees something mounted. The runtime makes those that the root lacks; they must not stay in the layer.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps};

use crate::TreeError;
use crate::root_dir::RootDir;

/// What was missing before a command ran.
pub(crate) struct Mountpoints {
    /// The deepest first.
    missing: Vec<PathBuf>,
    /// The directories in which something will be made, with the times they have now.
    parents: Vec<(PathBuf, Timestamps)>,
}

impl Mountpoints {
    /// Looks which of `destinations` the root lacks.
    pub(crate) fn look(
        root: &RootDir,
        destinations: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, TreeError> {
        let mut missing: Vec<PathBuf> = Vec::new();
        let mut parents: Vec<(PathBuf, Timestamps)> = Vec::new();
        for destination in destinations {
            let mut path = crate::root_dir::clean(&destination);
            while !path.as_os_str().is_empty() {
                if root.find(&path)?.is_some() {
                    break;
                }
                if !missing.contains(&path) {
                    missing.push(path.clone());
                }
                path = path.parent().unwrap_or(Path::new("")).to_owned();
            }
            let known = parents.iter().any(|(known, _)| *known == path);
            if let (false, Some((_, stat))) = (known, root.find(&path)?) {
                parents.push((path, times(&stat)));
            }
        }
        missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        Ok(Self { missing, parents })
    }

    /// Removes what is still as empty as the runtime made it.
    pub(crate) fn clear(self, root: &RootDir) -> Result<(), TreeError> {
        let mut removed = false;
        for path in &self.missing {
            let Some((parent, name)) = place(root, path) else {
                continue;
            };
            let Ok(stat) = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let gone = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR).is_ok()
                }
                FileType::RegularFile if stat.st_size == 0 => {
                    rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).is_ok()
                }
                // The command has put something of its own there.
                _ => false,
            };
            removed |= gone;
        }
        if removed {
            for (path, times) in &self.parents {
                let shown = path.to_string_lossy();
                let failed = TreeError::system("setting the times of", &shown);
                if let Ok(fd) = root.open_dir(path) {
                    rustix::fs::futimens(&fd, times).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

/// Where a path that was made really is: a link to nothing may have stood at its end.
fn place(root: &RootDir, path: &Path) -> Option<(OwnedFd, OsString)> {
    let (real, _) = root.find(path).ok()??;
    let parent = root.open_dir(real.parent()?).ok()?;
    Some((parent, real.file_name()?.to_owned()))
}

#[allow(clippy::unnecessary_cast)] // The fields' types differ between architectures.
fn times(stat: &rustix::fs::Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime as i64,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as i64,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
