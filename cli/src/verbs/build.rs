//! `dhow build`

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use dhow_builder::{BaseImages, BuildError, BuildOptions, BuildPlan, Builder, Built, GuardProgram};
use dhow_dockerfile::{Dockerfile, RunNetwork};
use dhow_image::{ImageReference, Platform, Progress, Silent};
use dhow_image_store::{Image, Lease};
use dhow_runtime_client::RuntimeClient;

use crate::context::Context;
use crate::images::PullPolicy;
use crate::platforms::ensure_for;
use crate::progress;

/// The exit status of a build in which a command that it runs fails, as Docker has it.
const COMMAND_FAILED: u8 = 1;

/// What to build, and how.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0; 1 when a command that it runs fails; 125 for an error of dhow's own, such as a mistake in the Dockerfile."
)]
pub(crate) struct Args {
    /// A name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<ImageReference>,
    /// The Dockerfile, or - for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A value for an ARG; without one, the value of the environment variable of this name
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    args: Vec<String>,
    /// The stage to build: its name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Run every step, whatever the cache knows
    #[arg(long)]
    no_cache: bool,
    /// Print what would be done, as text or as JSON, and do nothing
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    plan: Option<PlanFormat>,
    /// Print the image's id alone
    #[arg(short, long)]
    quiet: bool,
    /// The network of RUN steps that ask for none of their own
    #[arg(long, value_enum, default_value_t = Network::Host)]
    network: Network,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// A label for the image; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The platform of the image; only this machine's can be built
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Ask the registries for newer base images
    #[arg(long)]
    pull: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Shown::Auto)]
    progress: Shown,
    /// The directory that COPY and ADD take files from
    #[arg(value_name = "CONTEXT")]
    context: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlanFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    Host,
    None,
    /// The same as host: there is no bridge yet
    #[value(hide = true)]
    Default,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shown {
    Auto,
    Plain,
    Quiet,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let quiet = args.quiet || args.shown_quietly();
    let outcome = build(args, quiet, context);
    if let Err(error) = &outcome
        && let Some(failed @ BuildError::Failed { output, .. }) = error.downcast_ref()
    {
        if quiet {
            for line in output {
                eprintln!("{line}");
            }
        }
        eprintln!("dhow: {failed}");
        return Ok(ExitCode::from(COMMAND_FAILED));
    }
    // Every other error is dhow's own, a mistake in the Dockerfile too.
    outcome
}

fn build(args: &Args, quiet: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let directory = directory(&args.context)?;
    let (dockerfile, file) = args.dockerfile(directory)?;
    let options = args.options()?;
    let store = context.store()?;
    let progress = args.reporter(quiet);
    let bases = Bases {
        policy: if args.pull {
            PullPolicy::Always
        } else {
            PullPolicy::Missing
        },
        progress: progress.as_ref(),
    };
    let places = (context.builds(), guard_program(context)?);
    let runtime = runtime(context)?;
    let builder = Builder::new(&store, runtime, places, &bases, progress.as_ref())?;
    let plan = builder.plan(&dockerfile, &options)?;
    for name in &plan.unused_args {
        progress.note(&format!(
            "warning: no ARG declares {name}, so its --build-arg has no effect"
        ));
    }
    for warning in &plan.warnings {
        progress.note(&format!("warning: {warning}"));
    }
    if let Some(format) = args.plan {
        print_plan(&plan, format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let files =
        dhow_builder::Context::open(directory, file.as_deref()).map_err(BuildError::from)?;
    let built = builder.execute(&plan, Some(&files), &options)?;
    args.print(&built, quiet)?;
    Ok(ExitCode::SUCCESS)
}

/// The directory of a context; what Docker would take besides one is refused.
fn directory(context: &Path) -> anyhow::Result<&Path> {
    let text = context.to_string_lossy();
    anyhow::ensure!(
        text != "-",
        "a context from standard input is not supported; unpack it and name its directory"
    );
    let remote = ["http://", "https://", "git://", "git@", "ssh://"];
    anyhow::ensure!(
        !remote.iter().any(|start| text.starts_with(start)),
        "{text} is not on this machine; fetch it and name its directory"
    );
    anyhow::ensure!(
        context.is_dir(),
        "the context {text} is no directory; name the one that COPY takes files from"
    );
    Ok(context)
}

fn print_plan(plan: &BuildPlan, format: PlanFormat) -> anyhow::Result<()> {
    match format {
        PlanFormat::Text => print!("{plan}"),
        PlanFormat::Json => println!("{}", serde_json::to_string_pretty(plan)?),
    }
    Ok(())
}

fn runtime(context: &Context) -> anyhow::Result<RuntimeClient> {
    let root = context.builds().join(".runtime");
    Ok(RuntimeClient::new(context.runtime_program()?, root))
}

/// This program once more, as the one that cleans up after a build that was killed.
fn guard_program(context: &Context) -> anyhow::Result<GuardProgram> {
    Ok(GuardProgram {
        program: std::env::current_exe().context("finding dhow's own program")?,
        args: vec![
            "--root".into(),
            context.root().into(),
            "--state".into(),
            context.state().into(),
            "build-guard".into(),
        ],
    })
}

impl Args {
    fn shown_quietly(&self) -> bool {
        self.progress == Shown::Quiet
    }

    fn reporter(&self, quiet: bool) -> Box<dyn Progress> {
        if quiet || self.plan.is_some() {
            Box::new(Silent)
        } else {
            progress::reporter(false)
        }
    }

    /// The Dockerfile, and its path where it has one.
    fn dockerfile(&self, directory: &Path) -> anyhow::Result<(Dockerfile, Option<PathBuf>)> {
        if self.file.as_deref() == Some(Path::new("-")) {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .context("reading the Dockerfile from standard input")?;
            return Ok((parse("-", bytes)?, None));
        }
        let path = match &self.file {
            Some(file) => file.clone(),
            None if directory == Path::new(".") => "Dockerfile".into(),
            None => directory.join("Dockerfile"),
        };
        let bytes = std::fs::read(&path).map_err(|error| {
            let hint = match (error.kind(), &self.file) {
                (std::io::ErrorKind::NotFound, None) => "; name another file with -f",
                _ => "",
            };
            anyhow::anyhow!("reading the Dockerfile {}: {error}{hint}", path.display())
        })?;
        let dockerfile = parse(&path.to_string_lossy(), bytes)?;
        Ok((dockerfile, Some(path)))
    }

    fn options(&self) -> anyhow::Result<BuildOptions> {
        let mut args = BTreeMap::new();
        for arg in &self.args {
            match arg.split_once('=') {
                Some((name, value)) => args.insert(name.to_owned(), value.to_owned()),
                // Without a value it is taken from the environment, where it is set.
                None => std::env::var(arg)
                    .ok()
                    .and_then(|value| args.insert(arg.clone(), value)),
            };
        }
        let mut labels = BTreeMap::new();
        for label in &self.labels {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            anyhow::ensure!(
                !name.is_empty(),
                "the label {label:?} has no name; write NAME=VALUE"
            );
            labels.insert(name.to_owned(), value.to_owned());
        }
        for tag in &self.tags {
            anyhow::ensure!(
                tag.digest().is_none(),
                "an image that is yet to be built cannot be named by a digest ({tag}); use NAME:TAG"
            );
        }
        Ok(BuildOptions {
            tags: self.tags.clone(),
            args,
            target: self.target.clone(),
            no_cache: self.no_cache,
            network: match self.network {
                Network::None => RunNetwork::None,
                Network::Host | Network::Default => RunNetwork::Host,
            },
            labels,
            platform: self.platform.clone().unwrap_or_else(Platform::host),
        })
    }

    fn print(&self, built: &Built, quiet: bool) -> anyhow::Result<()> {
        let id = built.image.id();
        if let Some(file) = &self.iidfile {
            fs_err::write(file, id.to_string())?;
        }
        if !quiet {
            for tag in &self.tags {
                eprintln!("tagged {}", tag.familiar());
            }
            eprintln!("{} run, {} cached", steps(built.executed), built.cached);
        }
        println!("{id}");
        Ok(())
    }
}

fn steps(count: usize) -> String {
    match count {
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    }
}

fn parse(name: &str, bytes: Vec<u8>) -> anyhow::Result<Dockerfile> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{name}:{line}: this is no text; a Dockerfile is written in UTF-8")
    })?;
    Ok(Dockerfile::parse(name, &text).map_err(BuildError::from)?)
}

/// Base images from the store, or from their registries.
struct Bases<'a> {
    policy: PullPolicy,
    progress: &'a dyn Progress,
}

impl BaseImages for Bases<'_> {
    fn resolve(
        &self,
        name: &str,
        platform: &Platform,
        lease: &Lease,
    ) -> Result<Image, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ensure_for(
            lease,
            name,
            platform,
            self.policy,
            self.progress,
        )?)
    }
}

/// What a guard needs: nothing but the places.
#[derive(clap::Args)]
pub(crate) struct GuardArgs {}

/// Waits for the end of a build and cleans up after it.
pub(crate) fn guard(_args: &GuardArgs, context: &Context) -> anyhow::Result<ExitCode> {
    dhow_builder::guard(std::io::stdin().lock(), &runtime(context)?);
    Ok(ExitCode::SUCCESS)
}
