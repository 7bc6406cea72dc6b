//! The builder: what it works with, and its two verbs.

use std::path::PathBuf;

use dhow_dockerfile::Dockerfile;
use dhow_image::{ImageReference, Progress};
use dhow_image_store::{Image, Lease, Store};
use dhow_runtime_client::RuntimeClient;

use crate::execute::Execution;
use crate::plan::{BaseImage, BuildPlan};
use crate::planner::{FoundImage, Planner};
use crate::{BaseImages, BuildError, BuildOptions, Context, GuardProgram};

/// Builds images. What it makes and uses is kept in the store for as long as it lives; what was built, by its tags.
pub struct Builder<'a> {
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    pub(crate) runtime: RuntimeClient,
    /// Where running commands have their bundles.
    pub(crate) state: PathBuf,
    pub(crate) guard: GuardProgram,
    bases: &'a dyn BaseImages,
    pub(crate) progress: &'a dyn Progress,
}

/// What a build has made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// How many steps were carried out.
    pub executed: usize,
    /// How many steps the cache knew.
    pub cached: usize,
}

impl<'a> Builder<'a> {
    /// A builder over a store. Commands run with `runtime`, have their bundles in directories below `state`, and are ended by
    /// `guard` when this process is killed.
    ///
    /// # Errors
    /// When the store cannot give a lease.
    pub fn new(
        store: &Store,
        runtime: RuntimeClient,
        (state, guard): (PathBuf, GuardProgram),
        bases: &'a dyn BaseImages,
        progress: &'a dyn Progress,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            store: store.clone(),
            lease: store.lease()?,
            runtime,
            state,
            guard,
            bases,
            progress,
        })
    }

    /// What a build of `dockerfile` would do. The images that it starts from are found (and pulled, where `bases` does so), since
    /// their environment takes part in the Dockerfile's variables; nothing else happens.
    ///
    /// # Errors
    /// When the Dockerfile is wrong or an image cannot be found.
    pub fn plan(
        &self,
        dockerfile: &Dockerfile,
        options: &BuildOptions,
    ) -> Result<BuildPlan, BuildError> {
        let mut find = |name: &str, reference: &ImageReference| {
            let image = self.bases.resolve(name, &options.platform, &self.lease)?;
            // Whatever is removed meanwhile, what the build stands on stays.
            self.lease.hold(&image)?;
            let config = image.config();
            // The name that a short one stood for, where it was found by one.
            let found = match image.references() {
                [found] => found,
                _ => reference,
            };
            Ok(FoundImage {
                base: BaseImage {
                    reference: found.to_string(),
                    id: image.id().clone(),
                    layers: image.diff_ids().to_vec(),
                    history: config.history().clone().unwrap_or_default(),
                },
                config: config.config().clone().unwrap_or_default(),
            })
        };
        Planner::new(dockerfile, options, &mut find).plan()
    }

    /// Carries a plan out and names the image. Mounts are made in a namespace of the calling thread's own, so call it before
    /// other threads start.
    ///
    /// # Errors
    /// When a step fails; the store then holds no more than before, but for what the cache knows of the steps before it.
    pub fn execute(
        &self,
        plan: &BuildPlan,
        context: Option<&Context>,
        options: &BuildOptions,
    ) -> Result<Built, BuildError> {
        let mut execution = Execution::new(self, plan, context, options);
        let layers = execution.stages()?;
        let (executed, cached) = (execution.executed, execution.cached);
        let image = self.finish(plan, &layers, options)?;
        Ok(Built {
            image,
            executed,
            cached,
        })
    }
}
