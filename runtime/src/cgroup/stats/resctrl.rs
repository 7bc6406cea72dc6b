//! What a resctrl group tells: schemata, and the counters of its monitoring group.

use std::path::Path;

use serde::Serialize;

use crate::cgroup::CgroupError;
use crate::cgroup::directory::read_whole;

const ROOT: &str = "/sys/fs/resctrl";

/// Cache and memory bandwidth of a container (runc's `types.IntelRdt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdtStats {
    /// What the machine's L3 cache can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The schema of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The schema of the container's group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What the machine's memory bandwidth allocation can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemoryBandwidthInfo>,
    /// The schema of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The schema of the container's group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All schemata of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory bandwidth by node, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<BandwidthStats>>,
    /// Occupied L3 cache by node, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<OccupancyStats>>,
}

/// `info/L3` of resctrl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // Each is the file of its name.
pub struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    pub min_cbm_bits: u64,
    pub num_closids: u64,
}

/// `info/MB` of resctrl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // Each is the file of its name.
pub struct MemoryBandwidthInfo {
    pub bandwidth_gran: u64,
    pub delay_linear: u64,
    pub min_bandwidth: u64,
    pub num_closids: u64,
}

/// Memory bandwidth of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // Each is the file of its name.
pub struct BandwidthStats {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// Occupied cache of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // It is the file of its name.
pub struct OccupancyStats {
    pub llc_occupancy: u64,
}

impl IntelRdtStats {
    /// Reads a group, a directory below /sys/fs/resctrl.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(group: &Path) -> Result<Self, CgroupError> {
        let file = group.join("schemata");
        let text = read_whole(&file).map_err(|source| CgroupError::Read { file, source })?;
        let root = read_whole(&Path::new(ROOT).join("schemata")).unwrap_or_default();
        let (mbm_stats, cmt_stats) = counters(group);
        Ok(Self {
            l3_cache_info: cache_info(),
            l3_cache_schema_root: line(&root, "L3:"),
            l3_cache_schema: line(&text, "L3:"),
            mem_bw_info: bandwidth_info(),
            mem_bw_schema_root: line(&root, "MB:"),
            mem_bw_schema: line(&text, "MB:"),
            schemata: text.lines().map(|line| line.trim().to_owned()).collect(),
            mbm_stats,
            cmt_stats,
        })
    }
}

fn line(text: &str, prefix: &str) -> String {
    let found = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(prefix));
    found.unwrap_or_default().to_owned()
}

fn info(path: &str) -> Option<String> {
    let text = read_whole(&Path::new(ROOT).join("info").join(path)).ok()?;
    Some(text.trim().to_owned())
}

fn number(path: &str) -> u64 {
    info(path).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn cache_info() -> Option<CacheInfo> {
    Some(CacheInfo {
        cbm_mask: info("L3/cbm_mask")?,
        min_cbm_bits: number("L3/min_cbm_bits"),
        num_closids: number("L3/num_closids"),
    })
}

fn bandwidth_info() -> Option<MemoryBandwidthInfo> {
    info("MB/min_bandwidth")?;
    Some(MemoryBandwidthInfo {
        bandwidth_gran: number("MB/bandwidth_gran"),
        delay_linear: number("MB/delay_linear"),
        min_bandwidth: number("MB/min_bandwidth"),
        num_closids: number("MB/num_closids"),
    })
}

/// The counters of each node (`mon_data/mon_L3_00`), in the nodes' order.
fn counters(group: &Path) -> (Option<Vec<BandwidthStats>>, Option<Vec<OccupancyStats>>) {
    let Ok(entries) = std::fs::read_dir(group.join("mon_data")) else {
        return (None, None);
    };
    let mut nodes: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    nodes.sort();
    let read = |node: &Path, name: &str| -> Option<u64> {
        read_whole(&node.join(name)).ok()?.trim().parse().ok()
    };
    let bandwidth: Vec<_> = nodes
        .iter()
        .filter_map(|node| {
            Some(BandwidthStats {
                mbm_total_bytes: read(node, "mbm_total_bytes")?,
                mbm_local_bytes: read(node, "mbm_local_bytes").unwrap_or(0),
            })
        })
        .collect();
    let occupancy: Vec<_> = nodes
        .iter()
        .filter_map(|node| {
            let llc_occupancy = read(node, "llc_occupancy")?;
            Some(OccupancyStats { llc_occupancy })
        })
        .collect();
    (
        Some(bandwidth).filter(|list| !list.is_empty()),
        Some(occupancy).filter(|list| !list.is_empty()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("mon_data/mon_L3_00");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(dir.path().join("schemata"), "    MB:0=100\n    L3:0=fff\n").unwrap();
        std::fs::write(node.join("llc_occupancy"), "4096\n").unwrap();
        let stats = IntelRdtStats::read(dir.path()).unwrap();
        assert_eq!(stats.l3_cache_schema, "L3:0=fff");
        assert_eq!(stats.mem_bw_schema, "MB:0=100");
        let occupied = OccupancyStats {
            llc_occupancy: 4096,
        };
        assert_eq!(stats.cmt_stats, Some(vec![occupied]));
        assert_eq!(stats.mbm_stats, None);
    }
}
