//! Making a container's directories, so that limits can be set and a process can be put in.

use std::io;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::CgroupError;
use super::directory::Directory;
use super::hierarchies::Hierarchy;
use super::processes::below;

/// Makes the directory and those above it. Gives whether it was not there before. What systemd made (`ours`) has a process already.
pub(super) fn make(
    hierarchy: &Hierarchy,
    directory: &Directory,
    ours: bool,
) -> Result<bool, CgroupError> {
    let made = make_with_parents(hierarchy, directory.path())?;
    if !made && !ours && is_occupied(directory)? {
        return Err(CgroupError::Occupied(directory.path().to_owned()));
    }
    Ok(made)
}

/// Gives a directory what the one above it has to give. `with_v2` is false where no limit needs the v2 tree's controllers: on a
/// hybrid host the tree is another's, and so is left as it is.
pub(super) fn furnish(
    hierarchy: &Hierarchy,
    directory: &Directory,
    with_v2: bool,
) -> Result<(), CgroupError> {
    if hierarchy.is_v2() && with_v2 {
        return hand_down_controllers(hierarchy, directory);
    }
    if hierarchy.controllers.iter().any(|name| name == "cpuset") {
        return fill_cpuset(hierarchy, directory);
    }
    Ok(())
}

/// Whether a directory that was there already has processes in it or below it: all of them would end with the container.
fn is_occupied(directory: &Directory) -> Result<bool, CgroupError> {
    match directory.try_read("cgroup.procs") {
        Ok(processes) if processes.is_empty() => {
            let below = below(directory).map_err(|source| CgroupError::Read {
                file: directory.path().to_owned(),
                source,
            })?;
            for child in &below {
                if is_occupied(child)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Ok(_) => Ok(true),
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // A threaded cgroup does not tell; somebody else made it so.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(true),
        Err(source) => Err(CgroupError::Read {
            file: directory.path().join("cgroup.procs"),
            source,
        }),
    }
}

/// Like `mkdir -p`, but begins at the end: all but the last directory are there nearly always.
fn make_with_parents(hierarchy: &Hierarchy, path: &Path) -> Result<bool, CgroupError> {
    // Another dhow may remove an empty parent between the two calls; a few turns are enough against that.
    for _ in 0..8 {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::NOENT) if path != hierarchy.mount => match path.parent() {
                Some(parent) => {
                    let made = make_with_parents(hierarchy, parent)?;
                    if made && hierarchy.controllers.iter().any(|name| name == "cpuset") {
                        inherit_cpuset(hierarchy, parent)?;
                    }
                }
                None => break,
            },
            Err(errno) => return Err(cannot_make(path, errno.into())),
        }
    }
    Err(cannot_make(path, Errno::NOENT.into()))
}

fn cannot_make(directory: &Path, source: io::Error) -> CgroupError {
    CgroupError::Make {
        directory: directory.to_owned(),
        source,
    }
}

/// Lets the children of a directory that was just made begin with its processors and memory nodes: a v1 cpuset otherwise
/// begins with none, and filling each child makes the kernel look at its scheduling domains each time.
fn inherit_cpuset(hierarchy: &Hierarchy, parent: &Path) -> Result<(), CgroupError> {
    let parent = Directory::new(parent.to_owned());
    fill_cpuset(hierarchy, &parent)?;
    parent.write("cgroup.clone_children", "1")
}

/// Gives a v1 cpuset its parent's processors and memory nodes where it has none, from the top down; no process can join it
/// otherwise.
fn fill_cpuset(hierarchy: &Hierarchy, directory: &Directory) -> Result<(), CgroupError> {
    if directory.path() == hierarchy.mount {
        return Ok(());
    }
    let Some(parent) = directory.path().parent() else {
        return Ok(());
    };
    let parent = Directory::new(parent.to_owned());
    for file in ["cpuset.cpus", "cpuset.mems"] {
        directory.fill(file, || {
            let value = parent.read(file)?;
            if !value.trim().is_empty() {
                return Ok(value);
            }
            fill_cpuset(hierarchy, &parent)?;
            parent.read(file)
        })?;
    }
    Ok(())
}

/// Enables on the way down every controller that the tree offers, so that the container's cgroup has them.
///
/// What cannot be enabled is no error here: a limit that needs it says so.
fn hand_down_controllers(hierarchy: &Hierarchy, directory: &Directory) -> Result<(), CgroupError> {
    let top = Directory::new(hierarchy.mount.clone());
    let offered = top.read("cgroup.controllers")?;
    if offered.trim().is_empty() || directory.read("cgroup.controllers")? == offered {
        return Ok(());
    }
    let Ok(below) = directory.path().strip_prefix(&hierarchy.mount) else {
        return Ok(());
    };
    let mut parents: Vec<&Path> = below.ancestors().skip(1).collect();
    parents.reverse();
    for parent in parents {
        let parent = Directory::new(hierarchy.mount.join(parent));
        let available = parent.read("cgroup.controllers")?;
        let all: Vec<String> = available
            .split_whitespace()
            .map(|name| format!("+{name}"))
            .collect();
        match parent.try_write("cgroup.subtree_control", &all.join(" ")) {
            // It has processes of its own. Some controllers could be enabled nevertheless, which would shut it to others.
            Ok(()) | Err(Errno::BUSY) => {}
            // All or nothing; one by one where one of them cannot be had.
            Err(_) => {
                for one in &all {
                    let _ = parent.try_write("cgroup.subtree_control", one);
                }
            }
        }
    }
    Ok(())
}

/// What a v2 cgroup is to the kernel: `domain`, `domain threaded`, `domain invalid` or `threaded`.
fn kind(path: &Path) -> String {
    let text = Directory::new(path.to_owned()).try_read("cgroup.type");
    text.unwrap_or_default().trim().to_owned()
}

/// Lets a v2 cgroup hold processes below one that is divided among threads: the kernel takes them there only in threaded mode,
/// in which there are no controllers of whole processes (a limit that needs one has been refused before). As in runc, those above
/// are put in it as well, from the top down. Gives whether there was anything to do.
pub(super) fn go_threaded(directory: &Directory) -> Result<bool, CgroupError> {
    let mut invalid: Vec<&Path> = directory
        .path()
        .ancestors()
        .take_while(|path| kind(path) == "domain invalid")
        .collect();
    invalid.reverse();
    for path in &invalid {
        Directory::new((*path).to_owned()).write("cgroup.type", "threaded")?;
    }
    Ok(!invalid.is_empty())
}

/// Why a v2 cgroup lacks a controller: one above it is divided among threads, and what is below such a one can neither hold a
/// process nor have the controllers of whole processes.
pub(super) fn blocked_by_threads(directory: &Directory, controller: &str) -> Option<CgroupError> {
    if !["domain invalid", "threaded"].contains(&kind(directory.path()).as_str()) {
        return None;
    }
    let top = directory
        .path()
        .ancestors()
        .find(|path| kind(path) == "domain threaded");
    Some(CgroupError::Threaded {
        directory: top.unwrap_or(directory.path()).to_owned(),
        controller: controller.to_owned(),
    })
}

/// Why a v2 cgroup lacks a controller: the cgroup above it that has it but has processes too, and so cannot hand it down.
pub(super) fn blocked_by_processes(directory: &Directory, controller: &str) -> Option<CgroupError> {
    directory.path().ancestors().skip(1).find_map(|path| {
        let above = Directory::new(path.to_owned());
        let available = above.try_read("cgroup.controllers").ok()?;
        let has = available.split_whitespace().any(|name| name == controller);
        // Only the root of the tree has no type, and it may have both.
        (has && above.has("cgroup.type") && is_occupied(&above).ok()?).then(|| {
            CgroupError::InternalProcesses {
                directory: path.to_owned(),
                controller: controller.to_owned(),
            }
        })
    })
}
