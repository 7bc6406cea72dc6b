//! The arguments, as they are typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dhow_runtime::log::LogOptions;

/// What --version says after the program's name: runc's shape.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1");

/// An OCI runtime: creates and runs containers from bundles.
#[derive(Debug, Parser)]
#[command(name = "dhow-runtime", version = VERSION, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Directory of the containers' state
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File for the runtime's own messages (default: standard error)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Shape of those messages
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Say more
    #[arg(long)]
    debug: bool,
    /// Let systemd manage cgroups (not supported yet)
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) systemd_cgroup: bool,
    /// For runc's callers; the runtime sees by itself what it may do
    #[arg(long, value_name = "true|false|auto", default_value = "auto", value_parser = ["true", "false", "auto"], hide = true)]
    rootless: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Arguments {
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            file: self.log.clone().filter(|path| !path.as_os_str().is_empty()),
            json: self.log_format == LogFormat::Json,
            debug: self.debug,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| {
            if rustix::process::geteuid().is_root() {
                return PathBuf::from("/run/dhow/runtime");
            }
            let dir = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(
                || PathBuf::from(format!("/tmp/dhow-{}", rustix::process::geteuid().as_raw())),
                PathBuf::from,
            );
            dir.join("dhow/runtime")
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container; its process waits for `start`
    Create(CreateArgs),
    /// Start a created container
    Start(IdArgs),
    /// Create a container, start it and wait for its end
    Run(RunArgs),
    /// Show the state of a container
    State(IdArgs),
    /// Send a signal to a container's process
    Kill(KillArgs),
    /// Remove what a container holds
    Delete(DeleteArgs),
    /// Execute a process in a running container
    Exec(Box<ExecArgs>),
    /// Show the processes of a container
    Ps(PsArgs),
    /// Show the containers under the root
    List(ListArgs),
    /// Write a configuration to start from
    Spec(SpecArgs),
    /// Show what this runtime can do
    Features,
    /// Stop all processes of a container where they are
    Pause(IdArgs),
    /// Let a paused container go on
    Resume(IdArgs),
    /// Change the limits of a container
    Update(Box<UpdateArgs>),
}

impl Command {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Run(_) => "run",
            Self::State(_) => "state",
            Self::Kill(_) => "kill",
            Self::Delete(_) => "delete",
            Self::Exec(_) => "exec",
            Self::Ps(_) => "ps",
            Self::List(_) => "list",
            Self::Spec(_) => "spec",
            Self::Features => "features",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Update(_) => "update",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// Directory of the bundle
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that receives the master end of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Pass N descriptors besides the first three (and LISTEN_FDS)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Move the root instead of pivot_root, where the host's root is a ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Print the steps and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return when the process has begun
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Keep the container's record after its end
    #[arg(long)]
    pub(crate) keep: bool,
    /// For runc's callers
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// The signal: a name or a number
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
    /// To all processes of the container
    #[arg(long, short)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// Kill it if it runs; clean up whatever is left of it
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// Unix socket that receives the master end of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// With a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// User, and group
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// More groups
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// A document that describes the process
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return when the process has begun
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label (not supported yet)
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile (not supported yet)
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// No privileges can be gained
    #[arg(long, alias = "no-new-privileges", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_new_privs: Option<bool>,
    /// Give a capability
    #[arg(long, short, value_name = "CAP_NAME")]
    pub(crate) cap: Vec<String>,
    /// Pass N descriptors besides the first three (and LISTEN_FDS)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// A cgroup below the container's (not supported yet)
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Go ahead in a paused container
    #[arg(long)]
    pub(crate) ignore_paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// table or json
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Options for ps(1) (default: -ef)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// table or json
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Ids only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Directory of the bundle
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For a container without privileges
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// A document with limits (`-`: standard input); the options below are not looked at then
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of its block I/O
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    /// Period of the CPU quota, microseconds
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    /// CPU time per period, microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// CPU shares
    #[arg(long, alias = "cpu-share")]
    pub(crate) cpu_shares: Option<u64>,
    /// CPUs to use
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory, bytes
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory: Option<i64>,
    /// Memory kept for it, bytes
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap, bytes
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Processes
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
}
