//! How a process joins a container's cgroup.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::directory::Directory;
use super::{Cgroup, CgroupError, hierarchies};

/// The descriptors through which a process joins.
///
/// Joining by `cgroup.procs` costs milliseconds on an idle machine, since the kernel then waits for every processor; a
/// thread that writes `0` to a v1 `tasks` file, and a process born in its v2 cgroup, cost a tenth of one.
#[derive(Debug)]
pub struct Joiner {
    v2: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

impl Joiner {
    /// The v2 cgroup's directory, for CLONE_INTO_CGROUP; none where there is no v2 tree.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling thread, the only one of its process, into every v1 hierarchy. Async-signal-safe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join_self(&self) -> io::Result<()> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0")?;
        }
        Ok(())
    }

    /// Is closed together with something else, mostly by one call.
    pub fn close_with(mut self, other: OwnedFd) {
        self.tasks.push(other);
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let mut fds = std::mem::take(&mut self.tasks);
        fds.extend(self.v2.take());
        dhow_sys::exec::close_all(fds);
    }
}

/// Cgroups below a container's own that a further process is to join (`exec --cgroup`), as runc has them: one for all
/// hierarchies, or one for each controller that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubCgroups {
    all: Option<PathBuf>,
    by_controller: BTreeMap<String, PathBuf>,
}

impl SubCgroups {
    /// From arguments `PATH` (only one) or `CONTROLLER[,CONTROLLER...]:PATH`.
    ///
    /// # Errors
    /// When an argument is neither, names a controller again, or leaves the container's cgroup.
    pub fn parse(arguments: &[String]) -> Result<Self, CgroupError> {
        let wrong = |argument: &str, reason: &str| CgroupError::Value {
            limit: "--cgroup",
            reason: format!("{argument:?} {reason}"),
        };
        let mut parsed = Self::default();
        for argument in arguments {
            let Some((controllers, path)) = argument.split_once(':') else {
                if arguments.len() > 1 {
                    return Err(wrong(argument, "lacks its CONTROLLER: beside others"));
                }
                parsed.all = Some(inside(argument)?);
                break;
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(wrong(argument, "names an empty controller"));
                }
                let path = inside(path)?;
                if parsed
                    .by_controller
                    .insert(controller.to_owned(), path)
                    .is_some()
                {
                    return Err(wrong(argument, "names a controller again"));
                }
            }
        }
        Ok(parsed)
    }

    /// Whether none is asked for.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.by_controller.is_empty()
    }

    /// The path below a directory of the container's with these controllers.
    fn of(&self, controllers: &[String]) -> Option<&Path> {
        let named = controllers
            .iter()
            .find_map(|controller| self.by_controller.get(controller));
        named.or(self.all.as_ref()).map(PathBuf::as_path)
    }

    /// A controller that the container's cgroup does not have.
    fn unknown<'a>(&'a self, places: &[super::Place]) -> Option<&'a String> {
        self.by_controller.keys().find(|controller| {
            !places
                .iter()
                .any(|place| place.controllers.contains(controller))
        })
    }
}

/// A path below the container's cgroup; a leading slash is that cgroup.
fn inside(path: &str) -> Result<PathBuf, CgroupError> {
    let path = Path::new(path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(CgroupError::Path(path.to_owned()));
    }
    Ok(path.strip_prefix("/").unwrap_or(path).to_owned())
}

impl Cgroup {
    /// As [`Cgroup::join`], in cgroups below it, which must be there.
    ///
    /// # Errors
    /// When one is not there, or a controller is not the container's.
    pub fn join_below(&self, below: &SubCgroups) -> Result<Joiner, CgroupError> {
        if below.is_empty() {
            return self.join();
        }
        if let Some(controller) = below.unknown(&self.places) {
            return Err(CgroupError::Value {
                limit: "--cgroup",
                reason: format!("{controller:?} is no v1 controller of the container's cgroup"),
            });
        }
        let places = self.places.iter().map(|place| {
            let path = place.directory.path();
            let path = match below.of(&place.controllers) {
                Some(below) => path.join(below),
                None => path.to_owned(),
            };
            super::Place::new(place.controllers.clone(), path)
        });
        Self::of(places.collect(), None).join()
    }

    /// The descriptors with which a process joins, opened here so that the process itself opens nothing.
    ///
    /// # Errors
    /// When a directory is not there any more.
    pub fn join(&self) -> Result<Joiner, CgroupError> {
        let mut joiner = Joiner {
            v2: None,
            tasks: Vec::with_capacity(self.places.len()),
        };
        for place in &self.places {
            let directory = &place.directory;
            let opened = if place.is_v2() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(directory.path(), flags, rustix::fs::Mode::empty())
                    .map(|fd| joiner.v2 = Some(fd))
            } else {
                // By its whole path: no descriptor of the directory is needed for anything else here.
                let file = directory.path().join("tasks");
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(&file, flags, rustix::fs::Mode::empty())
                    .map(|fd| joiner.tasks.push(fd))
            };
            opened.map_err(|errno| CgroupError::Read {
                file: directory.path().to_owned(),
                source: errno.into(),
            })?;
        }
        Ok(joiner)
    }

    /// As [`Cgroup::join`], but in the v2 tree beside a process of the container (its id in the caller's pid namespace).
    ///
    /// For a container that has divided its own v2 cgroup: the kernel answers EBUSY to who would join at its top.
    ///
    /// # Errors
    /// When the process or a directory is not there any more.
    pub fn join_beside(&self, process: i32) -> Result<Joiner, CgroupError> {
        let mut joiner = self.join()?;
        let file = format!("/proc/{process}/cgroup");
        let text = std::fs::read(&file).map_err(|source| CgroupError::Read {
            file: file.into(),
            source,
        })?;
        let hierarchies = hierarchies::mounted()?;
        let beside = hierarchies
            .iter()
            .find(|hierarchy| hierarchy.is_v2())
            .and_then(|hierarchy| hierarchies::own_directory(hierarchy, &text));
        if let (Some(path), Some(_)) = (beside, &joiner.v2) {
            let directory = Directory::new(path);
            let fd = directory
                .fd()
                .and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))
                .map_err(|errno| CgroupError::Read {
                    file: directory.path().to_owned(),
                    source: errno.into(),
                })?;
            joiner.v2 = Some(fd);
        }
        Ok(joiner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<SubCgroups, CgroupError> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        SubCgroups::parse(&arguments)
    }

    #[test]
    fn one_path_is_for_all_and_named_ones_are_for_theirs() {
        let list = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let all = parse(&["/sub"]).unwrap();
        assert_eq!(all.of(&[]), Some(Path::new("sub")));
        let some = parse(&["cpu,memory:a", "pids:b/c"]).unwrap();
        assert_eq!(some.of(&list(&["cpu", "cpuacct"])), Some(Path::new("a")));
        assert_eq!(some.of(&list(&["pids"])), Some(Path::new("b/c")));
        assert_eq!(some.of(&list(&["devices"])), None);
        for wrong in [
            &["a", "b"][..],
            &["cpu:a", "cpu:b"],
            &[":a"],
            &["../a"],
            &["cpu:a/../.."],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
