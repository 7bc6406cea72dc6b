//! Huge pages.

use oci_spec::runtime::LinuxHugepageLimit;
use rustix::io::Errno;

use super::wrong;
use crate::cgroup::{Cgroup, CgroupError, Controller};

const LIMIT: &str = "the limit on huge pages";

/// Limits the pages of one size, those in use and, where the kernel counts them apart, those reserved.
pub(super) fn set(cgroup: &Cgroup, limit: &LinuxHugepageLimit) -> Result<(), CgroupError> {
    let size = limit.page_size();
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(wrong(
            LIMIT,
            format!("{size:?} is no page size; write it as in 2MB or 1GB"),
        ));
    }
    let (directory, end) = match cgroup.require("hugetlb", "hugetlb", LIMIT)? {
        Controller::V1(directory) => (directory, "limit_in_bytes"),
        Controller::V2(directory) => (directory, "max"),
    };
    let value = match limit.limit() {
        -1 if end == "max" => "max".to_owned(),
        limit => limit.to_string(),
    };
    let file = format!("hugetlb.{size}.{end}");
    match directory.try_write(&file, &value) {
        Err(Errno::NOENT) => {
            return Err(wrong(
                LIMIT,
                format!("this host has no huge pages of size {size}"),
            ));
        }
        other => other.map_err(|errno| directory.refused(&file, &value, errno))?,
    }
    let reserved = format!("hugetlb.{size}.rsvd.{end}");
    match directory.try_write(&reserved, &value) {
        // Kernels before 5.7 do not count them apart.
        Err(Errno::NOENT) => Ok(()),
        other => other.map_err(|errno| directory.refused(&reserved, &value, errno)),
    }
}
