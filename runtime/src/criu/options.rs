//! What is asked of criu, from a person's options to the fields of its message.

use std::path::{Path, PathBuf};

use super::message::Fields;
use crate::error::Error;

/// What a person may ask of a checkpoint or a restore.
#[derive(Debug, Clone, Default)]
pub struct CriuOptions {
    /// The criu program.
    pub program: PathBuf,
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of the log and of work files; else that of the images.
    pub work: Option<PathBuf>,
    /// The directory of an earlier pre-dump, relative to that of the images.
    pub parent: Option<PathBuf>,
    /// The container runs on after a checkpoint.
    pub leave_running: bool,
    /// With open TCP connections.
    pub tcp_established: bool,
    /// Without TCP connections that are not yet accepted.
    pub tcp_skip_in_flight: bool,
    /// With files that are open and unlinked.
    pub link_remap: bool,
    /// With unix sockets that lead outside.
    pub external_sockets: bool,
    /// With a terminal of the caller's.
    pub shell_job: bool,
    /// With file locks.
    pub file_locks: bool,
    /// Memory only, and the container runs on.
    pub pre_dump: bool,
    /// Memory follows later.
    pub lazy_pages: bool,
    /// Images drop what they have twice.
    pub auto_dedup: bool,
    /// The descriptor that gets a zero byte when pages can be asked for.
    pub status_fd: Option<i32>,
    /// Where memory is sent, and its port.
    pub page_server: Option<(String, u16)>,
    /// What happens to cgroups: soft, full, strict or ignore.
    pub cgroups_mode: Option<String>,
    /// Another LSM profile than it had (TYPE:NAME).
    pub lsm_profile: Option<String>,
    /// Another LSM mount context than it had.
    pub lsm_mount_context: Option<String>,
}

/// What leads out of the container.
#[derive(Debug, Default)]
pub(crate) struct External {
    /// Mounts: for a checkpoint their place and a name, for a restore the name and what is mounted.
    pub(crate) mounts: Vec<(String, String)>,
    /// Namespaces that stay (`net[4026531840]:NAME`).
    pub(crate) namespaces: Vec<String>,
    /// Descriptors of this process and what they stand for.
    pub(crate) descriptors: Vec<(String, i32)>,
    /// Namespaces to enter, by their name and a path.
    pub(crate) joined: Vec<(&'static str, String)>,
    /// Cgroups: controller and path.
    pub(crate) cgroups: Vec<(String, String)>,
}

/// The numbers of criu_opts's fields that are used here.
pub(crate) mod field {
    pub(crate) const IMAGES_FD: u32 = 1;
    pub(crate) const PID: u32 = 2;
    pub(crate) const LEAVE_RUNNING: u32 = 3;
    pub(super) const EXT_UNIX_SK: u32 = 4;
    pub(super) const TCP_ESTABLISHED: u32 = 5;
    pub(crate) const EVASIVE_DEVICES: u32 = 6;
    pub(super) const SHELL_JOB: u32 = 7;
    pub(super) const FILE_LOCKS: u32 = 8;
    pub(super) const LOG_LEVEL: u32 = 9;
    pub(super) const LOG_FILE: u32 = 10;
    pub(super) const PAGE_SERVER: u32 = 11;
    pub(super) const NOTIFY: u32 = 12;
    pub(crate) const ROOT: u32 = 13;
    pub(super) const PARENT: u32 = 14;
    pub(super) const TRACK_MEMORY: u32 = 15;
    pub(super) const AUTO_DEDUP: u32 = 16;
    pub(super) const WORK_FD: u32 = 17;
    pub(super) const LINK_REMAP: u32 = 18;
    pub(super) const EXTERNAL_MOUNT: u32 = 23;
    pub(super) const MANAGE_CGROUPS: u32 = 24;
    pub(super) const CGROUP_ROOT: u32 = 25;
    pub(crate) const RESTORE_SIBLING: u32 = 26;
    pub(super) const INHERIT_FD: u32 = 27;
    pub(super) const CGROUPS_MODE: u32 = 34;
    pub(super) const EXTERNAL: u32 = 37;
    pub(super) const EMPTY_NAMESPACES: u32 = 38;
    pub(super) const JOIN_NAMESPACE: u32 = 39;
    pub(crate) const FREEZE_CGROUP: u32 = 44;
    pub(super) const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub(super) const LAZY_PAGES: u32 = 48;
    pub(super) const ORPHAN_TERMINAL: u32 = 50;
    pub(crate) const CONFIG_FILE: u32 = 51;
    pub(super) const LSM_PROFILE: u32 = 53;
    pub(super) const LSM_MOUNT_CONTEXT: u32 = 63;
    pub(super) const NETWORK_LOCK: u32 = 64;
}

impl CriuOptions {
    /// criu's number of the mode.
    pub(crate) fn cgroups_mode(&self) -> Result<i64, Error> {
        match self.cgroups_mode.as_deref() {
            None | Some("") => Ok(6),
            Some("ignore") => Ok(0),
            Some("soft") => Ok(3),
            Some("full") => Ok(4),
            Some("strict") => Ok(5),
            Some(other) => Err(Error::Asked(format!(
                "invalid manage-cgroups-mode value {other:?}: soft, full, strict or ignore"
            ))),
        }
    }

    /// The fields that a checkpoint and a restore have in common. `images` and `work` are descriptors of the worker's.
    pub(crate) fn fields(
        &self,
        log: &str,
        images: i32,
        work: Option<i32>,
    ) -> Result<Fields, Error> {
        let mode = self.cgroups_mode()?;
        let mut fields = Fields::default();
        fields
            .number(field::IMAGES_FD, images.into())
            .number(field::LOG_LEVEL, 4)
            .text(field::LOG_FILE, log)
            .switch(field::NOTIFY, true)
            .switch(field::MANAGE_CGROUPS, true)
            .number(field::CGROUPS_MODE, mode)
            .switch(field::SHELL_JOB, self.shell_job)
            .switch(field::EXT_UNIX_SK, self.external_sockets)
            .switch(field::TCP_ESTABLISHED, self.tcp_established)
            .switch(field::FILE_LOCKS, self.file_locks)
            // The network's devices and addresses are those of who calls a runtime.
            .number(field::EMPTY_NAMESPACES, dhow_sys::namespace::NETWORK as i64)
            .switch(field::ORPHAN_TERMINAL, true)
            .switch(field::AUTO_DEDUP, self.auto_dedup)
            .switch(field::LAZY_PAGES, self.lazy_pages);
        if let Some(work) = work {
            fields.number(field::WORK_FD, work.into());
        }
        Ok(fields)
    }

    /// The fields of a checkpoint only.
    pub(crate) fn add_checkpoint(&self, fields: &mut Fields) {
        fields
            .switch(field::LEAVE_RUNNING, self.leave_running)
            .switch(field::TCP_SKIP_IN_FLIGHT, self.tcp_skip_in_flight)
            .switch(field::LINK_REMAP, self.link_remap);
        if let Some((address, port)) = &self.page_server {
            let mut server = Fields::default();
            server.text(1, address).number(2, i64::from(*port));
            fields.nested(field::PAGE_SERVER, &server);
        }
        // While it is saved, its network is held back: by iptables, or without that program by criu's own nftables.
        if super::find(Path::new("iptables-restore")).is_err() {
            const NFTABLES: i64 = 2;
            fields.number(field::NETWORK_LOCK, NFTABLES);
        }
        if let Some(parent) = &self.parent {
            fields
                .text(field::PARENT, &parent.to_string_lossy())
                .switch(field::TRACK_MEMORY, true);
        }
    }

    /// The fields of a restore only.
    pub(crate) fn add_restore(&self, fields: &mut Fields) {
        fields
            .switch(field::EVASIVE_DEVICES, true)
            .switch(field::RESTORE_SIBLING, true);
        for (number, value) in [
            (field::LSM_PROFILE, &self.lsm_profile),
            (field::LSM_MOUNT_CONTEXT, &self.lsm_mount_context),
        ] {
            if let Some(value) = value {
                fields.text(number, value);
            }
        }
    }
}

impl External {
    /// The fields for it.
    pub(crate) fn add(&self, fields: &mut Fields) {
        for (key, value) in &self.mounts {
            fields.pair(field::EXTERNAL_MOUNT, key, value);
        }
        for namespace in &self.namespaces {
            fields.text(field::EXTERNAL, namespace);
        }
        for (key, descriptor) in &self.descriptors {
            let mut inherited = Fields::default();
            inherited.text(1, key).number(2, i64::from(*descriptor));
            fields.nested(field::INHERIT_FD, &inherited);
        }
        for (kind, path) in &self.joined {
            fields.pair(field::JOIN_NAMESPACE, kind, path);
        }
        for (controller, path) in &self.cgroups {
            fields.pair(field::CGROUP_ROOT, controller, path);
        }
    }
}
