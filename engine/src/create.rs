//! Creation: what a person asked for becomes a record, a name, and a root file system.

use std::collections::BTreeMap;

use dhow_container_spec::ContainerOptions;
use dhow_container_spec::command_line;
use dhow_image_store::{Image, RootFs};
use dhow_supervise::{Exit, PodFiles, PodLock};

use crate::records::make_dir;
use crate::{AutoIds, ContainerId, ContainerName, ContainerSpec, Engine, EngineError, PodSpec};

/// The signal that asks a container to end where nothing else is said.
const STOP_SIGNAL: &str = "SIGTERM";

/// How many made-up names are tried before they get numbers.
const TRIES: u32 = 4;

/// A container to be created.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The image.
    pub image: Image,
    /// The image as it was named.
    pub image_name: String,
    /// A name; one is made up when it is not given.
    pub name: Option<ContainerName>,
    /// What is asked of it. Host name and cgroup are set here where they are not given.
    pub options: ContainerOptions,
    /// Of which ids its user namespace is made, where `options` does not give one.
    pub auto_ids: Option<AutoIds>,
    /// The signal that asks it to end; the image's otherwise.
    pub stop_signal: Option<String>,
    /// Whether its standard input stays open.
    pub stdin: bool,
    /// Whether it is removed when it ends; then nothing of it is made durable.
    pub auto_remove: bool,
}

/// A container that is ready to be started. Its lock is held: nobody else can start or remove it meanwhile.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) spec: PodSpec,
    pub(crate) image: Image,
    pub(crate) root_fs: RootFs,
    pub(crate) lock: PodLock,
}

impl Prepared {
    /// What was asked for.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }
}

impl Engine {
    /// Creates a container. When it fails, nothing of it is left.
    ///
    /// # Errors
    /// When the name is taken, there is nothing to run, or the store or a directory cannot be written.
    pub fn create(&self, request: CreateRequest) -> Result<Prepared, EngineError> {
        let image = request.image.clone();
        let is_named = request.name.is_some();
        let auto_ids = request.auto_ids.clone();
        let mut spec = describe(request)?;
        let files = self.files(&spec.id);
        let lock = new_lock(&files)?;
        match self
            .record_with_ids(&mut spec, is_named, auto_ids.as_ref())
            .and_then(|()| {
                self.check_sources(&spec)?;
                let owner = spec.id.as_str();
                Ok(if spec.auto_remove {
                    self.store.temporary_root_fs(&image, owner)?
                } else {
                    self.store.root_fs(&image, owner)?
                })
            }) {
            Ok(root_fs) => Ok(Prepared {
                spec,
                image,
                root_fs,
                lock,
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.remove_all(&spec);
                Err(error)
            }
        }
    }

    /// Records the pod, with ids for its user namespace that no other has.
    fn record_with_ids(
        &self,
        spec: &mut PodSpec,
        is_named: bool,
        auto_ids: Option<&AutoIds>,
    ) -> Result<(), EngineError> {
        let Some(auto_ids) = auto_ids else {
            return self.record(spec, is_named);
        };
        make_dir(&self.root)?;
        // Until they are recorded, nobody else may choose.
        let _lock = PodLock::wait_and_take(&self.root.join("user-ids.lock"))?;
        let own = self.choose_ids(auto_ids)?;
        for container in &mut spec.containers {
            container.options.user_namespace = Some(own.clone());
        }
        self.record(spec, is_named)
    }

    /// Records the pod; a made-up name that is taken is replaced by another.
    fn record(&self, spec: &mut PodSpec, is_named: bool) -> Result<(), EngineError> {
        let durable = !spec.auto_remove;
        let mut attempt = 0;
        loop {
            match self.records.create(spec, durable) {
                Err(EngineError::NameTaken { .. }) if !is_named => attempt += 1,
                done => return done,
            }
            spec.name = made_up_name()?;
            if attempt > TRIES {
                spec.name = spec.name.numbered(attempt);
            }
        }
    }

    /// What is to be seen inside must be there: a missing path is nearly always a slip of the pen.
    fn check_sources(&self, spec: &PodSpec) -> Result<(), EngineError> {
        for mount in &spec.first().options.mounts {
            if !mount.source.exists() {
                return Err(EngineError::Invalid(format!(
                    "{} is not there on the host; make it first, or give a volume's name instead of a path",
                    mount.source.display()
                )));
            }
        }
        Ok(())
    }
}

/// The lock of a pod that is about to be. Whoever collects leftovers may take a directory that is not locked yet for one: then it is made again.
fn new_lock(files: &PodFiles) -> Result<PodLock, EngineError> {
    loop {
        make_dir(files.dir())?;
        match PodLock::wait_and_take(&files.lock()) {
            Err(error) if error.source == rustix::io::Errno::NOENT => {}
            lock => return Ok(lock?),
        }
    }
}

fn made_up_name() -> Result<ContainerName, EngineError> {
    ContainerName::random().map_err(EngineError::system("making up a name"))
}

/// The pod of one that was asked for.
fn describe(request: CreateRequest) -> Result<PodSpec, EngineError> {
    let id = ContainerId::random().map_err(EngineError::system("making an id"))?;
    let config = request.image.config();
    let mut options = request.options;
    let command = command_line(config, options.entrypoint.as_deref(), &options.args)?;
    options
        .hostname
        .get_or_insert_with(|| id.short().to_owned());
    options.rootless = !dhow_image_store::is_hosts_root();
    if options.user_namespace.is_some() || request.auto_ids.is_some() {
        crate::may_map_ids()?;
    }
    // Without root there may be none, and the runtime goes without where nobody insists.
    if !options.rootless {
        options
            .cgroups_path
            .get_or_insert_with(|| Engine::cgroup(&id));
    }
    // What cannot be is told now and not when it is started.
    options.check()?;
    let of_image = config.config().as_ref();
    let mut labels: BTreeMap<String, String> = of_image
        .and_then(|config| config.labels().clone())
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(options.labels.clone());
    let stop_signal = request
        .stop_signal
        .or_else(|| of_image.and_then(|config| config.stop_signal().clone()))
        .unwrap_or_else(|| STOP_SIGNAL.to_owned());
    crate::stop::signal_number(&stop_signal)?;
    Ok(PodSpec {
        id: id.clone(),
        name: match request.name {
            Some(name) => name,
            None => made_up_name()?,
        },
        created: Exit::now(0).finished,
        auto_remove: request.auto_remove,
        containers: vec![ContainerSpec {
            id,
            image: request.image_name,
            image_id: request.image.id().clone(),
            command,
            options,
            stdin: request.stdin,
            stop_signal,
            labels,
        }],
    })
}
