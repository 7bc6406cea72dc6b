//! Block devices.

use super::{BlockIoEntry, BlockIoStats, pressure};
use crate::cgroup::directory::Directory;
use crate::cgroup::{Cgroup, CgroupError, Controller};

/// Reads it from the version that has the controller.
pub(super) fn read(cgroup: &Cgroup) -> Result<BlockIoStats, CgroupError> {
    let mut stats = BlockIoStats::default();
    match cgroup.controller("blkio", "io") {
        None => {}
        Some(Controller::V1(directory)) => read_v1(directory, &mut stats)?,
        Some(Controller::V2(directory)) => {
            let text = directory.read_if_there("io.stat")?.unwrap_or_default();
            parse_v2(&text, &mut stats);
            stats.psi = pressure(directory, "io.pressure")?;
        }
    }
    Ok(stats)
}

/// Who counts depends on the I/O scheduler and the kernel: BFQ, CFQ (gone with 5.0), or the throttle alone.
fn read_v1(directory: &Directory, stats: &mut BlockIoStats) -> Result<(), CgroupError> {
    for prefix in ["blkio.bfq.", "blkio."] {
        let read = |name: &str| read_file(directory, &format!("{prefix}{name}_recursive"));
        let Some(serviced) = read("io_serviced")? else {
            continue;
        };
        if serviced.is_empty() {
            // A scheduler that is compiled in and has no disk counts nothing.
            continue;
        }
        stats.io_serviced_recursive = serviced;
        stats.io_service_bytes_recursive = read("io_service_bytes")?.unwrap_or_default();
        stats.sectors_recursive = read("sectors")?.unwrap_or_default();
        stats.io_service_time_recursive = read("io_service_time")?.unwrap_or_default();
        stats.io_wait_time_recursive = read("io_wait_time")?.unwrap_or_default();
        stats.io_merged_recursive = read("io_merged")?.unwrap_or_default();
        stats.io_queued_recursive = read("io_queued")?.unwrap_or_default();
        stats.io_time_recursive = read("time")?.unwrap_or_default();
        return Ok(());
    }
    for end in ["_recursive", ""] {
        let read = |name: &str| read_file(directory, &format!("blkio.throttle.{name}{end}"));
        if let Some(serviced) = read("io_serviced")? {
            stats.io_serviced_recursive = serviced;
            stats.io_service_bytes_recursive = read("io_service_bytes")?.unwrap_or_default();
            return Ok(());
        }
    }
    Ok(())
}

fn read_file(directory: &Directory, file: &str) -> Result<Option<Vec<BlockIoEntry>>, CgroupError> {
    let text = directory.read_if_there(file)?;
    Ok(text.map(|text| text.lines().filter_map(parse_v1).collect()))
}

/// `8:0 Read 4096`, or `8:0 4096`; the sum of all devices (`Total 4096`) is none.
fn parse_v1(line: &str) -> Option<BlockIoEntry> {
    let mut fields = line.split_whitespace();
    let (major, minor) = device(fields.next()?)?;
    let second = fields.next()?;
    let (op, value) = match fields.next() {
        Some(value) => (second, value),
        None => ("", second),
    };
    Some(BlockIoEntry {
        major,
        minor,
        op: op.to_owned(),
        value: value.parse().ok()?,
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`, in v1's tables.
fn parse_v2(text: &str, stats: &mut BlockIoStats) {
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(device) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => (&mut stats.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.io_serviced_recursive, "Write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                table.push(BlockIoEntry {
                    major,
                    minor,
                    op: op.to_owned(),
                    value,
                });
            }
        }
    }
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_fill_the_same_tables() {
        let entry = |op: &str, value| BlockIoEntry {
            major: 8,
            minor: 16,
            op: op.to_owned(),
            value,
        };
        assert_eq!(parse_v1("8:16 Read 12"), Some(entry("Read", 12)));
        assert_eq!(parse_v1("8:16 7"), Some(entry("", 7)));
        assert_eq!(parse_v1("Total 7"), None);
        let mut stats = BlockIoStats::default();
        parse_v2(
            "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
            &mut stats,
        );
        assert_eq!(
            stats.io_service_bytes_recursive,
            [entry("Read", 1), entry("Write", 2)]
        );
        assert_eq!(
            stats.io_serviced_recursive,
            [entry("Read", 3), entry("Write", 4)]
        );
    }
}
