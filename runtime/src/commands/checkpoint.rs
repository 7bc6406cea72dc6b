//! `checkpoint`.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use super::Runtime;
use super::delete::{await_end, remove_all};
use crate::cgroup::CgroupRecord;
use crate::container::{ContainerDir, Record};
use crate::criu::{
    CriuOptions, External, Fields, Images, Kind, Worker, field, open_directory, request,
};
use crate::error::Error;
use crate::spec::Spec;

const LOG: &str = "dump.log";

/// Saves a container's processes to files; it is deleted then, but for `leave_running` and `pre_dump`.
///
/// # Errors
/// When it does not run, or criu cannot save it: then it runs on.
pub fn checkpoint(runtime: &Runtime, id: &str, options: &CriuOptions) -> Result<(), Error> {
    // Before this process opens anything of its own, which could have the number.
    let status = options.status_fd.map(take_status).transpose()?;
    let dir = ContainerDir::open(&runtime.root, id)?;
    dir.lock()?;
    let (record, _) = dir.require("checkpoint")?;
    let spec = dir.spec()?;
    options.cgroups_mode()?;
    let images = Images::open(options, LOG, true)?;
    check_parent(options)?;
    let features = (options.pre_dump, options.lazy_pages);
    if features != (false, false) {
        check_features(options, features)?;
    }
    dump(&images, &record, &spec, options, status).map_err(|error| images.explain(error))?;
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    await_end(&record);
    remove_all(dir, Some(&record), Some(&spec))
}

fn check_parent(options: &CriuOptions) -> Result<(), Error> {
    let Some(parent) = &options.parent else {
        return Ok(());
    };
    if parent.is_absolute() {
        return Err(Error::Asked(
            "--parent-path must be relative: it is looked for below --image-path".to_owned(),
        ));
    }
    open_directory(&options.images.join(parent))
        .map(drop)
        .map_err(|error| Error::Asked(format!("invalid --parent-path: {error}")))
}

/// Takes over the descriptor that the caller passed for it.
fn take_status(number: i32) -> Result<OwnedFd, Error> {
    dhow_sys::descriptor::take(number).map_err(|errno| {
        Error::system(
            format!("use --status-fd {number}: is it open for writing?"),
            errno,
        )
    })
}

/// Asks whether criu and the kernel can do what is asked for.
fn check_features(options: &CriuOptions, (track, lazy): (bool, bool)) -> Result<(), Error> {
    let mut features = Fields::default();
    features.switch(1, track).switch(2, lazy);
    let worker = Worker::start(&options.program, None, &[], None)?;
    let asked = request(Kind::FeatureCheck, 5, &features);
    let answer = worker.ask(&asked, Kind::FeatureCheck, |_| Ok(()))?;
    let (has_track, has_lazy) = answer.features;
    for (asked, has, name) in [
        (track, has_track, "MemTrack"),
        (lazy, has_lazy, "LazyPages"),
    ] {
        if asked && !has {
            return Err(Error::Asked(format!(
                "criu is missing features: [{name}] (this kernel or this criu lacks it)"
            )));
        }
    }
    Ok(())
}

fn dump(
    images: &Images,
    record: &Record,
    spec: &Spec,
    options: &CriuOptions,
    mut status: Option<OwnedFd>,
) -> Result<(), Error> {
    let kind = match options.pre_dump {
        true => Kind::PreDump,
        false => Kind::Dump,
    };
    let (directory, work) = images.numbers();
    let mut fields = options.fields(LOG, directory, work)?;
    options.add_checkpoint(&mut fields);
    fields
        .number(field::PID, record.pid.into())
        .text(field::ROOT, &record.rootfs.to_string_lossy());
    add_config_file(&mut fields, spec);
    if let Some(freezer) = record.cgroup.as_ref().and_then(freezer) {
        fields.text(field::FREEZE_CGROUP, &freezer);
    }
    external(record, spec, !options.pre_dump)?.add(&mut fields);
    if !options.pre_dump {
        images.write_descriptors(record.pid)?;
    }
    let worker = Worker::start(&options.program, None, &[], None)?;
    worker.ask(&request(kind, 2, &fields), kind, |question| {
        if question.script == "status-ready"
            && let Some(status) = status.take()
        {
            // Whoever waits for it sees its end as well.
            let _ = std::fs::File::from(status).write_all(&[0]);
        }
        Ok(())
    })?;
    Ok(())
}

/// The annotation that names a file of options for criu.
pub(super) const CRIU_CONFIG: &str = "org.criu.config";

/// A file of options for criu: the container's own by its annotation, none if that is empty, else the one for runtimes.
pub(super) fn add_config_file(fields: &mut Fields, spec: &Spec) {
    let annotations = spec.annotations().as_ref();
    match annotations.and_then(|all| all.get(CRIU_CONFIG)) {
        Some(path) if path.is_empty() => {}
        Some(path) => drop(fields.text(field::CONFIG_FILE, path)),
        None => drop(fields.text(field::CONFIG_FILE, "/etc/criu/runc.conf")),
    }
}

/// The directory by which the container is frozen.
fn freezer(record: &CgroupRecord) -> Option<String> {
    let v1 = |controllers: &[String]| controllers.iter().any(|name| name == "freezer");
    let places = &record.places;
    let place = places.iter().find(|place| v1(&place.controllers));
    let place = place.or(places.iter().find(|place| place.controllers.is_empty()));
    place.map(|place| place.directory.display().to_string())
}

/// What leads out of the container.
fn external(record: &Record, spec: &Spec, with_mounts: bool) -> Result<External, Error> {
    let mut external = External::default();
    for (kind, word) in [
        (LinuxNamespaceType::Network, "net"),
        (LinuxNamespaceType::Pid, "pid"),
    ] {
        if let Some(path) = joined(spec, kind) {
            let stat = rustix::fs::stat(path)
                .map_err(|errno| Error::system(format!("look at {}", path.display()), errno))?;
            external
                .namespaces
                .push(format!("{word}[{}]:{}", stat.st_ino, namespace_key(word)));
        }
    }
    if !with_mounts {
        return Ok(external);
    }
    for (place, _) in bind_mounts(record, spec) {
        external.mounts.push((place.clone(), place));
    }
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    for path in masked.into_iter().flatten() {
        // Hidden files are the host's null device; hidden directories are file systems of the container's own.
        let inside = format!("/proc/{}/root/{path}", record.pid);
        if rustix::fs::stat(&inside).is_ok_and(|stat| !is_directory(stat.st_mode)) {
            external.mounts.push((path.clone(), NULL.to_owned()));
        }
    }
    Ok(external)
}

/// The name under which hidden files are saved, and what is mounted for it.
pub(super) const NULL: &str = "/dev/null";

fn is_directory(mode: u32) -> bool {
    rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Directory
}

/// The key under which criu knows a namespace that stays: runc's.
pub(super) fn namespace_key(word: &str) -> String {
    match word {
        "net" => "extRootNetNS".to_owned(),
        _ => "extRootPidNS".to_owned(),
    }
}

/// The path by which a namespace was joined.
pub(super) fn joined(spec: &Spec, kind: LinuxNamespaceType) -> Option<&Path> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut namespaces = namespaces.into_iter().flatten();
    let found = namespaces.find(|namespace| namespace.typ() == kind)?;
    let path = found.path().as_deref()?;
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// The mounts of the host's files: their places, with links resolved as the container resolves them, and what is mounted.
pub(super) fn bind_mounts(record: &Record, spec: &Spec) -> Vec<(String, String)> {
    let mut mounts = Vec::new();
    let bundle = &record.bundle;
    for mount in spec.mounts().iter().flatten() {
        let options = mount.options().iter().flatten();
        let mut words = options.map(String::as_str);
        let is_bind = mount.typ().as_deref() == Some("bind")
            || words.any(|word| word == "bind" || word == "rbind");
        if let (true, Some(source)) = (is_bind, mount.source()) {
            let place = place_of(record, mount.destination());
            let source = bundle.join(source);
            mounts.push((place.display().to_string(), source.display().to_string()));
        }
    }
    if joined_or_made(spec, LinuxNamespaceType::Cgroup) {
        return mounts;
    }
    // Without a view of its own, cgroups are directories of the host's.
    let Some(cgroup) = &record.cgroup else {
        return mounts;
    };
    for mount in spec.mounts().iter().flatten() {
        if !matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            continue;
        }
        let top = crate::plan::clean(mount.destination());
        for place in &cgroup.places {
            let inside = match cgroup.places.len() == 1 && place.controllers.is_empty() {
                true => top.clone(),
                false => top.join(crate::init::hierarchy_name(place)),
            };
            let source = place.directory.display().to_string();
            mounts.push((inside.display().to_string(), source));
        }
    }
    mounts
}

/// Where a mount is, with links followed inside the root.
fn place_of(record: &Record, destination: &Path) -> PathBuf {
    let cleaned = crate::plan::clean(destination);
    let resolved = || {
        let root = crate::root_dir::RootDir::new(open_directory(&record.rootfs).ok()?);
        let fd = root.resolve(&cleaned).ok()?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let below = path.strip_prefix(&record.rootfs).ok()?;
        Some(Path::new("/").join(below))
    };
    // Where this process does not see the root, it goes without links.
    resolved().unwrap_or(cleaned)
}

fn joined_or_made(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == kind)
}
