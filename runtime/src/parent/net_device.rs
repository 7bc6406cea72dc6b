//! Interfaces of the host's that a container gets.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use dhow_sys::namespace;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::netlink::Netlink;

/// Moves the interface `from` into the network namespace at a path, or of process `pid`, names it `to` there, gives it its
/// lasting addresses again and brings it up.
pub(super) fn hand_over(
    from: &str,
    to: &str,
    namespace: Option<&Path>,
    pid: i32,
) -> Result<(), Error> {
    let error = |doing: &str| {
        let doing = format!("move the interface {from} into the container: {doing}");
        move |errno| Error::system(doing.clone(), errno)
    };
    let host = Netlink::open().map_err(error("open a netlink socket"))?;
    let index = host.index_of(from).map_err(error("find it"))?;
    let addresses = host
        .lasting_addresses(index)
        .map_err(error("read its addresses"))?;
    let path = namespace.map_or_else(
        || PathBuf::from(format!("/proc/{pid}/ns/net")),
        Path::to_owned,
    );
    let target = open(&path).map_err(error("open the network namespace"))?;
    let inside = within(&target).map_err(error("enter the network namespace"))??;
    let to = free_name(&inside, to)?;
    host.move_link(index, target.as_fd(), &to)
        .map_err(error("move it"))?;
    // It may have another number there.
    let index = inside
        .index_of(&to)
        .map_err(error("find it in the container"))?;
    for address in &addresses {
        inside
            .add_address(index, address)
            .map_err(error("give it its address again"))?;
    }
    inside.raise(index).map_err(error("bring it up"))
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// A socket of another namespace. The outer result is of going there, the inner one of coming back.
fn within(target: &OwnedFd) -> rustix::io::Result<Result<Netlink, Error>> {
    let own = open(Path::new("/proc/self/ns/net"))?;
    namespace::enter(target.as_fd(), namespace::NETWORK)?;
    let netlink = Netlink::open();
    // Whoever goes on in the wrong one would do the host's work there.
    if let Err(errno) = namespace::enter(own.as_fd(), namespace::NETWORK) {
        return Ok(Err(Error::system("leave the network namespace", errno)));
    }
    netlink.map(Ok)
}

/// A name that nothing has yet: the one that is asked for, or the first of those that a template (`eth%d`) stands for.
fn free_name(inside: &Netlink, wanted: &str) -> Result<String, Error> {
    let is_free = |name: &str| match inside.index_of(name) {
        Err(Errno::NODEV) => Ok(true),
        Ok(_) => Ok(false),
        Err(errno) => Err(Error::system(
            format!("look for the interface {name}"),
            errno,
        )),
    };
    let Some((before, after)) = wanted.split_once("%d") else {
        if is_free(wanted)? {
            return Ok(wanted.to_owned());
        }
        return Err(Error::Asked(format!(
            "linux.netDevices: the container has an interface {wanted:?} already; choose another name, or one with %d in it"
        )));
    };
    for number in 0..u16::MAX {
        let name = format!("{before}{number}{after}");
        if name.len() >= 16 {
            break;
        }
        if is_free(&name)? {
            return Ok(name);
        }
    }
    Err(Error::Asked(format!(
        "linux.netDevices: no name of {wanted:?} is free in the container"
    )))
}
