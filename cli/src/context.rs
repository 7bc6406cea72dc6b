//! What every verb needs to know of its surroundings: where things are kept and which programs are used.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dhow_engine::{Engine, EngineOptions};
use dhow_image_store::Store;

use crate::rootless;

/// The places that a person can move.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Places {
    /// Where images, containers and volumes are kept [default: /var/lib/dhow, without root $XDG_DATA_HOME/dhow]
    #[arg(
        long,
        global = true,
        env = "DHOW_ROOT",
        value_name = "DIR",
        help_heading = "Places"
    )]
    root: Option<PathBuf>,
    /// Where what ends with the machine is kept [default: /run/dhow, without root $XDG_RUNTIME_DIR/dhow]
    #[arg(
        long,
        global = true,
        env = "DHOW_STATE",
        value_name = "DIR",
        help_heading = "Places"
    )]
    state: Option<PathBuf>,
}

/// The surroundings of a verb.
pub(crate) struct Context {
    root: PathBuf,
    state: PathBuf,
}

impl Context {
    pub(crate) fn new(places: Places) -> anyhow::Result<Self> {
        let is_root = rootless::is_root();
        let root = match places.root {
            Some(root) => root,
            None if is_root => "/var/lib/dhow".into(),
            None => data_home()?.join("dhow"),
        };
        let state = match places.state {
            Some(state) => state,
            None if is_root => "/run/dhow".into(),
            None => rootless::runtime_dir().join("dhow"),
        };
        Ok(Self {
            root: std::path::absolute(root)?,
            state: std::path::absolute(state)?,
        })
    }

    /// The image store.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.root)?)
    }

    /// The containers.
    pub(crate) fn engine(&self) -> anyhow::Result<Engine> {
        let program = std::env::current_exe().context("finding dhow's own program")?;
        // What the monitor runs has neither environment nor working directory of this process.
        let clean_up = [
            program.as_os_str(),
            "--root".as_ref(),
            self.root.as_os_str(),
            "--state".as_ref(),
            self.state.as_os_str(),
            "clean-up".as_ref(),
        ];
        Ok(Engine::new(EngineOptions {
            store: self.store()?,
            root: self.root.clone(),
            state: self.state.clone(),
            runtime: self.runtime_program()?,
            monitor: self.monitor_program()?,
            clean_up: clean_up
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        }))
    }

    /// Where what lasts is kept.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where what dies with the machine is kept.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Where running steps of builds have their bundles.
    pub(crate) fn builds(&self) -> PathBuf {
        self.state.join("builds")
    }

    /// The OCI runtime.
    pub(crate) fn runtime_program(&self) -> anyhow::Result<PathBuf> {
        sibling("dhow-runtime", "DHOW_RUNTIME")
    }

    /// The program that stays beside a running container.
    pub(crate) fn monitor_program(&self) -> anyhow::Result<PathBuf> {
        sibling("dhow-monitor", "DHOW_MONITOR")
    }
}

/// A program of the family: the one that the environment names, or the one installed beside this one.
fn sibling(name: &str, variable: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("finding dhow's own program")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "the program {} is missing; install the whole family (make install), or name it in ${variable}",
        path.display()
    );
    Ok(path)
}

fn data_home() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()) {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME")
        .context("neither $HOME nor $XDG_DATA_HOME is set; say with --root where to keep images")?;
    Ok(PathBuf::from(home).join(".local/share"))
}
