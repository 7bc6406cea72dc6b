//! The group of resctrl that a container's processes are in (config-linux.md, "IntelRdt").

use oci_spec::runtime::LinuxIntelRdt;

use super::step::ResctrlGroup;
use crate::spec::SpecError;

/// What the configuration asks for, checked.
pub(crate) fn resctrl_group(asked: &LinuxIntelRdt, id: &str) -> Result<ResctrlGroup, SpecError> {
    let invalid = |what: String| SpecError::Invalid {
        what: format!("linux.intelRdt: {what}"),
    };
    let given = asked.clos_id().as_deref().filter(|name| !name.is_empty());
    let name = match given {
        Some("/") => None,
        Some(name) if name.contains('/') || name == "." || name == ".." => {
            return Err(invalid(format!(
                "closID {name:?} is neither a name nor \"/\""
            )));
        }
        Some(name) => Some(name.to_owned()),
        None => Some(id.to_owned()),
    };
    let memory = asked.mem_bw_schema().clone();
    if let Some(line) = memory.iter().find(|line| !line.starts_with("MB:")) {
        return Err(invalid(format!(
            "memBwSchema {line:?} does not begin with MB:"
        )));
    }
    // A cache's schema may have lines for code and data.
    let cache = asked.l3_cache_schema().iter();
    let mut compared: Vec<String> = cache
        .flat_map(|text| text.lines())
        .map(str::to_owned)
        .collect();
    compared.extend(memory);
    let written = asked.schemata().clone().unwrap_or_default();
    if let Some(line) = compared
        .iter()
        .chain(&written)
        .find(|line| line.contains('\n'))
    {
        return Err(invalid(format!("{line:?} is more than one line")));
    }
    Ok(ResctrlGroup {
        name,
        is_named: given.is_some(),
        compared,
        written,
        monitor: asked
            .enable_monitoring()
            .unwrap_or(false)
            .then(|| id.to_owned()),
    })
}
