//! How often the kernel killed in a cgroup for want of memory.

use std::path::Path;

/// How many tasks of `cgroup` (a path from its hierarchy's mount) were killed for want of memory; zero where no memory controller tells.
pub fn oom_kills(cgroup: &Path) -> u64 {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return 0;
    };
    let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
    memory_mounts(&mounts)
        .filter_map(|(mount, file)| {
            std::fs::read_to_string(Path::new(mount).join(relative).join(file)).ok()
        })
        .filter_map(|text| count(&text))
        .max()
        .unwrap_or(0)
}

/// Where memory may be counted: cgroup v1's memory hierarchy, and v2's one hierarchy; each with the file that tells.
fn memory_mounts(mountinfo: &str) -> impl Iterator<Item = (&str, &'static str)> {
    mountinfo.lines().filter_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mount = fields.split(' ').nth(4)?;
        let mut kind = kind.split(' ');
        match (kind.next()?, kind.nth(1)?) {
            ("cgroup2", _) => Some((mount, "memory.events")),
            ("cgroup", options) if options.split(',').any(|o| o == "memory") => {
                Some((mount, "memory.oom_control"))
            }
            _ => None,
        }
    })
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|number| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_and_read() {
        let mounts = "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
                      37 25 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      38 25 0:33 / /sys/fs/cgroup/unified rw - cgroup2 none rw,nsdelegate\n";
        let found: Vec<_> = memory_mounts(mounts).collect();
        assert_eq!(
            found,
            [
                ("/sys/fs/cgroup/memory", "memory.oom_control"),
                ("/sys/fs/cgroup/unified", "memory.events")
            ]
        );
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            Some(3)
        );
        assert_eq!(
            count("low 0\noom 1\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(count("low 0\n"), None);
    }
}
