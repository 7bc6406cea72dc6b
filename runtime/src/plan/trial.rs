//! A configuration's text on its whole way to a plan, without a bundle on disk: what is tried with hostile texts.

use std::path::{Path, PathBuf};

use super::{Announce, CreateRequest, InitPlan, ProcessRequest};
use crate::error::Error;
use crate::seccomp;
use crate::spec::{self, Bundle};

/// Parses and checks a configuration, plans its container, prints the plan and compiles its filter; gives what was printed.
///
/// # Errors
/// When the text is no configuration, or asks for what cannot be.
pub fn config(text: &[u8]) -> Result<String, Error> {
    let spec = spec::parse(text, Path::new("config.json"))?;
    spec::check(&spec)?;
    let bundle = Bundle {
        dir: PathBuf::from("/bundle"),
        rootfs: PathBuf::from("/bundle/rootfs"),
        spec,
        text: text.to_owned(),
    };
    let request = CreateRequest {
        id: "trial".to_owned(),
        starts: true,
        ..CreateRequest::default()
    };
    let plan = InitPlan::create(&bundle, &request)?.within(0);
    let mut printed = plan.to_string();
    if let Some(process) = bundle.process() {
        let request = ProcessRequest {
            process,
            linux: bundle.linux(),
            preserve_fds: 0,
            waits: false,
            make_cwd: false,
            start_hooks: 0,
        };
        let exec = InitPlan::exec(&request, 0, Announce::default(), None)?;
        printed.push_str(&exec.to_string());
    }
    if let Some(profile) = bundle.linux().and_then(|linux| linux.seccomp().as_ref()) {
        let program = seccomp::compile(profile)?;
        printed.push_str(&format!("{} instructions\n", program.instructions.len()));
    }
    Ok(printed)
}
