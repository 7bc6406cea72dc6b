//! `dhow image copy`

mod place;

use std::process::ExitCode;

use dhow_image::{
    BlobLocations, BlobSource, Descriptor, Digest, DocumentKind, ImageIndex, ImageReference,
    ImageTree, Platform, Progress, read_document,
};
use dhow_image_store::{ArchiveForm, ArchivedImage, Layout, open_archive, write_archive};
use dhow_registry_client::{Client, Copied};
use serde_json::json;

use crate::all_platforms;
use crate::context::Context;
use crate::images;
use crate::platform_args::PlatformArgs;
use crate::progress::{Telling, TellingArgs, bytes, count};
use crate::pulling;
use crate::refetching::Refetching;
use crate::registry_args::{self, RegistryArgs};
use place::Place;

/// Copies an image as it is, digest for digest, and only what the other side lacks of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    telling: TellingArgs,
    #[command(flatten)]
    platforms: PlatformArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// From where: [docker://]NAME at a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], store:NAME
    #[arg(value_name = "SRC")]
    source: Place,
    /// To where, in the same forms
    #[arg(value_name = "DST")]
    destination: Place,
}

/// What is known of where a source's blobs are in registries: nothing.
struct Unknown;

impl BlobLocations for Unknown {
    fn repositories(&self, _registry: &str, _digest: &Digest) -> Vec<String> {
        Vec::new()
    }

    fn note(&self, _registry: &str, _repository: &str, _digest: &Digest) {}
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let telling = args.telling.telling();
    telling.failing(copy(args, telling, context))
}

fn copy(args: &Args, telling: Telling, context: &Context) -> anyhow::Result<ExitCode> {
    let client = args.registry.client()?;
    let progress = telling.reporter();
    let delivery = Delivery {
        args,
        telling,
        context,
        client: &client,
        progress: progress.as_ref(),
    };
    match &args.source {
        Place::Registry(name) => delivery.registry_image(name)?,
        Place::Layout { directory, tag } => {
            let layout = Layout::open(directory)?;
            let root = layout.resolve(tag.as_deref())?;
            delivery.run(&layout, &root, &Unknown, None)?;
        }
        Place::Archive { form, file, name } => {
            let archive = open_archive(file)?;
            let image = ArchivedImage::find(&archive, *form, name.as_deref(), file)?;
            delivery.run(&image, image.root(), &Unknown, None)?;
        }
        Place::Store(name) => delivery.stored_image(name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A copy to the place that the arguments name.
struct Delivery<'a> {
    args: &'a Args,
    telling: Telling,
    context: &'a Context,
    client: &'a Client,
    progress: &'a dyn Progress,
}

impl Delivery<'_> {
    fn registry_image(&self, name: &str) -> anyhow::Result<()> {
        let mut failure = None;
        for reference in registry_args::candidates(name)? {
            match self.client.source(&reference) {
                Ok(source) => {
                    let root = source.resolved().descriptor.clone();
                    self.run(&source, &root, &source, Some(&reference))?;
                    let (moved, requests) = source.traffic();
                    self.say(&format!(
                        "Received {} in {}",
                        bytes(moved),
                        count(requests, "request")
                    ));
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.map_or_else(|| anyhow::anyhow!("{name} has no meaning"), Into::into))
    }

    fn stored_image(&self, name: &str) -> anyhow::Result<()> {
        let store = self.context.store()?;
        let lease = store.lease()?;
        let image = images::find(&store, name)?;
        let image = match self.args.platforms.asked() {
            Some(platform) => image.for_platform(platform)?,
            None => image,
        };
        let root = all_platforms::to_send(
            &lease,
            &image,
            image.references().first(),
            self.args.platforms.all(),
            self.progress,
        )?;
        let source = Refetching {
            lease: &lease,
            client: self.client,
            progress: self.progress,
        };
        self.run(&source, &root, &store.locations(), None)
    }

    /// `origin` is the name at a registry from which the image comes, if it does.
    fn run(
        &self,
        source: &dyn BlobSource,
        root: &Descriptor,
        locations: &dyn BlobLocations,
        origin: Option<&ImageReference>,
    ) -> anyhow::Result<()> {
        let root = &self.narrowed(source, root)?;
        match &self.args.destination {
            Place::Registry(name) => self.to_registry(name, source, root, locations)?,
            Place::Layout { directory, tag } => {
                let tree = ImageTree::read(source, root)?;
                let layout = Layout::create(directory)?;
                let what = self.args.source.to_string();
                let copied =
                    dhow_registry_client::copy(&what, &tree, source, &layout, self.progress)?;
                layout.put(tag.as_deref(), root)?;
                self.say_copied(&copied);
            }
            Place::Archive { form, file, name } => {
                let tree = ImageTree::read(source, root)?;
                if *form == ArchiveForm::Docker {
                    self.say("A docker-archive has no manifest, and its layers are not compressed: digests change, the image's id stays");
                }
                let name = docker_name(*form, name.as_deref())?;
                write_archive(file, *form, name.as_deref(), &tree, source, self.progress)?;
            }
            Place::Store(name) => self.to_store(name, source, root, origin)?,
        }
        self.print_digest(root);
        Ok(())
    }

    /// Of an index the image for the platform, unless all are wanted.
    fn narrowed(&self, source: &dyn BlobSource, root: &Descriptor) -> anyhow::Result<Descriptor> {
        let is_index = DocumentKind::of(root.media_type()) == Some(DocumentKind::Index);
        if self.args.platforms.all() || !is_index {
            return Ok(root.clone());
        }
        let index: ImageIndex = serde_json::from_slice(&read_document(source, root)?)?;
        let platform = self.args.platforms.platform();
        if let Some(chosen) = platform.choose(index.manifests()) {
            return Ok(chosen.clone());
        }
        let offered = Platform::offered(index.manifests());
        let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
        anyhow::bail!(
            "{} is not there for {platform}; it is for {}; --platform chooses one, --all-platforms takes all",
            self.args.source,
            match offered.is_empty() {
                true => "no platform".to_owned(),
                false => offered.join(", "),
            }
        )
    }

    fn to_registry(
        &self,
        name: &str,
        source: &dyn BlobSource,
        root: &Descriptor,
        locations: &dyn BlobLocations,
    ) -> anyhow::Result<()> {
        let reference: ImageReference = name.parse()?;
        let pushed = self
            .client
            .push(&reference, root, source, locations, self.progress)?;
        let counted = format!(
            "{} in {}",
            bytes(pushed.bytes),
            count(pushed.requests, "request")
        );
        self.say(&match pushed.unchanged {
            true => format!("{name} is this image already; sent {counted}"),
            false => format!("Sent {counted}"),
        });
        Ok(())
    }

    fn to_store(
        &self,
        name: &str,
        source: &dyn BlobSource,
        root: &Descriptor,
        origin: Option<&ImageReference>,
    ) -> anyhow::Result<()> {
        let reference: ImageReference = name.parse()?;
        anyhow::ensure!(
            reference.digest().is_none(),
            "a name with a digest cannot be given to an image; write store:NAME[:TAG]"
        );
        let tree = ImageTree::read(source, root)?;
        refuse_artifact(&tree, &self.args.source)?;
        let store = self.context.store()?;
        if matches!(self.args.source, Place::Store(_)) {
            // All of it is here, or was dropped because a registry has it; the source's lease holds it.
            store.tag_root(&reference, root, &self.args.platforms.platform())?;
            return Ok(());
        }
        let lease = store.lease()?;
        let what = self.args.source.to_string();
        let copied = dhow_registry_client::copy(&what, &tree, source, &lease, self.progress)?;
        store.tag_root(&reference, root, &self.args.platforms.platform())?;
        if let Some(origin) = origin {
            pulling::note_places(self.client, &store, origin, &copied.blobs)?;
        }
        self.say_copied(&copied);
        Ok(())
    }

    fn say_copied(&self, copied: &Copied) {
        if copied.present > 0 {
            self.say(&format!(
                "{} of {} layers were there already, which saved {}",
                copied.present,
                copied.present + copied.moved,
                bytes(copied.bytes_saved)
            ));
        }
    }

    fn say(&self, line: &str) {
        if self.telling == Telling::People {
            println!("{line}");
        }
    }

    fn print_digest(&self, root: &Descriptor) {
        match self.telling {
            Telling::Quiet => println!("{}", root.digest()),
            Telling::People => println!("Digest: {}", root.digest()),
            Telling::Program | Telling::ProgramBeside => self.telling.event(&json!({
                "status": format!("Copied {}", self.args.source),
                "aux": {
                    "Source": self.args.source.to_string(),
                    "Destination": self.args.destination.to_string(),
                    "Digest": root.digest().to_string(),
                    "Size": root.size(),
                },
            })),
        }
    }
}

/// The name for an archive; Docker's form has whole names of images.
fn docker_name(form: ArchiveForm, name: Option<&str>) -> anyhow::Result<Option<String>> {
    match (form, name) {
        (ArchiveForm::Docker, Some(name)) => {
            let reference: ImageReference = name.parse()?;
            Ok(Some(reference.familiar()))
        }
        (_, name) => Ok(name.map(str::to_owned)),
    }
}

/// The store runs what it keeps, so it takes images alone.
fn refuse_artifact(tree: &ImageTree, source: &Place) -> anyhow::Result<()> {
    let Some(root) = tree.documents().last() else {
        return Ok(());
    };
    let Some(config) = &root.links.config else {
        return Ok(());
    };
    let kind = config.media_type().to_string();
    let is_image = matches!(
        kind.as_str(),
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    );
    anyhow::ensure!(
        is_image,
        "{source} is no image but an artifact ({kind}), which the store does not keep; copy it to a registry, an oci: layout or an oci-archive:"
    );
    Ok(())
}
