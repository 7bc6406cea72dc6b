//! What `run` and `create` take, and how it becomes the engine's options: here and nowhere else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use dhow_container_spec::{
    BindMount, Confinement, ContainerOptions, DeviceRate, Limits, NetworkMode, Rlimit,
    SeccompChoice, TmpfsMount, parse_capability, parse_cpus, parse_size,
};
use dhow_engine::{ContainerName, CreateRequest, Engine};
use dhow_image::Platform;
use dhow_image_store::Image;

use crate::context::Context;
use crate::environment::EnvironmentArgs;
use crate::images::{PullPolicy, ensure_image};
use crate::platforms;
use crate::progress;
use crate::user_namespace_args::{UserNamespaceArgs, UserNamespaceChoice};

/// A container to be made. Words after the image belong to its command.
#[derive(clap::Args)]
#[command(override_usage = "dhow run [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(crate) struct ContainerArgs {
    /// Give the container a name [default: one is made up]
    #[arg(long, value_name = "NAME")]
    name: Option<ContainerName>,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep its standard input open, and pass this one on to it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// When to ask the registry for the image
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pull: PullPolicy,
    /// The platform to choose from an image for several, as OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Write the container's id to a file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    confinement: ConfinementArgs,
    #[command(flatten)]
    user_namespace: UserNamespaceArgs,
    /// The image, and the command with its words [default: the image's command]
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "IMAGE [COMMAND [ARG]...]"
    )]
    words: Vec<String>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Process")]
struct ProcessArgs {
    /// Replace the image's entrypoint; its command is dropped too. Empty clears it
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Whom to run as, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The signal that asks it to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Limit a resource of its process, for example nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Note something about it
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Run an init as process 1 (not supported: give a command that reaps its children)
    #[arg(long, hide = true)]
    init: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Files and network")]
struct PlaceArgs {
    /// Show a directory or file of the host, or a named volume, inside; OPTIONS are ro, and idmap: owned in the container's user
    /// namespace as on the host
    #[arg(short, long, value_name = "SOURCE:PATH[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount an empty file system in memory
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Let it write nothing to its root
    #[arg(long)]
    read_only: bool,
    /// Its host name [default: the beginning of its id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// none: a network of its own with nothing but loopback; host: the host's
    #[arg(long, value_name = "none|host", default_value = "none")]
    network: String,
    /// Publish a port (not supported yet: with --network host it is there without)
    #[arg(short, long, value_name = "PORTS", hide = true)]
    publish: Vec<String>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Memory, for example 64m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory and swap together; -1 is no limit [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Processors, for example 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Its weight where processors are short; everyone's is 1024
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// The processors it may run on, for example 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// How many processes and threads it may have; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Bytes a second that it may read from a device, for example /dev/sda:1m
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    /// Bytes a second that it may write to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    /// Reads a second from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    /// Writes a second to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Confinement")]
struct ConfinementArgs {
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// All capabilities, no filter of system calls, nothing masked
    #[arg(long)]
    privileged: bool,
    /// seccomp=unconfined, seccomp=FILE, or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl ContainerArgs {
    /// Makes the request, with the image found or pulled.
    pub(crate) fn request(
        &self,
        context: &Context,
        engine: &Engine,
    ) -> anyhow::Result<CreateRequest> {
        if let Some(file) = &self.cidfile {
            ensure!(
                !file.exists(),
                "the file {} is there already; remove it, or name another with --cidfile",
                file.display()
            );
        }
        // What is wrong with the words is told before an image is pulled.
        let mut options = self.options(engine)?;
        let mut auto_ids = None;
        match self.user_namespace.choice()? {
            UserNamespaceChoice::Host => {}
            UserNamespaceChoice::Own(own) => options.user_namespace = Some(own),
            UserNamespaceChoice::Auto(auto) => auto_ids = Some(auto),
        }
        match options.user_namespace.is_some() || auto_ids.is_some() {
            true => dhow_engine::may_map_ids()?,
            false => self.place.check_unmapped()?,
        }
        let (image, image_name) = self.image(context)?;
        Ok(CreateRequest {
            image,
            image_name,
            name: self.name.clone(),
            options,
            auto_ids,
            stop_signal: self.process.stop_signal.clone(),
            stdin: self.interactive,
            auto_remove: self.rm,
        })
    }

    /// Writes the id where it was asked for.
    pub(crate) fn write_cidfile(&self, id: &str) -> anyhow::Result<()> {
        if let Some(file) = &self.cidfile {
            fs_err::write(file, id)?;
        }
        Ok(())
    }

    fn image(&self, context: &Context) -> anyhow::Result<(Image, String)> {
        let name = &self.words[0];
        let store = context.store()?;
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        let progress = progress::reporter(false);
        let lease = store.lease()?;
        let image = ensure_image(&lease, name, &platform, self.pull, progress.as_ref())?;
        Ok((self.of_platform(image)?, name.clone()))
    }

    /// Of an image that is kept for all platforms the one for the platform that was asked for.
    fn of_platform(&self, image: Image) -> anyhow::Result<Image> {
        Ok(match &self.platform {
            Some(platform) => platforms::of_platform_here(&image, &self.words[0], platform)?,
            None => image,
        })
    }

    fn options(&self, engine: &Engine) -> anyhow::Result<ContainerOptions> {
        let process = &self.process;
        let place = &self.place;
        ensure!(
            place.publish.is_empty(),
            "-p: ports cannot be published yet; use --network host, where they are the host's own"
        );
        ensure!(
            !process.init,
            "--init is not supported; give a command that reaps its children"
        );
        let entrypoint = process
            .entrypoint
            .as_ref()
            .map(|program| vec![program.clone()]);
        Ok(ContainerOptions {
            entrypoint,
            args: self.words[1..].to_vec(),
            env: process.environment.variables()?,
            working_dir: process.workdir.clone(),
            user: process.user.clone(),
            hostname: place.hostname.clone().filter(|name| !name.is_empty()),
            mounts: place
                .volume
                .iter()
                .map(|text| volume(text, engine))
                .collect::<anyhow::Result<_>>()?,
            tmpfs: place
                .tmpfs
                .iter()
                .map(|text| tmpfs(text))
                .collect::<anyhow::Result<_>>()?,
            limits: self.limits.limits()?,
            rlimits: process
                .ulimit
                .iter()
                .map(|text| ulimit(text))
                .collect::<anyhow::Result<_>>()?,
            network: match place.network.as_str() {
                "none" => NetworkMode::None,
                "host" => NetworkMode::Host,
                other => bail!("--network {other}: there is no such network; use none or host"),
            },
            read_only: place.read_only,
            terminal: self.tty,
            labels: labels(&process.label),
            confinement: self.confinement.confinement()?,
            ..ContainerOptions::default()
        })
    }
}

impl PlaceArgs {
    /// Without a user namespace of the container's own there is nothing that owners could be mapped by.
    fn check_unmapped(&self) -> anyhow::Result<()> {
        let is_mapped = |text: &&String| {
            let options = text.split(':').nth(2).unwrap_or_default();
            options.split(',').any(|option| option == "idmap")
        };
        match self.volume.iter().find(is_mapped) {
            Some(text) => bail!(
                "-v {text}: idmap is for a container with a user namespace of its own; give it one (--userns auto, --uidmap)"
            ),
            None => Ok(()),
        }
    }
}

impl LimitArgs {
    fn limits(&self) -> anyhow::Result<Limits> {
        let size = |text: &str| -> anyhow::Result<i64> {
            if text == "-1" {
                return Ok(-1);
            }
            i64::try_from(parse_size(text)?).with_context(|| format!("{text} is too much"))
        };
        let rates = |list: &[String], in_bytes: bool| -> anyhow::Result<Vec<DeviceRate>> {
            list.iter().map(|text| rate(text, in_bytes)).collect()
        };
        Ok(Limits {
            memory: self.memory.as_deref().map(size).transpose()?,
            memory_swap: self.memory_swap.as_deref().map(size).transpose()?,
            cpu_millis: self.cpus.as_deref().map(parse_cpus).transpose()?,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            pids: self.pids_limit,
            device_read_bps: rates(&self.device_read_bps, true)?,
            device_write_bps: rates(&self.device_write_bps, true)?,
            device_read_iops: rates(&self.device_read_iops, false)?,
            device_write_iops: rates(&self.device_write_iops, false)?,
        })
    }
}

impl ConfinementArgs {
    fn confinement(&self) -> anyhow::Result<Confinement> {
        let mut confinement = Confinement {
            privileged: self.privileged,
            ..Confinement::default()
        };
        for name in &self.cap_add {
            if name.eq_ignore_ascii_case("all") {
                confinement.cap_add_all = true;
            } else {
                confinement.cap_add.push(parse_capability(name)?);
            }
        }
        for name in &self.cap_drop {
            if name.eq_ignore_ascii_case("all") {
                confinement.cap_drop_all = true;
            } else {
                confinement.cap_drop.push(parse_capability(name)?);
            }
        }
        for option in &self.security_opt {
            match option.split_once(['=', ':']) {
                Some(("seccomp", "unconfined")) => confinement.seccomp = SeccompChoice::Unconfined,
                Some(("seccomp", file)) => confinement.seccomp = seccomp_file(Path::new(file))?,
                Some(("no-new-privileges", "true")) => confinement.no_new_privileges = true,
                Some(("no-new-privileges", "false")) => confinement.no_new_privileges = false,
                None if option == "no-new-privileges" => confinement.no_new_privileges = true,
                _ => bail!(
                    "--security-opt {option} is not supported; it takes seccomp=unconfined, seccomp=FILE and no-new-privileges"
                ),
            }
        }
        Ok(confinement)
    }
}

/// A filter in the runtime specification's words. Docker's own profiles choose by capability and kernel, which those words cannot say.
fn seccomp_file(file: &Path) -> anyhow::Result<SeccompChoice> {
    let text = fs_err::read_to_string(file)?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is no seccomp profile", file.display()))?;
    let rules = value.get("syscalls").and_then(|rules| rules.as_array());
    let is_conditional = |rule: &serde_json::Value| {
        ["includes", "excludes"].iter().any(|key| {
            rule.get(key)
                .and_then(|condition| condition.as_object())
                .is_some_and(|condition| !condition.is_empty())
        })
    };
    ensure!(
        !rules.is_some_and(|rules| rules.iter().any(is_conditional))
            && value.get("archMap").is_none(),
        "{}: rules with includes, excludes or archMap are not supported; write the profile as the OCI runtime specification has it",
        file.display()
    );
    let profile = serde_json::from_value(value)
        .with_context(|| format!("{} is no seccomp profile", file.display()))?;
    Ok(SeccompChoice::Profile(Box::new(profile)))
}

fn labels(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (label.clone(), String::new()),
        })
        .collect()
}

fn volume(text: &str, engine: &Engine) -> anyhow::Result<BindMount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => bail!("-v {text}: write SOURCE:PATH or SOURCE:PATH:ro"),
    };
    ensure!(
        destination.starts_with('/') && destination != "/",
        "-v {text}: {destination:?} is no absolute path inside the container"
    );
    // Whose files a volume's are is a matter of containers alone, whatever ids these have on the host.
    let is_volume = !source.starts_with(['/', '.', '~']);
    let (mut read_only, mut id_mapped) = (false, is_volume);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => read_only = false,
            "ro" => read_only = true,
            "idmap" => id_mapped = true,
            "U" => bail!(
                "-v {text}: U would change the owners of the host's files; use idmap, with which they have inside the owners that they have on the host"
            ),
            other => bail!("-v {text}: the option {other:?} is not supported; use ro, rw or idmap"),
        }
    }
    let source = match is_volume {
        true => engine.volume(source)?,
        false => std::path::absolute(source)?,
    };
    Ok(BindMount {
        source,
        destination: destination.into(),
        read_only,
        id_mapped,
    })
}

fn tmpfs(text: &str) -> anyhow::Result<TmpfsMount> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    ensure!(
        destination.starts_with('/') && destination != "/",
        "--tmpfs {text}: {destination:?} is no absolute path inside the container"
    );
    Ok(TmpfsMount {
        destination: destination.into(),
        options: options
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

fn ulimit(text: &str) -> anyhow::Result<Rlimit> {
    let wrong = || format!("--ulimit {text}: write NAME=SOFT or NAME=SOFT:HARD, numbers or -1");
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().with_context(wrong),
    };
    let (name, limits) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    ensure!(
        soft <= hard,
        "--ulimit {text}: the first number is above the second"
    );
    Ok(Rlimit {
        name: name.to_ascii_lowercase(),
        soft,
        hard,
    })
}

fn rate(text: &str, in_bytes: bool) -> anyhow::Result<DeviceRate> {
    let wrong = || format!("{text:?} is no rate of a device; write for example /dev/sda:1m");
    let (device, rate) = text.rsplit_once(':').with_context(wrong)?;
    let rate = if in_bytes {
        parse_size(rate)?
    } else {
        rate.parse().with_context(wrong)?
    };
    ensure!(device.starts_with('/') && rate > 0, wrong());
    Ok(DeviceRate {
        device: device.into(),
        rate,
    })
}
