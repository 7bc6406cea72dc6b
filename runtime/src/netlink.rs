//! The few words of rtnetlink(7) that moving an interface takes.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;

const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_BROADCAST: u16 = 4;
const ADDRESS_FLAGS: u16 = 8;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

/// `IFA_F_PERMANENT`
const PERMANENT: u32 = 0x80;
/// The flags of an address that somebody gave it, and not the kernel: no detection of duplicates, home address, managing
/// temporary ones, no route of the prefix, joining groups.
const GIVEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;

/// A socket of one network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

/// An address of an interface, as it can be given to it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Attributes as they came: kind and bytes.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A message that is being written.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    /// Adds an attribute. One that is too long for its length field would be read as several, so it is refused.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Result<Self> {
        let length = u16::try_from(value.len() + 4).map_err(|_| Errno::INVAL)?;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
        Ok(self)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| Errno::INVAL)?;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        Ok(self.bytes)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

/// The attributes after a message's own header.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (half(bytes, 0), half(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        found.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn link_header(index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    // The flags that are meant.
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn with_end(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

impl Netlink {
    /// A socket of the namespace that the calling process is in.
    pub(crate) fn open() -> Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0.
            None,
        )?;
        Ok(Self { socket })
    }

    /// Sends a message and gives the answers to `each`, until the last.
    fn ask(&self, message: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        rustix::net::send(&self.socket, message, SendFlags::empty())?;
        let is_dump = half(message, 6).unwrap_or(0) & DUMP == DUMP;
        let is_acknowledged = half(message, 6).unwrap_or(0) & ACKNOWLEDGE != 0;
        let mut buffer = vec![0u8; 65536];
        loop {
            let (received, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            let mut rest = &buffer[..received];
            while let (Some(length), Some(kind)) = (number(rest, 0), half(rest, 4)) {
                let length = length as usize;
                let body = rest.get(HEADER..length).ok_or(Errno::PROTO)?;
                match kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let answer = number(body, 0).ok_or(Errno::PROTO)? as i32;
                        return match answer {
                            0 => Ok(()),
                            errno => Err(Errno::from_raw_os_error(-errno)),
                        };
                    }
                    kind => each(kind, body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            if !is_dump && !is_acknowledged {
                return Ok(());
            }
        }
    }

    /// The index of an interface by its name.
    ///
    /// # Errors
    /// `NODEV` when there is none.
    pub(crate) fn index_of(&self, name: &str) -> Result<u32> {
        let request = Request::new(GET_LINK, 0, &link_header(0, 0))
            .attribute(LINK_NAME, &with_end(name))?
            .finish()?;
        let mut index = None;
        self.ask(&request, |kind, body| {
            if kind == NEW_LINK {
                index = number(body, 4);
            }
        })?;
        index.ok_or(Errno::NODEV)
    }

    /// The addresses of an interface that somebody gave it for good, and that are valid everywhere.
    pub(crate) fn lasting_addresses(&self, index: u32) -> Result<Vec<Address>> {
        let request = Request::new(GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER]).finish()?;
        let mut addresses = Vec::new();
        self.ask(&request, |kind, body| {
            if kind == NEW_ADDRESS && number(body, 4) == Some(index) {
                addresses.extend(lasting_address(body));
            }
        })?;
        Ok(addresses)
    }

    /// Moves an interface to another namespace, under another name there.
    pub(crate) fn move_link(
        &self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> Result<()> {
        let request = Request::new(NEW_LINK, ACKNOWLEDGE, &link_header(index, 0))
            .attribute(LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes())?
            .attribute(LINK_NAME, &with_end(name))?
            .finish()?;
        self.ask(&request, |_, _| {})
    }

    /// Gives an interface an address.
    pub(crate) fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut header = [0; ADDRESS_HEADER];
        header[0] = address.family;
        header[1] = address.prefix;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let flags = ACKNOWLEDGE | CREATE | EXCLUSIVE;
        let mut request = Request::new(NEW_ADDRESS, flags, &header);
        for (kind, value) in &address.attributes {
            request = request.attribute(*kind, value)?;
        }
        let given = address.flags & GIVEN;
        let request = request.attribute(ADDRESS_FLAGS, &given.to_ne_bytes())?;
        self.ask(&request.finish()?, |_, _| {})
    }

    /// Brings an interface up.
    pub(crate) fn raise(&self, index: u32) -> Result<()> {
        /// `IFF_UP`
        const UP: u32 = 1;
        let request = Request::new(NEW_LINK, ACKNOWLEDGE, &link_header(index, UP)).finish()?;
        self.ask(&request, |_, _| {})
    }
}

/// An address of a dump, if it is permanent and of global scope.
fn lasting_address(body: &[u8]) -> Option<Address> {
    let (family, prefix, flags, scope) =
        (*body.first()?, *body.get(1)?, *body.get(2)?, *body.get(3)?);
    let all = attributes(body.get(ADDRESS_HEADER..)?);
    // The header's field is too narrow for newer ones.
    let wide = all.iter().find(|(kind, _)| *kind == ADDRESS_FLAGS);
    let flags = wide
        .and_then(|(_, value)| number(value, 0))
        .unwrap_or(u32::from(flags));
    if scope != 0 || flags & PERMANENT == 0 {
        return None;
    }
    let kept = [ADDRESS_ADDRESS, ADDRESS_LOCAL, ADDRESS_BROADCAST];
    Some(Address {
        family,
        prefix,
        flags,
        attributes: all
            .into_iter()
            .filter(|(kind, _)| kept.contains(kind))
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_nothing_else() {
        let netlink = Netlink::open().unwrap();
        let index = netlink.index_of("lo").unwrap();
        assert_eq!(index, 1);
        // What it has is of the host's scope.
        assert_eq!(netlink.lasting_addresses(index).unwrap(), []);
        assert_eq!(netlink.index_of("no-such-link0"), Err(Errno::NODEV));
    }

    #[test]
    fn an_attribute_cannot_be_longer_than_its_length_says() {
        let request = Request::new(NEW_LINK, 0, &link_header(1, 0));
        let whole = request.attribute(LINK_NAME, &[0; 65531]).unwrap();
        assert!(whole.attribute(LINK_NAME, &[0; 65532]).is_err());
    }

    #[test]
    fn broken_attributes_end_the_reading() {
        assert_eq!(attributes(&[5, 0, 1, 0, 7]), [(1, &[7][..])]);
        assert_eq!(attributes(&[9, 0, 1, 0, 7]), []);
        assert_eq!(attributes(&[2, 0, 1, 0, 7]), []);
    }
}
