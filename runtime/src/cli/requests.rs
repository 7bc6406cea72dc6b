//! From arguments to the library's options, in one place.

use std::io::Read;

use dhow_runtime::commands::{self, CreateOptions, ExecOptions};
use dhow_runtime::error::Error;
use oci_spec::runtime::{
    Capability, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder,
    LinuxResources,
};

use super::arguments::{CreateArgs, ExecArgs, RunArgs, SpecArgs, UpdateArgs};

impl CreateArgs {
    pub(crate) fn options(&self) -> CreateOptions {
        CreateOptions {
            bundle: self.bundle.clone(),
            console_socket: self.console_socket.clone(),
            pid_file: self.pid_file.clone(),
            preserve_fds: self.preserve_fds,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            ..CreateOptions::default()
        }
    }
}

impl RunArgs {
    pub(crate) fn options(&self) -> CreateOptions {
        CreateOptions {
            detach: self.detach,
            keep: self.keep,
            ..self.create.options()
        }
    }
}

impl ExecArgs {
    pub(crate) fn options(&self) -> Result<ExecOptions, Error> {
        let unsupported = [
            (self.process_label.is_some(), "--process-label"),
            (self.apparmor.is_some(), "--apparmor"),
            (!self.cgroup.is_empty(), "--cgroup"),
        ];
        if let Some((_, name)) = unsupported.iter().find(|(asked, _)| *asked) {
            return Err(Error::Asked(format!("{name} is not supported yet")));
        }
        if self.process.is_none() && self.command.is_empty() {
            return Err(Error::Asked(
                "no command: give one after the container, or a document with --process".to_owned(),
            ));
        }
        Ok(ExecOptions {
            process: self.process.clone(),
            args: self.command.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            tty: self.tty,
            user: self.user.as_deref().map(parse_user).transpose()?,
            additional_gids: self.additional_gids.clone(),
            capabilities: self
                .cap
                .iter()
                .map(|name| parse_capability(name))
                .collect::<Result<_, _>>()?,
            no_new_privileges: self.no_new_privs,
            detach: self.detach,
            pid_file: self.pid_file.clone(),
            console_socket: self.console_socket.clone(),
            preserve_fds: self.preserve_fds,
            ignore_paused: self.ignore_paused,
        })
    }
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), Error> {
    let number = |part: &str| {
        part.parse::<u32>()
            .map_err(|_| Error::Asked(format!("--user {text:?}: UID or UID:GID, as numbers")))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

fn parse_capability(name: &str) -> Result<Capability, Error> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|_| Error::Asked(format!("--cap {name:?} is no capability")))
}

impl UpdateArgs {
    pub(crate) fn resources(&self) -> Result<LinuxResources, Error> {
        if let Some(path) = &self.resources {
            let file_error = |source| Error::File {
                path: path.clone(),
                source,
            };
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(file_error)?;
            } else {
                text = std::fs::read_to_string(path).map_err(file_error)?;
            }
            return serde_json::from_str(&text)
                .map_err(|error| Error::Asked(format!("{}: {error}", path.display())));
        }
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        if self
            .memory
            .or(self.memory_swap)
            .or(self.memory_reservation)
            .is_some()
        {
            let mut memory = built(LinuxMemoryBuilder::default().build())?;
            memory.set_limit(self.memory);
            memory.set_swap(self.memory_swap);
            memory.set_reservation(self.memory_reservation);
            resources.set_memory(Some(memory));
        }
        let mut cpu = built(LinuxCpuBuilder::default().build())?;
        cpu.set_period(self.cpu_period);
        cpu.set_quota(self.cpu_quota);
        cpu.set_shares(self.cpu_shares);
        cpu.set_cpus(self.cpuset_cpus.clone());
        cpu.set_mems(self.cpuset_mems.clone());
        resources.set_cpu(Some(cpu));
        if let Some(limit) = self.pids_limit {
            resources.set_pids(Some(built(
                LinuxPidsBuilder::default().limit(limit).build(),
            )?));
        }
        if let Some(weight) = self.blkio_weight {
            resources.set_block_io(Some(built(
                LinuxBlockIoBuilder::default().weight(weight).build(),
            )?));
        }
        Ok(resources)
    }
}

fn built<T>(built: Result<T, oci_spec::OciSpecError>) -> Result<T, Error> {
    built.map_err(|error| Error::Asked(error.to_string()))
}

/// Writes `config.json` into a bundle that has none.
pub(crate) fn write_template(args: &SpecArgs) -> Result<(), Error> {
    let path = args.bundle.join("config.json");
    let error = |source| Error::File {
        path: path.clone(),
        source,
    };
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let template = commands::template(args.rootless.then_some(own));
    let text = format!("{template:#}\n");
    let mut file = std::fs::File::create_new(&path).map_err(error)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(error)
}
