//! The process of a container: what it runs, as whom, where, and with which environment.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use dhow_image::ImageConfiguration;
use oci_spec::image::Config;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec, User};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::spec::SpecError;
use crate::users::{UserIds, find_user, open_inside};
use crate::{Confinement, ContainerOptions, Rlimit, UserNamespace, capabilities};

/// Where commands are looked for when the image does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a person asks of one more process in a running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The command.
    pub args: Vec<String>,
    /// `NAME=VALUE` each, on top of the container's own environment.
    pub env: Vec<String>,
    /// The directory to start in; the container's otherwise.
    pub working_dir: Option<String>,
    /// `USER[:GROUP]`; the container's otherwise.
    pub user: Option<String>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// All capabilities.
    pub privileged: bool,
}

/// The command of a container: the person's entrypoint drops the image's command, the person's words replace it.
///
/// # Errors
/// When nothing is left to run.
pub fn command_line(
    image: &ImageConfiguration,
    entrypoint: Option<&[String]>,
    args: &[String],
) -> Result<Vec<String>, SpecError> {
    let config = image.config().as_ref();
    let of_image = |get: fn(&Config) -> &Option<Vec<String>>| {
        config.and_then(|c| get(c).clone()).unwrap_or_default()
    };
    let mut line = match entrypoint {
        Some(own) => own
            .iter()
            .filter(|word| !word.is_empty())
            .cloned()
            .collect(),
        None => of_image(Config::entrypoint),
    };
    if !args.is_empty() {
        line.extend_from_slice(args);
    } else if entrypoint.is_none() {
        line.extend(of_image(Config::cmd));
    }
    if line.is_empty() {
        return Err(SpecError::NoCommand);
    }
    Ok(line)
}

/// The environment: the defaults, the image's on top, the person's on top of that; a name without `=` takes a variable away.
pub fn environment(defaults: &[String], image: &[String], own: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for entry in defaults.iter().chain(image).chain(own) {
        let name = entry.split('=').next().unwrap_or_default();
        let place = all.iter().position(|e| e.split('=').next() == Some(name));
        match (place, entry.contains('=')) {
            (Some(place), true) => all[place] = entry.clone(),
            (Some(place), false) => {
                all.remove(place);
            }
            (None, true) => all.push(entry.clone()),
            (None, false) => {}
        }
    }
    all
}

/// Whether the namespace has all whom a process would run as.
fn check_mapped(own: &UserNamespace, ids: &UserIds) -> Result<(), SpecError> {
    let unmapped = |kind, id| Err(SpecError::Unmapped { kind, id });
    if own.host_user(ids.uid).is_none() {
        return unmapped("user", ids.uid);
    }
    let mut groups = [ids.gid].into_iter().chain(ids.groups.iter().copied());
    match groups.find(|id| own.host_group(*id).is_none()) {
        Some(id) => unmapped("group", id),
        None => Ok(()),
    }
}

/// The first process of a container.
pub(crate) fn container_process(
    image: &ImageConfiguration,
    options: &ContainerOptions,
    root: BorrowedFd<'_>,
) -> Result<Process, SpecError> {
    let config = image.config().as_ref();
    let image_user = config.and_then(|c| c.user().as_deref()).unwrap_or("");
    let ids = find_user(root, options.user.as_deref().unwrap_or(image_user))?;
    if let Some(own) = &options.user_namespace {
        check_mapped(own, &ids)?;
    }
    let mut process = base(&ids, &options.confinement);
    process
        .set_args(Some(command_line(
            image,
            options.entrypoint.as_deref(),
            &options.args,
        )?))
        .set_terminal(Some(options.terminal));
    let mut defaults = vec![format!("PATH={DEFAULT_PATH}")];
    if let Some(hostname) = &options.hostname {
        defaults.push(format!("HOSTNAME={hostname}"));
    }
    if options.terminal {
        defaults.push("TERM=xterm".to_owned());
    }
    let of_image = config.and_then(|c| c.env().clone()).unwrap_or_default();
    let env = environment(&defaults, &of_image, &options.env);
    process.set_env(Some(with_home(env, &ids)));
    let image_dir = config.and_then(|c| c.working_dir().as_deref());
    let cwd = working_dir(options.working_dir.as_deref().or(image_dir))?;
    if !is_covered(&cwd, options) {
        check_working_dir(root, &cwd)?;
    }
    process.set_cwd(cwd);
    if !options.rlimits.is_empty() {
        let limits = options.rlimits.iter().map(rlimit);
        process.set_rlimits(Some(limits.collect::<Result<_, _>>()?));
    }
    Ok(process)
}

/// One more process in a container that runs: as the container's own, but for what is asked. `root` is the root that the container sees.
///
/// # Errors
/// When there is no command, or the user cannot be found.
pub fn exec_process(
    container: &Spec,
    options: &ExecOptions,
    root: BorrowedFd<'_>,
) -> Result<Process, SpecError> {
    if options.args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let mut process = container.process().clone().unwrap_or_default();
    let held = process
        .capabilities()
        .as_ref()
        .and_then(|sets| sets.bounding().clone())
        .unwrap_or_default();
    let mut ids = None;
    if let Some(user) = &options.user {
        let found = find_user(root, user)?;
        if let Some(own) = UserNamespace::of_spec(container) {
            check_mapped(&own, &found)?;
        }
        process.set_user(user_of(&found));
        ids = Some(found);
    }
    let is_root = process.user().uid() == 0;
    let sets = if options.privileged {
        let all = Confinement {
            privileged: true,
            ..Default::default()
        };
        capabilities::sets(&all.capabilities(), true)
    } else {
        capabilities::sets(&held, is_root)
    };
    let mut defaults = Vec::new();
    if options.terminal {
        defaults.push("TERM=xterm".to_owned());
    }
    let of_container = process.env().clone().unwrap_or_default();
    let mut env = environment(&defaults, &of_container, &options.env);
    if let Some(ids) = &ids
        && !options.env.iter().any(|e| e.starts_with("HOME="))
    {
        env.retain(|entry| !entry.starts_with("HOME="));
        env = with_home(env, ids);
    }
    if let Some(dir) = &options.working_dir {
        let dir = working_dir(Some(dir))?;
        check_working_dir(root, &dir)?;
        process.set_cwd(dir);
    }
    process
        .set_args(Some(options.args.clone()))
        .set_env(Some(env))
        .set_terminal(Some(options.terminal))
        .set_capabilities(Some(sets));
    Ok(process)
}

fn base(ids: &UserIds, confinement: &Confinement) -> Process {
    let mut process = Process::default();
    process
        .set_user(user_of(ids))
        .set_capabilities(Some(capabilities::sets(
            &confinement.capabilities(),
            ids.uid == 0,
        )))
        .set_rlimits(None)
        .set_no_new_privileges(Some(confinement.no_new_privileges))
        .set_apparmor_profile(None)
        .set_selinux_label(None);
    process
}

fn user_of(ids: &UserIds) -> User {
    let mut user = User::default();
    user.set_uid(ids.uid)
        .set_gid(ids.gid)
        .set_umask(None)
        .set_additional_gids(Some(ids.groups.clone()));
    user
}

fn with_home(mut env: Vec<String>, ids: &UserIds) -> Vec<String> {
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", ids.home));
    }
    env
}

fn working_dir(dir: Option<&str>) -> Result<PathBuf, SpecError> {
    match dir {
        None | Some("") => Ok("/".into()),
        Some(dir) if dir.starts_with('/') => Ok(dir.into()),
        Some(dir) => Err(SpecError::RelativeWorkingDir(dir.to_owned())),
    }
}

/// Whether something is mounted at the directory or above it, so that the image does not say what is there.
fn is_covered(dir: &Path, options: &ContainerOptions) -> bool {
    let binds = options.mounts.iter().map(|mount| &mount.destination);
    let all = binds.chain(options.tmpfs.iter().map(|mount| &mount.destination));
    all.into_iter()
        .any(|destination| dir.starts_with(destination))
}

/// What is there must be a directory; what is not is made by the runtime.
fn check_working_dir(root: BorrowedFd<'_>, dir: &Path) -> Result<(), SpecError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open_inside(root, dir, flags) {
        Err(Errno::NOTDIR) => Err(SpecError::WorkingDirIsNone(dir.display().to_string())),
        // Whatever else is wrong with it is the runtime's to say, which goes there as the container's user.
        _ => Ok(()),
    }
}

/// As the runtime's documents have it.
///
/// # Errors
/// When there is no limit of that name.
pub(crate) fn rlimit(limit: &Rlimit) -> Result<PosixRlimit, SpecError> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let kind: PosixRlimitType = serde_json::from_value(serde_json::Value::String(name))
        .map_err(|_| SpecError::UnknownRlimit(limit.name.clone()))?;
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .map_err(|_| SpecError::UnknownRlimit(limit.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> ImageConfiguration {
        let mut config = Config::default();
        config
            .set_entrypoint((!entrypoint.is_empty()).then(|| words(entrypoint)))
            .set_cmd((!cmd.is_empty()).then(|| words(cmd)));
        let mut image = ImageConfiguration::default();
        image.set_config(Some(config));
        image
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let line = |image: &ImageConfiguration, entrypoint: Option<&str>, args: &str| {
            let entrypoint = entrypoint.map(words);
            command_line(image, entrypoint.as_deref(), &words(args)).map(|line| line.join(" "))
        };
        let both = image("serve --fast", "80");
        assert_eq!(line(&both, None, "").unwrap(), "serve --fast 80");
        assert_eq!(line(&both, None, "81 82").unwrap(), "serve --fast 81 82");
        assert_eq!(line(&both, Some("sh"), "").unwrap(), "sh");
        assert_eq!(line(&both, Some("sh"), "-c true").unwrap(), "sh -c true");
        assert_eq!(line(&both, Some(""), "true").unwrap(), "true");
        assert!(line(&both, Some(""), "").is_err());
        assert!(line(&image("", ""), None, "").is_err());
    }

    #[test]
    fn a_later_variable_replaces_and_a_bare_name_removes() {
        let env = environment(&words("PATH=/bin A=1"), &words("A=2 B=3"), &words("B C=4"));
        assert_eq!(env, words("PATH=/bin A=2 C=4"));
    }

    #[test]
    fn an_unknown_rlimit_is_refused() {
        let limit = |name: &str| Rlimit {
            name: name.into(),
            soft: 1,
            hard: 2,
        };
        assert!(rlimit(&limit("nofile")).is_ok());
        assert!(rlimit(&limit("nofiles")).is_err());
    }
}
