//! A plan carried out, stage by stage.

use std::os::fd::AsFd;
use std::path::Path;

use dhow_container_spec::find_user;
use dhow_dockerfile::IgnoreFile;
use dhow_image::{DiffId, Digest};
use dhow_image_store::ActiveSnapshot;

use crate::copy::Target;
use crate::guard::{Guard, Watched};
use crate::plan::{Action, Base, BuildPlan, CopyStep, Origin, RunStep, Step};
use crate::root_dir::{Owner, RootDir};
use crate::run::{Place, RunError};
use crate::source_tree::{Item, SourceTree};
use crate::unpack::unpack;
use crate::{BuildError, BuildOptions, Builder, Context, TreeError, cache};

/// A build that is under way.
pub(crate) struct Execution<'a> {
    builder: &'a Builder<'a>,
    plan: &'a BuildPlan,
    context: Option<&'a Context>,
    options: &'a BuildOptions,
    /// The layers of each stage that is done.
    done: Vec<Vec<DiffId>>,
    /// Whether mounts stay in this thread's own namespace already.
    private: bool,
    guard: Option<Guard>,
    pub(crate) executed: usize,
    pub(crate) cached: usize,
}

/// Where a step stands, for people.
struct Standing<'a> {
    step: &'a Step,
    /// `[2/5]`
    prefix: String,
}

impl<'a> Execution<'a> {
    pub(crate) fn new(
        builder: &'a Builder<'a>,
        plan: &'a BuildPlan,
        context: Option<&'a Context>,
        options: &'a BuildOptions,
    ) -> Self {
        Self {
            builder,
            plan,
            context,
            options,
            done: Vec::new(),
            private: false,
            guard: None,
            executed: 0,
            cached: 0,
        }
    }

    /// Makes all stages; gives the target's layers.
    pub(crate) fn stages(&mut self) -> Result<Vec<DiffId>, BuildError> {
        let plan = self.plan;
        for stage in &plan.stages {
            let (mut layers, from) = match &stage.base {
                Base::Scratch => (Vec::new(), "scratch".to_owned()),
                Base::Stage(position) => {
                    (self.done[*position].clone(), plan.stages[*position].title())
                }
                Base::Image(image) => (image.layers.clone(), image.reference.clone()),
            };
            let title = match plan.stages.len() {
                1 => String::new(),
                _ => format!("{} ", stage.title()),
            };
            let total = 1 + stage.steps.iter().filter(|step| step.makes_layer()).count();
            let progress = self.builder.progress;
            progress.note(&format!("[{title}1/{total}] FROM {from}"));
            let steps = stage.steps.iter().filter(|step| step.makes_layer());
            for (number, step) in steps.enumerate() {
                let standing = Standing {
                    step,
                    prefix: format!("[{title}{}/{total}]", number + 2),
                };
                let layer = self.step(&layers, &standing)?;
                layers.push(layer);
            }
            self.done.push(layers);
        }
        Ok(self.done.last().cloned().unwrap_or_default())
    }

    /// The layer of a step: from the cache, or made now.
    fn step(&mut self, below: &[DiffId], standing: &Standing<'_>) -> Result<DiffId, BuildError> {
        match &standing.step.action {
            Action::Copy(copy) => self.copy(below, copy, standing),
            action => {
                // Every other step that makes a layer has a key.
                let key = cache::key(below, action);
                if let Some(key) = &key
                    && let Some(layer) = self.look_up(key, standing)?
                {
                    return Ok(layer);
                }
                self.begin(standing);
                if matches!(action, Action::Run(_)) {
                    // Before there is a mount: until it executes its own program, it holds all descriptors of this one, and a tree that
                    // is held cannot be unmounted.
                    self.guard()?;
                }
                let mut snapshot = self.builder.lease.snapshot(below)?;
                let root = self.mount(&mut snapshot)?;
                match action {
                    Action::Run(run) => self.run(run, &root.path, standing)?,
                    Action::Directory { path, user } => make_directory(&root.dir, path, user)
                        .map_err(|error| self.failed(standing, error))?,
                    Action::Copy(_) | Action::Configure => {}
                }
                drop(root);
                self.commit(snapshot, key.as_slice())
            }
        }
    }

    fn begin(&mut self, standing: &Standing<'_>) {
        self.executed += 1;
        let line = format!("{} {}", standing.prefix, standing.step.title());
        self.builder.progress.note(&line);
    }

    fn failed(&self, standing: &Standing<'_>, source: TreeError) -> BuildError {
        BuildError::Step {
            place: self.plan.place(standing.step),
            step: standing.step.title(),
            source: Box::new(source),
        }
    }

    fn look_up(
        &mut self,
        key: &Digest,
        standing: &Standing<'_>,
    ) -> Result<Option<DiffId>, BuildError> {
        if self.options.no_cache {
            return Ok(None);
        }
        let found = self.builder.lease.cached(key)?;
        if found.is_some() {
            self.cached += 1;
            let line = format!("{} CACHED {}", standing.prefix, standing.step.title());
            self.builder.progress.note(&line);
        }
        Ok(found)
    }

    fn mount(&mut self, snapshot: &mut ActiveSnapshot) -> Result<Mounted, BuildError> {
        if !self.private {
            dhow_image_store::enter_private_mounts()?;
            self.private = true;
        }
        let path = snapshot.mount()?.to_owned();
        let dir = RootDir::open(&path).map_err(|errno| BuildError::File {
            doing: "opening",
            path: path.clone(),
            source: errno.into(),
        })?;
        Ok(Mounted { path, dir })
    }

    fn commit(&self, snapshot: ActiveSnapshot, keys: &[Digest]) -> Result<DiffId, BuildError> {
        let layer = snapshot.commit()?.diff_id().clone();
        for key in keys {
            self.builder.store.remember(key, &layer)?;
        }
        Ok(layer)
    }

    /// The guard of what runs; the first call starts it.
    fn guard(&mut self) -> Result<&mut Guard, BuildError> {
        match &mut self.guard {
            Some(guard) => Ok(guard),
            none => {
                crate::sweep(&self.builder.state, &self.builder.runtime);
                Ok(none.insert(Guard::start(&self.builder.guard)?))
            }
        }
    }

    fn run(
        &mut self,
        run: &RunStep,
        root: &Path,
        standing: &Standing<'_>,
    ) -> Result<(), BuildError> {
        let builder = self.builder;
        let watched = Watched::new(&builder.state, self.guard()?)?;
        let place = Place {
            runtime: &builder.runtime,
            root,
            watched: &watched,
            progress: builder.progress,
            prefix: &standing.prefix,
        };
        let ended = place.run(run);
        drop(watched);
        let step = || (self.plan.place(standing.step), standing.step.title());
        match ended {
            Ok(ended) if ended.status == 0 => Ok(()),
            Ok(ended) => {
                let (place, step) = step();
                Err(BuildError::Failed {
                    place,
                    step,
                    status: ended.status,
                    output: ended.tail,
                })
            }
            Err(RunError::Tree(error)) => Err(self.failed(standing, error)),
            Err(RunError::Build(error)) => Err(error),
            Err(RunError::Runtime(source)) => {
                let (place, step) = step();
                Err(BuildError::Run {
                    place,
                    step,
                    source,
                })
            }
        }
    }

    /// The layers that a copy takes from; none for the context.
    fn layers_of(&self, origin: &Origin) -> Option<Vec<DiffId>> {
        match origin {
            Origin::Context => None,
            Origin::Stage(position) => Some(self.done[*position].clone()),
            Origin::Image(image) => Some(image.layers.clone()),
        }
    }

    fn copy(
        &mut self,
        below: &[DiffId],
        copy: &CopyStep,
        standing: &Standing<'_>,
    ) -> Result<DiffId, BuildError> {
        let layers = self.layers_of(&copy.origin);
        // A copy out of known layers needs no look into them.
        let by_layers = layers
            .as_ref()
            .map(|layers| cache::copy_key_of_layers(below, copy, layers));
        if let Some(key) = &by_layers
            && let Some(layer) = self.look_up(key, standing)?
        {
            return Ok(layer);
        }
        let mut source = match &layers {
            Some(layers) => Some(self.builder.lease.snapshot(layers)?),
            None => None,
        };
        let mounted = match &mut source {
            Some(snapshot) => Some(self.mount(snapshot)?),
            None => None,
        };
        let (plan, failed) = (self.plan, |error| self.failed(standing, error));
        let from = mounted.as_ref().map(|m| &m.dir);
        let tree = source_tree(plan, self.context, copy, from).map_err(failed)?;
        let (items, content) = match &tree {
            Some(tree) => {
                let items = tree.items(&copy.sources).map_err(failed)?;
                let content = tree.digest(&items).map_err(failed)?;
                (items, content)
            }
            None => (Vec::new(), Digest::of(b"")),
        };
        let mut keys = vec![cache::copy_key(below, copy, &content)];
        if let Some(layer) = self.look_up(&keys[0], standing)? {
            if let Some(key) = &by_layers {
                self.builder.store.remember(key, &layer)?;
            }
            return Ok(layer);
        }
        self.begin(standing);
        if items.is_empty() && copy.files.is_empty() {
            let line = format!("{} nothing matches the patterns", standing.prefix);
            self.builder.progress.note(&line);
        }
        keys.extend(by_layers);
        let mut snapshot = self.builder.lease.snapshot(below)?;
        let root = self.mount(&mut snapshot)?;
        copy_all(copy, tree.as_ref(), &items, &root.dir)
            .map_err(|error| self.failed(standing, error))?;
        drop(root);
        drop(tree);
        drop(mounted);
        self.commit(snapshot, &keys)
    }
}

/// The tree that a copy takes from; none where all it copies stands in the Dockerfile.
fn source_tree<'t>(
    plan: &BuildPlan,
    context: Option<&'t Context>,
    copy: &CopyStep,
    mounted: Option<&'t RootDir>,
) -> Result<Option<SourceTree<'t>>, TreeError> {
    if copy.sources.is_empty() {
        return Ok(None);
    }
    let excludes = copy.excludes.iter().map(String::as_str);
    let excludes = IgnoreFile::of_patterns("--exclude", excludes)
        .map_err(|error| TreeError::Refused(error.to_string()))?;
    if let Some(root) = mounted {
        return Ok(Some(SourceTree {
            root,
            ignore: NOTHING,
            excludes,
            title: match &copy.origin {
                Origin::Stage(position) => {
                    format!("the stage {}", plan.stages[*position].title())
                }
                Origin::Image(image) => image.reference.clone(),
                Origin::Context => "the context".into(),
            },
            ignored_by: String::new(),
            keeps_owners: true,
        }));
    }
    let context = context.ok_or_else(|| {
        TreeError::Refused("this build has no context to copy from; name a directory".into())
    })?;
    Ok(Some(SourceTree {
        root: &context.root,
        ignore: &context.ignore,
        excludes,
        title: "the context".into(),
        ignored_by: format!(": {} leaves it out", context.ignore_name),
        keeps_owners: false,
    }))
}

/// A mounted snapshot. Drop it before the snapshot is committed: an open directory keeps a mount busy.
struct Mounted {
    path: std::path::PathBuf,
    dir: RootDir,
}

/// An ignore file without a rule.
static NOTHING: &IgnoreFile = &IgnoreFile::EMPTY;

fn copy_all(
    copy: &CopyStep,
    tree: Option<&SourceTree<'_>>,
    items: &[Item],
    root: &RootDir,
) -> Result<(), TreeError> {
    let target = Target {
        root,
        destination: &copy.destination,
        owner: copy
            .chown
            .as_deref()
            .map(|name| owner_of(root, name))
            .transpose()?,
        mode: copy.chmod,
    };
    if items.len() > 1 && !target.is_directory()? {
        return Err(TreeError::Refused(format!(
            "{} files cannot be copied to one; write the destination as a directory, {}/",
            items.len(),
            copy.destination
        )));
    }
    for item in items {
        let Some(tree) = tree else { break };
        let unpacked = copy.unpack && !item.is_directory() && unpack(tree, item, &target)?;
        if !unpacked {
            target.copy(tree, item)?;
        }
    }
    for file in &copy.files {
        target.write(&file.name, &file.text)?;
    }
    Ok(())
}

/// A user and group by the root's own files.
fn owner_of(root: &RootDir, name: &str) -> Result<Owner, TreeError> {
    if name.is_empty() {
        return Ok((0, 0));
    }
    let ids = find_user(root.fd().as_fd(), name)?;
    Ok((ids.uid, ids.gid))
}

fn make_directory(root: &RootDir, path: &str, user: &str) -> Result<(), TreeError> {
    let owner = owner_of(root, user)?;
    root.make_directories(Path::new(path), owner).map(drop)
}
