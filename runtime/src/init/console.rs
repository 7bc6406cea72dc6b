//! The container's terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::tree::Tree;
use super::{Doing, Init, StepError};
use crate::channel::{Message, send_descriptor};
use crate::root_dir::TargetKind;

/// Both ends.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Both.
    pub(super) fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.master.as_fd(), self.slave.as_fd()]
    }
}

impl Init {
    /// Makes a terminal in the container's own devpts, verified to be one: a file of the image's in its place would
    /// make the host read and write what it must not.
    pub(super) fn open_terminal(&mut self, height: u16, width: u16) -> Result<(), StepError> {
        /// `DEVPTS_SUPER_MAGIC`
        const DEVPTS: i64 = 0x1cd1;
        let what = || "make a terminal in the container's /dev/pts".to_owned();
        let master = rustix::fs::openat2(
            self.root()?.fd(),
            "dev/pts/ptmx",
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        )
        .doing(what)?;
        if rustix::fs::fstatfs(&master).doing(what)?.f_type as i64 != DEVPTS {
            return Err(StepError::other(format!(
                "{}: it is not a devpts; mount one there (type devpts, option newinstance)",
                what()
            )));
        }
        rustix::pty::unlockpt(&master).doing(what)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .doing(what)?;
        if (height, width) != (0, 0) {
            let size = Winsize {
                ws_row: height,
                ws_col: width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&slave, size).doing(what)?;
        }
        self.terminal = Some(Terminal { master, slave });
        Ok(())
    }

    fn terminal(&self) -> Result<&Terminal, StepError> {
        self.terminal
            .as_ref()
            .ok_or_else(|| StepError::other("there is no terminal"))
    }

    /// Puts the terminal at /dev/console, from descriptor to descriptor.
    pub(super) fn mount_console(&mut self) -> Result<(), StepError> {
        let what = || "put the terminal at /dev/console".to_owned();
        let target = self
            .root()?
            .resolve_or_make(Path::new("/dev/console"), TargetKind::File)
            .doing(what)?;
        let tree = Tree::of(&self.terminal()?.slave, false).doing(what)?;
        let root = self.root()?;
        tree.attach(&target, || root.resolve(Path::new("/dev/console")))
            .map(drop)
            .doing(what)
    }

    /// Sends the master end to whoever holds the terminal.
    pub(super) fn send_console(&mut self) -> Result<(), StepError> {
        let what = || "send the terminal's master end".to_owned();
        let socket = self.resources.console_socket.take();
        let terminal = self.terminal()?;
        let Some(socket) = socket else {
            let master = terminal
                .master
                .try_clone()
                .map_err(|error| StepError::other(format!("{}: {error}", what())))?;
            return self.channel()?.send(&Message::Console(master)).doing(what);
        };
        // The text is the name that receivers of runc's know.
        send_descriptor(&socket, b"/dev/ptmx", terminal.master.as_fd()).doing(what)
    }

    /// Makes it the controlling terminal of this session, and standard input, output and error.
    pub(super) fn attach_terminal(&mut self) -> Result<(), StepError> {
        let what = || "attach the terminal".to_owned();
        let slave = &self.terminal()?.slave;
        rustix::process::ioctl_tiocsctty(slave).doing(what)?;
        rustix::stdio::dup2_stdin(slave).doing(what)?;
        rustix::stdio::dup2_stdout(slave).doing(what)?;
        rustix::stdio::dup2_stderr(slave).doing(what)?;
        self.terminal = None;
        Ok(())
    }
}
