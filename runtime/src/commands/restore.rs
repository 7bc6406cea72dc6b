//! `restore`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use super::Runtime;
use super::checkpoint::{NULL, add_config_file, bind_mounts, joined, namespace_key};
use super::create::{
    CreateOptions, Outcome, check_terminal, connect, finish, give_up, prepare, request,
};
use crate::cgroup::Driver;
use crate::channel::{Channel, Message, send_descriptor};
use crate::container::{ContainerDir, Record};
use crate::criu::{
    Answer, CriuOptions, External, Images, Kind, Place, Worker, field, request as criu_request,
};
use crate::error::Error;
use crate::foreground::Foreground;
use crate::init::{Init, Resources};
use crate::parent::{Made, Parent};
use crate::plan::{Carrier, HookKind, InitPlan, MountSource, Step, bounding_set};
use crate::spec::Bundle;

const LOG: &str = "restore.log";

/// What is asked of a container that is to go on.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// How criu is to make it again.
    pub criu: CriuOptions,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The socket that gets its terminal.
    pub console_socket: Option<PathBuf>,
    /// Where to write init's id.
    pub pid_file: Option<PathBuf>,
    /// Do not wait for its end.
    pub detach: bool,
    /// Who makes its cgroup.
    pub driver: Driver,
}

/// Makes a container again from what `checkpoint` saved; in the foreground waits for its end and removes it.
///
/// # Errors
/// What failed; nothing is left then.
pub fn restore(runtime: &Runtime, id: &str, options: &RestoreOptions) -> Result<Outcome, Error> {
    crate::container::check_id(id)?;
    let bundle = Bundle::load(&options.bundle)?;
    let wanted = CreateOptions {
        bundle: options.bundle.clone(),
        console_socket: options.console_socket.clone(),
        detach: options.detach,
        driver: options.driver,
        ..CreateOptions::default()
    };
    check_terminal(&bundle, &wanted, options.detach)?;
    options.criu.cgroups_mode()?;
    let mut images = Images::open(&options.criu, LOG, false)?;
    let plan = InitPlan::create(&bundle, &request(id, &wanted, true))?.within(bounding_set());
    let dir = ContainerDir::create(&runtime.root, id)?;
    let mut parent = prepare(&bundle, &plan, dir, options.detach);
    let foreground = match options.detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let done = make_again(&mut parent, &bundle, &mut images, options);
    if let Err(error) = done {
        give_up(parent, &bundle.spec);
        return Err(error);
    }
    finish(foreground, parent, &wanted, &bundle)
}

fn make_again(
    parent: &mut Parent<'_>,
    bundle: &Bundle,
    images: &mut Images,
    options: &RestoreOptions,
) -> Result<(), Error> {
    let console = match &options.console_socket {
        Some(path) => Some(connect("console socket", path)?),
        None => None,
    };
    parent.write_configuration(&bundle.text)?;
    parent.run_until_clone()?;
    make_mount_points(parent.plan)?;
    ask_criu(parent, bundle, images, options, console)?;
    if let Some(path) = &options.pid_file {
        parent.write_pid_file(path)?;
    }
    Ok(())
}

/// Makes the places of the mounts where the root file system lacks them, as a new container's init does: by mounting all
/// in a mount namespace that ends with the process that does it. criu expects them to be there.
fn make_mount_points(plan: &InitPlan) -> Result<(), Error> {
    let error = |errno| Error::system("make the places of the mounts", errno);
    let (ours, theirs) = Channel::pair().map_err(error)?;
    let options = CloneOptions {
        namespaces: dhow_sys::namespace::MOUNT,
        ..CloneOptions::default()
    };
    match clone_process(&options).map_err(error)? {
        Cloned::Child => {
            let mut init = Init::new(Resources {
                channel: Some(theirs),
                ..Resources::default()
            });
            let failed = plan.of(Carrier::Init).filter(|step| makes_place(step));
            for step in failed {
                if let Err(error) = init.step(step) {
                    init.tell(&Message::Failed(error.in_step(step)));
                    break;
                }
            }
            dhow_sys::exec::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let told = ours.receive().map_err(error)?;
            let id = WaitId::PidFd(pidfd.as_fd());
            let _ = rustix::process::waitid(id, WaitIdOptions::EXITED);
            match told {
                Some(Message::Failed(error)) => Err(error.into()),
                _ => Ok(()),
            }
        }
    }
}

/// Cgroups are mounted where another mount of the container's has a place for them, or in a file system of criu's.
fn makes_place(step: &Step) -> bool {
    match step {
        Step::IsolateMounts { .. } | Step::BindRoot { .. } => true,
        Step::Mount { source, .. } => !matches!(source, MountSource::Cgroup { .. }),
        _ => false,
    }
}

fn ask_criu(
    parent: &mut Parent<'_>,
    bundle: &Bundle,
    images: &mut Images,
    options: &RestoreOptions,
    console: Option<OwnedFd>,
) -> Result<(), Error> {
    let (external, opened) = external(&parent.record, bundle, images)?;
    let joiner = match &parent.cgroup {
        Some(cgroup) => Some(cgroup.join()?),
        None => None,
    };
    let root = parent.make_directory("criu-root")?;
    let inherited: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
    let program = &options.criu.program;
    let place = Place {
        rootfs: &bundle.rootfs,
        root: &root,
    };
    let worker = Worker::start(program, joiner.as_ref(), &inherited, Some(&place))?;
    images.see_as(worker.pid)?;
    let (directory, work) = images.numbers();
    let mut fields = options.criu.fields(LOG, directory, work)?;
    options.criu.add_restore(&mut fields);
    fields.text(field::ROOT, &root.to_string_lossy());
    add_config_file(&mut fields, &bundle.spec);
    let external = External {
        cgroups: cgroups_of(worker.pid)?,
        ..external
    };
    external.add(&mut fields);
    let asked = criu_request(Kind::Restore, 2, &fields);
    let done = worker.ask(&asked, Kind::Restore, |question| {
        answer_question(parent, question, console.as_ref())
    });
    // An empty directory, whose mount ended with the worker.
    let _ = std::fs::remove_dir(&root);
    done.map(drop).map_err(|error| images.explain(error))
}

/// What is to be done in the middle of criu's work.
fn answer_question(
    parent: &mut Parent<'_>,
    question: &mut Answer,
    console: Option<&OwnedFd>,
) -> Result<(), Error> {
    match &*question.script {
        "setup-namespaces" => {
            parent.record.pid = question.pid;
            parent.run_hooks(HookKind::Prestart)?;
            parent.run_hooks(HookKind::CreateRuntime)
        }
        "post-restore" => {
            let error = |errno| Error::system("open the restored process", errno);
            let pid = Pid::from_raw(question.pid).ok_or(error(rustix::io::Errno::SRCH))?;
            // It is this process's child, so nobody else can have its number.
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(error)?;
            parent.remember(Made {
                pid: question.pid,
                pidfd,
            });
            // Before it goes on, so that it is never without a record.
            parent.write_record()
        }
        "orphan-pts-master" => match (question.passed.take(), console) {
            (Some(master), Some(socket)) => send_descriptor(socket, b"/dev/ptmx", master.as_fd())
                .map_err(|errno| Error::system("send the terminal's master end", errno)),
            (Some(master), None) => {
                parent.take_console(master);
                Ok(())
            }
            (None, _) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What leads out of the container, with what had to be opened for it.
fn external(
    record: &Record,
    bundle: &Bundle,
    images: &Images,
) -> Result<(External, Vec<OwnedFd>), Error> {
    let mut external = External {
        mounts: bind_mounts(record, &bundle.spec),
        descriptors: images.read_pipes()?,
        ..External::default()
    };
    let mut opened = Vec::new();
    let masked = bundle
        .linux()
        .and_then(|linux| linux.masked_paths().as_ref());
    if masked.is_some_and(|paths| !paths.is_empty()) {
        external.mounts.push((NULL.to_owned(), NULL.to_owned()));
    }
    for (kind, word) in [
        (LinuxNamespaceType::Network, "net"),
        (LinuxNamespaceType::Pid, "pid"),
    ] {
        if let Some(path) = joined(&bundle.spec, kind) {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|errno| {
                let what = format!("open the {word} namespace {}", path.display());
                Error::system(what, errno)
            })?;
            let key = namespace_key(word);
            external.descriptors.push((key, fd.as_raw_fd()));
            opened.push(fd);
        }
    }
    for (kind, word) in [
        (LinuxNamespaceType::Ipc, "ipc"),
        (LinuxNamespaceType::Uts, "uts"),
        (LinuxNamespaceType::Mount, "mnt"),
        (LinuxNamespaceType::User, "user"),
    ] {
        if let Some(path) = joined(&bundle.spec, kind) {
            external.joined.push((word, path.display().to_string()));
        }
    }
    if let Some(path) = joined(&bundle.spec, LinuxNamespaceType::Cgroup) {
        return Err(Error::Asked(format!(
            "criu cannot restore into the cgroup namespace {}; leave its path out of config.json",
            path.display()
        )));
    }
    Ok((external, opened))
}

/// A process's cgroups, by controller: where criu is to put what was in the container's own.
fn cgroups_of(pid: i32) -> Result<Vec<(String, String)>, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    let mut cgroups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            for controller in controllers.split(',') {
                cgroups.push((controller.to_owned(), path.to_owned()));
            }
        }
    }
    Ok(cgroups)
}
