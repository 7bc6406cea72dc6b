//! Layers and a configuration become an image with names.

use dhow_image::{DiffId, ImageConfiguration};
use dhow_image_store::Image;
use oci_spec::image::{History, RootFsBuilder};

use crate::plan::{Base, BuildPlan, PlannedStage};
use crate::{BuildError, BuildOptions, Builder};

impl Builder<'_> {
    /// Makes the image of the target and names it. A build that comes to the same as an image of the store is that image,
    /// with the time at which it was made.
    pub(crate) fn finish(
        &self,
        plan: &BuildPlan,
        layers: &[DiffId],
        options: &BuildOptions,
    ) -> Result<Image, BuildError> {
        let now = jiff::Timestamp::now().to_string();
        let config = configuration(plan, layers, &now);
        let image = match self.existing(&config, options)? {
            Some(image) => image,
            None => self.lease.commit_image(&config, layers)?,
        };
        for tag in &options.tags {
            let named = self.store.image(tag)?;
            if named.is_none_or(|named| named.descriptor().digest() != image.descriptor().digest())
            {
                self.store.tag(tag, image.descriptor())?;
            }
        }
        if options.tags.is_empty() {
            self.store.keep(image.descriptor())?;
        }
        Ok(image)
    }

    /// An image that differs in its times only.
    fn existing(
        &self,
        config: &ImageConfiguration,
        options: &BuildOptions,
    ) -> Result<Option<Image>, BuildError> {
        let wanted = without_times(config);
        let same = |image: &Image| without_times(image.config()) == wanted;
        for tag in &options.tags {
            if let Some(image) = self.store.image(tag)?.filter(same) {
                return Ok(Some(image));
            }
        }
        Ok(self.store.images()?.into_iter().find(same))
    }
}

fn without_times(config: &ImageConfiguration) -> ImageConfiguration {
    let mut config = config.clone();
    config.set_created(None);
    if let Some(history) = config.history_mut() {
        for entry in history {
            entry.set_created(None);
        }
    }
    config
}

fn configuration(plan: &BuildPlan, layers: &[DiffId], now: &str) -> ImageConfiguration {
    let target = plan.target();
    let mut config = ImageConfiguration::default();
    config
        .set_architecture(plan.platform.architecture.as_str().into())
        .set_os(plan.platform.os.as_str().into())
        .set_variant(plan.platform.variant.clone())
        .set_created(Some(now.to_owned()))
        .set_author(target.author.clone())
        .set_config(Some(target.config.clone()))
        .set_history(Some(history(plan, target, now)));
    let diff_ids: Vec<String> = layers.iter().map(ToString::to_string).collect();
    // Every field has a default.
    if let Ok(root) = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(diff_ids)
        .build()
    {
        config.set_rootfs(root);
    }
    config
}

fn history(plan: &BuildPlan, stage: &PlannedStage, now: &str) -> Vec<History> {
    let mut all = match &stage.base {
        Base::Scratch => Vec::new(),
        Base::Stage(position) => history(plan, &plan.stages[*position], now),
        Base::Image(image) => image.history.clone(),
    };
    all.extend(stage.steps.iter().map(|step| {
        let mut entry = History::default();
        entry
            .set_created(Some(now.to_owned()))
            .set_created_by(Some(step.history.clone()))
            .set_comment(Some("dhow".to_owned()))
            .set_empty_layer((!step.makes_layer()).then_some(true));
        entry
    }));
    all
}
