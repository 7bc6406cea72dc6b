//! The options of `checkpoint` and `restore`.

use std::path::PathBuf;

use dhow_runtime::commands::RestoreOptions;
use dhow_runtime::{CriuOptions, Error};

use super::flags::Given;

/// What both are asked.
pub(crate) fn options(global: &Given, given: &Given) -> Result<CriuOptions, Error> {
    for kind in given.all("empty-ns")? {
        if kind != "network" {
            return Err(Error::Asked(format!(
                "namespace {kind:?} is not supported: --empty-ns network (which is so anyway)"
            )));
        }
    }
    let images = match given.path("image-path") {
        Some(path) => path,
        None => current_directory()?.join("checkpoint"),
    };
    Ok(CriuOptions {
        program: global.path("criu").unwrap_or_else(|| "criu".into()),
        images,
        work: given.path("work-path"),
        parent: given.path("parent-path"),
        leave_running: given.is("leave-running"),
        tcp_established: given.is("tcp-established"),
        tcp_skip_in_flight: given.is("tcp-skip-in-flight"),
        link_remap: given.is("link-remap"),
        external_sockets: given.is("ext-unix-sk"),
        shell_job: given.is("shell-job"),
        file_locks: given.is("file-locks"),
        pre_dump: given.is("pre-dump"),
        lazy_pages: given.is("lazy-pages"),
        auto_dedup: given.is("auto-dedup"),
        // As in runc, -1 is none.
        status_fd: given.number("status-fd")?.filter(|fd| *fd >= 0),
        page_server: page_server(given)?,
        cgroups_mode: given.text("manage-cgroups-mode")?,
        lsm_profile: given.text("lsm-profile")?,
        lsm_mount_context: given.text("lsm-mount-context")?,
    })
}

fn current_directory() -> Result<PathBuf, Error> {
    std::env::current_dir().map_err(|source| Error::File {
        path: ".".into(),
        source,
    })
}

fn page_server(given: &Given) -> Result<Option<(String, u16)>, Error> {
    let Some(text) = given.text("page-server")? else {
        return Ok(None);
    };
    let parts = text
        .rsplit_once(':')
        .filter(|(address, _)| !address.is_empty());
    let Some((address, port)) = parts else {
        return Err(Error::Asked(
            "Use --page-server ADDRESS:PORT to specify page server".to_owned(),
        ));
    };
    let port = port
        .parse()
        .map_err(|_| Error::Asked(format!("Invalid port number {port:?} of --page-server")))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok(Some((address.to_owned(), port)))
}

/// What a restore is asked.
pub(crate) fn restore_options(global: &Given, given: &Given) -> Result<RestoreOptions, Error> {
    Ok(RestoreOptions {
        criu: options(global, given)?,
        bundle: given.path("bundle").unwrap_or_else(|| ".".into()),
        console_socket: given.path("console-socket"),
        pid_file: given.path("pid-file"),
        detach: given.is("detach"),
        driver: super::requests::driver(global),
    })
}
