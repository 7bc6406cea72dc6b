//! One container's cgroup, over v1 hierarchies, a v2 tree, or both.
//!
//! It is where runc's cgroupfs driver would make it, and is limited as runc would limit it; what this host cannot limit is
//! refused by name instead of left away. The files are written by us, through descriptors: the crate cgroups-rs was looked at
//! and left, since its 0.3 line joins only by `cgroup.procs` (milliseconds on an idle machine), hides a directory that
//! could not be made, knows neither hybrid hosts nor v2 devices, and brings a regex engine into a program that is to stay
//! small; later lines bring an async D-Bus client.
//!
//! With the systemd driver the directory is a scope's, which systemd makes; its limits are written here too, and so hold exactly
//! where a property of systemd's is coarser or missing.
//!
//! Who pays: memory is charged to the cgroup in which a process touches it first. So limits are set before anybody is in
//! the cgroup, and whatever costs memory (reading the bundle, compiling the filter) is done by the parent outside; then a
//! container starts in few MiB.

mod delegate;
mod devices;
mod directory;
mod error;
mod hierarchies;
mod join;
mod limits;
mod make;
mod oom;
mod processes;
mod remove;
mod stats;
mod systemd;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use error::CgroupError;
pub use join::{Joiner, SubCgroups};
pub use oom::{OomEvent, OomWatch};
pub use stats::{
    BandwidthStats, BlockIoEntry, BlockIoStats, CacheInfo, CpuStats, CpuUsage, CpusetStats,
    HugepageStats, IntelRdtStats, MemoryBandwidthInfo, MemoryEntry, MemoryStats, OccupancyStats,
    PidsStats, Pressure, PressureFigures, RdmaEntry, RdmaStats, Stats, Throttling,
};
pub(crate) use systemd::SYSTEMD_PROPERTY;
pub use systemd::Unit;

use crate::privilege::is_unprivileged;
use directory::Directory;
use hierarchies::Hierarchy;

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// This program, by making directories.
    #[default]
    Cgroupfs,
    /// systemd, as a scope.
    Systemd,
}

/// Which cgroup is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who makes it.
    pub driver: Driver,
    /// The specification's cgroupsPath; for systemd `SLICE:PREFIX:NAME`.
    pub path: Option<&'a Path>,
    /// The container's id.
    pub id: &'a str,
    /// The specification's annotations, for properties of systemd's.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// Whether this process is to be taken for one without privileges; if none, it is seen.
    pub rootless: Option<bool>,
}

/// One container's cgroup: a directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    places: Vec<Place>,
    /// The scope whose it is.
    unit: Option<Unit>,
    /// What holds a new scope until a process of the container is in it.
    anchor: Option<systemd::Anchor>,
}

/// A directory in one hierarchy.
#[derive(Debug)]
struct Place {
    /// None for a v2 tree.
    controllers: Vec<String>,
    directory: Directory,
    /// What a v2 directory has.
    available: OnceCell<Vec<String>>,
}

/// Where a container's cgroup is, as it is kept in the container's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// A directory for each hierarchy.
    pub places: Vec<PlaceRecord>,
    /// systemd's scope, where it made the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// A container's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// The hierarchy's controllers (`cpu`, `memory`), or its name (`name=systemd`); none for a v2 tree.
    pub controllers: Vec<String>,
    /// The directory on the host, absolute.
    pub directory: PathBuf,
}

/// The directory that has a controller, by the version whose files it has.
#[derive(Clone, Copy)]
enum Controller<'a> {
    V1(&'a Directory),
    V2(&'a Directory),
}

impl Place {
    fn new(controllers: Vec<String>, directory: PathBuf) -> Self {
        Self {
            controllers,
            directory: Directory::new(directory),
            available: OnceCell::new(),
        }
    }

    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

impl Cgroup {
    /// Makes a container's cgroup and sets its limits, before any process of the container is in it.
    ///
    /// The specification's cgroupsPath, if absolute, is below each hierarchy's mount; a relative one (or the id, where
    /// there is none) is in the calling process's own cgroup. A process without privileges that names no path goes without
    /// the hierarchies in which it may not make a directory, as in runc; the request may say whether this one is to be
    /// taken for such.
    ///
    /// # Errors
    /// When the path is none, a directory cannot be made, a limit's controller is missing or a limit cannot be set;
    /// what was made is removed again.
    pub fn create(
        request: &Request<'_>,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let hierarchies = hierarchies::mounted()?;
        let (unit, directories) = Self::find(request, &hierarchies)?;
        let is_named = request
            .path
            .is_some_and(|path| !path.as_os_str().is_empty());
        let tolerant = || !is_named && request.rootless.unwrap_or_else(is_unprivileged);
        let mut cgroup = Self::of(Vec::new(), unit);
        let mut made = Self::of(Vec::new(), None);
        let mut refused = Vec::new();
        let result = cgroup
            .start_unit(request, resources, &hierarchies)
            .and_then(|()| {
                cgroup.make_places(&mut made, &mut refused, &hierarchies, directories, tolerant)
            })
            .and_then(|()| cgroup.furnish(&hierarchies, resources))
            .and_then(|()| limits::set(&cgroup, resources, true));
        match result {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // A scope that could not be started may be another's.
                if cgroup.anchor.take().is_some() {
                    made.unit = cgroup.unit.take();
                }
                // The first error is the one to tell.
                let _ = made.remove();
                Err(match error {
                    CgroupError::MissingController { controller, limit } => {
                        missing(&refused, controller, limit)
                    }
                    error => error,
                })
            }
        }
    }

    fn of(places: Vec<Place>, unit: Option<Unit>) -> Self {
        Self {
            places,
            unit,
            anchor: None,
        }
    }

    /// The scope, if there is to be one, and the directory in each hierarchy.
    fn find(
        request: &Request<'_>,
        hierarchies: &[Hierarchy],
    ) -> Result<(Option<Unit>, Vec<PathBuf>), CgroupError> {
        match request.driver {
            Driver::Cgroupfs => {
                let found = hierarchies::directories(hierarchies, request.path, request.id)?;
                Ok((None, found))
            }
            Driver::Systemd => {
                let unit = Unit::of(request)?;
                let path = Path::new("/").join(unit.directory()?);
                let found = hierarchies::directories(hierarchies, Some(&path), request.id)?;
                Ok((Some(unit), found))
            }
        }
    }

    /// Where [`Cgroup::create`] would make it, before anything is made: what is recorded first can be removed after a crash.
    ///
    /// # Errors
    /// When the path is none, or there are no hierarchies.
    pub fn locate(request: &Request<'_>) -> Result<CgroupRecord, CgroupError> {
        let hierarchies = hierarchies::mounted()?;
        let (unit, directories) = Self::find(request, &hierarchies)?;
        let places = hierarchies.into_iter().zip(directories);
        Ok(CgroupRecord {
            places: places
                .map(|(hierarchy, directory)| PlaceRecord {
                    controllers: hierarchy.controllers,
                    directory,
                })
                .collect(),
            unit,
        })
    }

    fn start_unit(
        &mut self,
        request: &Request<'_>,
        resources: Option<&LinuxResources>,
        hierarchies: &[Hierarchy],
    ) -> Result<(), CgroupError> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let anchor = systemd::Anchor::new().map_err(|errno| CgroupError::Systemd {
            doing: "get a process for a scope".to_owned(),
            answer: errno.to_string(),
        })?;
        let pure_v2 = hierarchies.iter().all(Hierarchy::is_v2);
        unit.start(request, anchor.pid(), resources, pure_v2)?;
        self.anchor = Some(anchor);
        Ok(())
    }

    /// To be called when a process of the container is in the cgroup: what held it for systemd ends.
    pub fn release(&mut self) {
        self.anchor = None;
    }

    /// Puts a process into it where it may not go by itself: a user's process into a scope of the user's systemd.
    ///
    /// # Errors
    /// When it is not systemd's, or systemd refuses.
    pub fn attach(&self, process: i32) -> Result<(), CgroupError> {
        match &self.unit {
            Some(unit) => unit.attach(process.unsigned_abs()),
            None => Err(CgroupError::Systemd {
                doing: format!("put process {process} into its cgroup"),
                answer: "the cgroup is not systemd's".to_owned(),
            }),
        }
    }

    /// Lets the v2 cgroup hold processes where one above it is divided among threads; gives whether that was what it lacked.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn go_threaded(&self) -> Result<bool, CgroupError> {
        self.v2().map_or(Ok(false), make::go_threaded)
    }

    /// Whether systemd made it.
    pub fn is_systemds(&self) -> bool {
        self.unit.is_some()
    }

    fn make_places(
        &mut self,
        made: &mut Self,
        refused: &mut Vec<PlaceRecord>,
        hierarchies: &[Hierarchy],
        directories: Vec<PathBuf>,
        tolerant: impl Fn() -> bool,
    ) -> Result<(), CgroupError> {
        for (hierarchy, directory) in hierarchies.iter().zip(directories) {
            let place = Place::new(hierarchy.controllers.clone(), directory);
            match make::make(hierarchy, &place.directory, self.unit.is_some()) {
                Ok(is_new) => {
                    if is_new {
                        let directory = place.directory.path().to_owned();
                        made.places.push(Place::new(Vec::new(), directory));
                    }
                    self.places.push(place);
                }
                Err(CgroupError::Make { source, .. }) if is_ignorable(&source) && tolerant() => {
                    refused.push(PlaceRecord {
                        controllers: place.controllers,
                        directory: place.directory.path().to_owned(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn furnish(
        &self,
        hierarchies: &[Hierarchy],
        resources: Option<&LinuxResources>,
    ) -> Result<(), CgroupError> {
        let in_v1 = |name: &str| {
            hierarchies
                .iter()
                .any(|hierarchy| hierarchy.controllers.iter().any(|known| known == name))
        };
        let with_v2 = hierarchies.iter().all(Hierarchy::is_v2)
            || resources.is_some_and(|asked| limits::need_v2(asked, in_v1));
        for place in &self.places {
            let of_place = |hierarchy: &&Hierarchy| hierarchy.controllers == place.controllers;
            if let Some(hierarchy) = hierarchies.iter().find(of_place) {
                make::furnish(hierarchy, &place.directory, with_v2)?;
            }
        }
        Ok(())
    }

    /// The cgroup of a container that was made before.
    ///
    /// # Errors
    /// None as yet: directories are opened when they are needed.
    pub fn open(record: &CgroupRecord) -> Result<Self, CgroupError> {
        let places = record
            .places
            .iter()
            .map(|place| Place::new(place.controllers.clone(), place.directory.clone()))
            .collect();
        Ok(Self::of(places, record.unit.clone()))
    }

    /// The directories that a container is shown: its own, and in a hierarchy where it has none that of the calling process, in
    /// which it will be.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn shown(&self) -> Result<CgroupRecord, CgroupError> {
        let mut record = self.record();
        let hierarchies = hierarchies::mounted()?;
        for (hierarchy, directory) in hierarchies.iter().zip(hierarchies::own(&hierarchies)?) {
            let known = record
                .places
                .iter()
                .any(|place| place.controllers == hierarchy.controllers);
            if let Some(directory) = directory.filter(|_| !known) {
                record.places.push(PlaceRecord {
                    controllers: hierarchy.controllers.clone(),
                    directory,
                });
            }
        }
        Ok(record)
    }

    /// What [`Cgroup::open`] needs.
    pub fn record(&self) -> CgroupRecord {
        let places = self
            .places
            .iter()
            .map(|place| PlaceRecord {
                controllers: place.controllers.clone(),
                directory: place.directory.path().to_owned(),
            })
            .collect();
        CgroupRecord {
            places,
            unit: self.unit.clone(),
        }
    }

    /// Sets the limits that are named and leaves the others.
    ///
    /// # Errors
    /// As for [`Cgroup::create`]; limits before the one that failed are set.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        if let Some(unit) = &self.unit {
            unit.update(resources, self.places.iter().all(Place::is_v2))?;
        }
        limits::set(self, Some(resources), false)
    }

    /// The v1 directory of a controller.
    fn v1(&self, controller: &str) -> Option<&Directory> {
        self.places
            .iter()
            .find(|place| place.controllers.iter().any(|name| name == controller))
            .map(|place| &place.directory)
    }

    /// The v2 directory.
    fn v2(&self) -> Option<&Directory> {
        self.places
            .iter()
            .find(|place| place.is_v2())
            .map(|place| &place.directory)
    }

    /// What the v2 directory has.
    fn v2_controllers(&self) -> &[String] {
        let Some(place) = self.places.iter().find(|place| place.is_v2()) else {
            return &[];
        };
        place.available.get_or_init(|| {
            let text = place.directory.try_read("cgroup.controllers");
            text.unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        })
    }

    /// The directory that has a controller, by its names in v1 and v2.
    fn controller(&self, v1: &str, v2: &str) -> Option<Controller<'_>> {
        if let Some(directory) = self.v1(v1) {
            return Some(Controller::V1(directory));
        }
        let has = self.v2_controllers().iter().any(|name| name == v2);
        self.v2().filter(|_| has).map(Controller::V2)
    }

    /// The same for a limit that cannot be set without it.
    fn require(
        &self,
        v1: &'static str,
        v2: &'static str,
        limit: &'static str,
    ) -> Result<Controller<'_>, CgroupError> {
        if let Some(controller) = self.controller(v1, v2) {
            return Ok(controller);
        }
        let blocked = self.v2().and_then(|directory| {
            make::blocked_by_threads(directory, v2)
                .or_else(|| make::blocked_by_processes(directory, v2))
        });
        Err(blocked.unwrap_or(CgroupError::MissingController {
            controller: if self.v2().is_some() && self.places.len() == 1 {
                v2
            } else {
                v1
            },
            limit,
        }))
    }
}

/// Why a limit cannot be had: this user has no cgroup where its controller is, or nobody has.
fn missing(refused: &[PlaceRecord], controller: &'static str, limit: &'static str) -> CgroupError {
    let place = refused
        .iter()
        .find(|place| place.controllers.iter().any(|name| name == controller))
        .or_else(|| refused.iter().find(|place| place.controllers.is_empty()));
    match place {
        Some(place) => CgroupError::NotDelegated {
            directory: place
                .directory
                .parent()
                .unwrap_or(&place.directory)
                .to_owned(),
            limit,
        },
        None => CgroupError::MissingController { controller, limit },
    }
}

/// Whether an unprivileged process gets this answer where a directory is not its own.
fn is_ignorable(error: &std::io::Error) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::ROFS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
