//! A FUSE mount whose server can stop answering, in a mount namespace of the calling thread's own.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// The mount. When it goes, whoever waits for an answer gets an error.
pub struct DeadMount {
    path: PathBuf,
    dead: Arc<AtomicBool>,
    end: Arc<std::os::fd::OwnedFd>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl DeadMount {
    /// Mounts it at a directory that is made, and answers for an empty directory.
    ///
    /// Only this thread, and what it starts from now on, sees it: nobody else is to fall into it.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn new(path: PathBuf) -> Self {
        fs_err::create_dir_all(&path).expect("a directory");
        dhow_sys::namespace::unshare(dhow_sys::namespace::MOUNT).expect("a mount namespace");
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).expect("private mounts");
        let device = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("FUSE")
            .into_file();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).expect("no zero byte");
        rustix::mount::mount("dead", &path, "fuse", MountFlags::empty(), &*options)
            .expect("a FUSE mount");
        let dead = Arc::new(AtomicBool::new(false));
        let end = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        let end = Arc::new(end);
        let server = std::thread::spawn({
            let (dead, end) = (Arc::clone(&dead), Arc::clone(&end));
            move || serve(device, &dead, &end)
        });
        Self {
            path,
            dead,
            end,
            server: Some(server),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From here on it takes what it is asked and does not answer: who asks can not even be killed.
    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// Ends the server: the kernel answers in its place, with errors.
    pub fn end(&mut self) {
        // Not more than once is there anybody to be told.
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        self.end();
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// Takes requests until it is told to end (fuse(4), linux/fuse.h).
fn serve(mut device: std::fs::File, dead: &AtomicBool, end: &std::os::fd::OwnedFd) {
    let mut request = vec![0; 1 << 18];
    loop {
        let mut fds = [
            PollFd::new(&device, PollFlags::IN),
            PollFd::new(end, PollFlags::IN),
        ];
        let _ = rustix::event::poll(&mut fds, None);
        if !fds[1].revents().is_empty() {
            return;
        }
        let Ok(length) = device.read(&mut request) else {
            continue;
        };
        if length < 40 || dead.load(Ordering::SeqCst) {
            continue;
        }
        if let Some((error, body)) = answer(&request[..length]) {
            let mut out = Vec::with_capacity(16 + body.len());
            out.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
            out.extend_from_slice(&(-error).to_ne_bytes());
            out.extend_from_slice(&request[8..16]);
            out.extend_from_slice(&body);
            // The one who asked may be gone.
            let _ = device.write_all(&out);
        }
    }
}

/// The error and the body of an answer; none to what takes none.
fn answer(request: &[u8]) -> Option<(i32, Vec<u8>)> {
    const GETATTR: u32 = 3;
    const FORGET: u32 = 2;
    const INIT: u32 = 26;
    const OPENDIR: u32 = 27;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    const NOSYS: i32 = 38;
    let word = |at: usize| {
        u32::from_ne_bytes([
            request[at],
            request[at + 1],
            request[at + 2],
            request[at + 3],
        ])
    };
    match word(4) {
        FORGET | INTERRUPT | BATCH_FORGET => None,
        INIT => {
            // Version 7.31, and nothing asked for but writes of one page.
            let mut body = vec![0; 64];
            body[..4].copy_from_slice(&7u32.to_ne_bytes());
            body[4..8].copy_from_slice(&31u32.to_ne_bytes());
            body[20..24].copy_from_slice(&4096u32.to_ne_bytes());
            Some((0, body))
        }
        GETATTR => {
            // To be asked for each time; of the attributes, the number, and what it is.
            let mut body = vec![0; 104];
            body[16..24].copy_from_slice(&1u64.to_ne_bytes());
            body[76..80].copy_from_slice(&0o040_755u32.to_ne_bytes());
            body[80..84].copy_from_slice(&2u32.to_ne_bytes());
            Some((0, body))
        }
        OPENDIR => Some((0, vec![0; 16])),
        _ => Some((NOSYS, Vec::new())),
    }
}
