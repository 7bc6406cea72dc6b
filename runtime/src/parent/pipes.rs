//! The pipes that a container with a user namespace of its own begins with.
//!
//! A pipe belongs to who made it. Init gives it to the container's user, so that `/dev/stdout` can be opened again; but in a user
//! namespace that has no such owner it may not, while the parent, outside, may.

use std::path::Path;

use rustix::fs::{FileType, Gid, Uid};

use crate::procfs::read_record;

/// Gives the pipes among standard input, output and error to a user of the namespace in which the process `pid` is, and to the group
/// of its root, who then has power over them as over all that is the container's. Where that cannot be the container does
/// without, as one that has no namespace of its own.
pub(super) fn give(pid: i32, uid: u32) {
    let (Some(user), Some(group)) = (
        host_id(pid, "uid_map", uid).map(Uid::from_raw),
        host_id(pid, "gid_map", 0).map(Gid::from_raw),
    ) else {
        return;
    };
    let descriptors = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for fd in descriptors {
        // Only a pipe is opened anew by its descriptor: a socket cannot be, and a file may be anybody's.
        let is_pipe = |mode| FileType::from_raw_mode(mode) == FileType::Fifo;
        if rustix::fs::fstat(fd).is_ok_and(|stat| is_pipe(stat.st_mode)) {
            let _ = rustix::fs::fchown(fd, Some(user), Some(group));
        }
    }
}

/// Which id here is `id` in the user namespace of a process.
fn host_id(pid: i32, map: &str, id: u32) -> Option<u32> {
    let text = read_record(Path::new(&format!("/proc/{pid}/{map}"))).ok()?;
    mapped(&String::from_utf8_lossy(&text), id)
}

/// Which id outside is `id` inside, by the lines `inside outside count` of a map.
fn mapped(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let at = id.checked_sub(inside).filter(|at| *at < count)?;
        outside.checked_add(at)
    })
}

#[cfg(test)]
mod tests {
    use super::mapped;

    #[test]
    fn an_id_is_found_in_the_map() {
        let map = "         0     300000       1000\n      1000       5000          1\n";
        assert_eq!(mapped(map, 0), Some(300_000));
        assert_eq!(mapped(map, 999), Some(300_999));
        assert_eq!(mapped(map, 1000), Some(5000));
        assert_eq!(mapped(map, 1001), None);
        assert_eq!(mapped("", 0), None);
        assert_eq!(mapped("0 0 4294967295\n", 12), Some(12));
    }
}
