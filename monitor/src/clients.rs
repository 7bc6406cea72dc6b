//! Who speaks with the monitor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_supervise::{Channel, Report};
use rustix::net::SocketFlags;

/// The connections: the starter's, and those that came through the socket.
pub(crate) struct Clients {
    listener: OwnedFd,
    connections: Vec<Connection>,
}

struct Connection {
    channel: Channel,
    is_starter: bool,
    waits: bool,
}

impl Clients {
    pub(crate) fn new(listener: OwnedFd, starter: Channel) -> Self {
        let starter = Connection {
            channel: starter,
            is_starter: true,
            waits: true,
        };
        Self {
            listener,
            connections: vec![starter],
        }
    }

    /// What to wait for: the listener, then each connection in order.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd())
            .chain(self.connections.iter().map(|c| c.channel.as_fd()))
    }

    /// Takes a new connection.
    pub(crate) fn accept(&mut self) {
        if let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
            self.connections.push(Connection {
                channel: Channel::from_descriptor(socket),
                is_starter: false,
                waits: false,
            });
        }
    }

    pub(crate) fn channel(&self, index: usize) -> &Channel {
        &self.connections[index].channel
    }

    /// The place of the starter's connection, while there is one.
    pub(crate) fn starter(&self) -> Option<&Channel> {
        self.connections
            .iter()
            .find(|connection| connection.is_starter)
            .map(|connection| &connection.channel)
    }

    /// This one wants to hear of ends.
    pub(crate) fn let_wait(&mut self, index: usize) {
        self.connections[index].waits = true;
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.connections.remove(index);
    }

    /// Tells all who wait.
    pub(crate) fn tell(&self, report: &Report) {
        for connection in self.connections.iter().filter(|c| c.waits) {
            // Who is gone does not hear it.
            let _ = connection.channel.send(report, &[]);
        }
    }
}
