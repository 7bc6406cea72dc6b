//! Who the process is: session, user, groups, capabilities.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Gid, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::stdio::{Streams, is_null};
use super::{Doing, StepError};
use crate::plan::CapabilityBits;

/// Becomes root of the user namespace that it is in.
pub(super) fn become_root() -> Result<(), StepError> {
    let what = || "become root of the user namespace".to_owned();
    match rustix::thread::set_thread_groups(&[]) {
        // Where the map was written without privileges, groups cannot be changed.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(StepError::system(what(), errno)),
    }
    let explain = |errno, mapped: &str| match errno {
        Errno::INVAL => {
            StepError::system(format!("{} ({mapped} must map its id 0)", what()), errno)
        }
        errno => StepError::system(what(), errno),
    };
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .map_err(|errno| explain(errno, "linux.gidMappings"))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .map_err(|errno| explain(errno, "linux.uidMappings"))
}

/// Why an id cannot be had: in a user namespace there are only those that are mapped.
fn not_mapped(what: String, mapping: &str, errno: Errno) -> StepError {
    match errno {
        Errno::INVAL => StepError::system(
            format!("{what} (the container's user namespace has no such id; map it in {mapping})"),
            errno,
        ),
        errno => StepError::system(what, errno),
    }
}

pub(super) fn new_session() -> Result<(), StepError> {
    rustix::process::setsid()
        .map(drop)
        .doing(|| "begin a session".to_owned())
}

pub(super) fn new_keyring(name: &str, label: Option<&str>) -> Result<(), StepError> {
    let name = CString::new(name).map_err(|_| StepError::other("the id holds a zero byte"))?;
    let label = label.filter(|_| crate::plan::LabelModule::Selinux.is_enabled());
    if let Some(label) = label {
        super::label::of_keyrings(label)?;
    }
    let joined = join_keyring(&name);
    if label.is_some() {
        // Later keys of the container's are its own business.
        super::label::of_keyrings("")?;
    }
    joined
}

fn join_keyring(name: &std::ffi::CStr) -> Result<(), StepError> {
    match dhow_sys::process::new_session_keyring(name) {
        // A kernel without keyrings has none to keep apart.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(StepError::system(
            "make a session keyring (with --no-new-keyring the caller's is kept)",
            errno,
        )),
    }
}

/// Gives up all capabilities of `held` but `keep`, for this process and all that come of it.
pub(super) fn drop_bounding(held: u64, keep: u64) -> Result<(), StepError> {
    for bit in (0..64).map(|number| 1u64 << number) {
        if held & !keep & bit == 0 {
            continue;
        }
        let capability = CapabilitySet::from_bits_retain(bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that the kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(StepError::system("restrict the bounding set", errno)),
        }
    }
    Ok(())
}

/// Becomes the user. Privileges stay in force until the step that sets the final ones.
pub(super) fn set_user(
    uid: u32,
    gid: u32,
    groups: &[u32],
    streams: &Streams,
) -> Result<(), StepError> {
    own_standard_streams(uid, streams);
    if uid != 0 {
        rustix::thread::set_keep_capabilities(true).doing(|| "keep capabilities".to_owned())?;
    }
    let raw: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&raw) {
        Ok(()) => {}
        Err(Errno::PERM) if raw.is_empty() => {}
        Err(errno @ Errno::PERM) => {
            return Err(StepError::system(
                format!(
                    "set groups {groups:?} (without privileges it takes a range of /etc/subgid in linux.gidMappings)"
                ),
                errno,
            ));
        }
        Err(errno) => {
            let what = format!("set groups {groups:?}");
            return Err(not_mapped(what, "linux.gidMappings", errno));
        }
    }
    let id = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(id, id, id)
        .map_err(|errno| not_mapped(format!("set group {gid}"), "linux.gidMappings", errno))?;
    if gid != 0 {
        // The kernel makes who changes a part of its identity as dumpable as fs.suid_dumpable says.
        super::hide();
    }
    let id = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(id, id, id)
        .map_err(|errno| not_mapped(format!("set user {uid}"), "linux.uidMappings", errno))?;
    if uid != 0 {
        super::hide();
        // The change of user took them out of force, not away.
        let what = || "keep capabilities in force".to_owned();
        let mut sets = rustix::thread::capabilities(None).doing(what)?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets).doing(what)?;
    }
    Ok(())
}

/// Gives the pipes or terminal that the process begins with to its user, so that it can open /dev/stdout again. Where
/// that is not allowed it does without.
fn own_standard_streams(uid: u32, streams: &Streams) {
    let descriptors = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for (fd, stat) in descriptors.into_iter().zip(streams) {
        let Some(stat) = stat else {
            continue;
        };
        let is_null = is_null(stat);
        let is_disk = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        if stat.st_uid != uid && !is_null && !is_disk && !is_read_only_file(fd, stat) {
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// Whether a descriptor is of a file (or directory) that cannot be written through it.
fn is_read_only_file(fd: BorrowedFd<'_>, stat: &Stat) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::RegularFile | FileType::Directory)
        && rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY)
}

/// Takes the final sets.
pub(super) fn set_capabilities(bits: &CapabilityBits) -> Result<(), StepError> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(bits.effective),
        permitted: CapabilitySet::from_bits_retain(bits.permitted),
        inheritable: CapabilitySet::from_bits_retain(bits.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).doing(|| {
        "set capabilities (effective ones must be permitted, and permitted ones held)".to_owned()
    })?;
    if crate::procfs::own().ambient != 0 {
        match rustix::thread::clear_ambient_capability_set() {
            // Before Linux 4.3 there is none.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(StepError::system("clear the ambient set", errno)),
        }
    }
    // The kernel takes only what is permitted and inheritable; runc's own template asks for more.
    let ambient = bits.ambient & bits.permitted & bits.inheritable;
    for bit in (0..64).map(|number| 1u64 << number) {
        if ambient & bit != 0 {
            let capability = CapabilitySet::from_bits_retain(bit);
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .doing(|| "set ambient capabilities".to_owned())?;
        }
    }
    Ok(())
}
