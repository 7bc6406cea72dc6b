//! A program killed at a chosen system call of its own or of one of its processes. The program knows nothing of it: its tree
//! is followed by ptrace, and whoever is to die dies where the call would begin, so that between any two calls it can be
//! seen what is left.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a program may take before it is said to hang.
const LIMIT: Duration = Duration::from_secs(120);

/// Where somebody is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillPoint {
    /// Whose call it is: 0 is the program, then its processes in the order of their making.
    pub who: usize,
    /// Which call, from 0.
    pub at: usize,
    /// Whether the whole tree dies with it, as when a machine runs out of memory.
    pub all: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Traced {
    /// How many calls each process began, the program first.
    pub calls: Vec<usize>,
    /// The program's exit status; -N for an end by signal N.
    pub status: i32,
    /// Whether the point was come to.
    pub killed: bool,
    /// Everybody who was there.
    pub processes: Vec<i32>,
}

struct Process {
    number: usize,
    calls: usize,
    gone: bool,
}

struct Tree {
    main: Pid,
    point: Option<KillPoint>,
    processes: HashMap<Pid, Process>,
    /// Calls count from when the program has taken the shell's place.
    begun: bool,
    killed: bool,
    status: Option<i32>,
}

/// Runs a program to its end, or to where somebody is killed and the program ends of it. Whoever is left then goes on freely.
///
/// # Panics
/// When it cannot be followed, or hangs.
pub fn run_to(command: &Command, point: Option<KillPoint>) -> Traced {
    let (mut child, hold) = start_held(command);
    let main = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(main, options).expect("follow the program");
    ptrace::interrupt(main).expect("stop the program");
    drop(hold);
    let mut tree = Tree {
        main,
        point,
        processes: HashMap::new(),
        begun: false,
        killed: false,
        status: None,
    };
    tree.know(main);
    let (ended, watch) = mpsc::channel::<()>();
    let hung = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let hung = watch.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if hung {
                let _ = kill(main, Signal::SIGKILL);
            }
            hung
        });
        tree.follow();
        drop(ended);
        watch.join().expect("the watch")
    });
    tree.let_go();
    assert!(!hung, "it hangs at {point:?}");
    // It was waited for above, so this only tidies up.
    let _ = child.try_wait();
    let mut numbered: Vec<_> = tree.processes.iter().collect();
    numbered.sort_by_key(|(_, process)| process.number);
    Traced {
        calls: numbered.iter().map(|(_, process)| process.calls).collect(),
        status: tree.status.unwrap_or(255),
        killed: tree.killed,
        processes: numbered.iter().map(|(pid, _)| pid.as_raw()).collect(),
    }
}

/// The program behind a shell that waits for its standard input to end.
fn start_held(command: &Command) -> (Child, std::process::ChildStdin) {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "read hold; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    let mut child = shell.spawn().expect("start the program");
    let hold = child.stdin.take().expect("its standard input");
    (child, hold)
}

impl Tree {
    fn know(&mut self, pid: Pid) -> &mut Process {
        let number = self.processes.len();
        self.processes.entry(pid).or_insert(Process {
            number,
            calls: 0,
            gone: false,
        })
    }

    /// The process that an event tells of.
    fn know_new(&mut self, pid: Pid, event: i32) {
        let tells = matches!(
            event,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE
        );
        if let Ok(new) = ptrace::getevent(pid)
            && tells
        {
            self.know(Pid::from_raw(new as i32));
        }
    }

    /// Until the program has ended, or somebody else has died and it has taken notice.
    fn follow(&mut self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while self.status.is_none() {
            match waitpid(None, Some(flags)) {
                Ok(status) => self.take(status),
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("wait: {errno}"),
            }
        }
    }

    fn take(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                if self.call(pid) {
                    return;
                }
                self.go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                self.know(pid);
                self.know_new(pid, event);
                self.begun |= event == libc::PTRACE_EVENT_EXEC;
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                self.know(pid);
                self.go_on(pid, Some(signal));
            }
            WaitStatus::Exited(pid, code) => self.ended(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.ended(pid, -(signal as i32)),
            _ => {}
        }
    }

    fn ended(&mut self, pid: Pid, status: i32) {
        self.know(pid).gone = true;
        if pid == self.main {
            self.status = Some(status);
        }
    }

    /// A call begins or ends; whether it is the one.
    fn call(&mut self, pid: Pid) -> bool {
        let begins =
            ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
        if !begins || !self.begun {
            return false;
        }
        let process = self.know(pid);
        let (who, at) = (process.number, process.calls);
        process.calls += 1;
        let Some(point) = self.point else {
            return false;
        };
        if (point.who, point.at) != (who, at) {
            return false;
        }
        self.killed = true;
        let dying: Vec<Pid> = match point.all {
            true => self.processes.keys().copied().collect(),
            false => vec![pid],
        };
        for pid in dying {
            // It may have ended.
            let _ = kill(pid, Signal::SIGKILL);
        }
        true
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        // It may have been killed meanwhile, which is told next.
        let _ = ptrace::syscall(pid, signal);
    }

    /// Everybody who is left goes on without being followed. Each in the order in which it stops: who waits for a child to
    /// begin (vfork) stops only when that one has been let go.
    fn let_go(&mut self) {
        for (pid, process) in &self.processes {
            if !process.gone {
                let _ = ptrace::interrupt(*pid);
            }
        }
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while self.processes.values().any(|process| !process.gone) {
            let (pid, signal) = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Stopped(pid, signal)) => (pid, Some(signal)),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    self.know_new(pid, event);
                    (pid, None)
                }
                Ok(status) => match status.pid() {
                    Some(pid) => (pid, None),
                    None => continue,
                },
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            // One that has ended needs no letting go.
            let _ = ptrace::detach(pid, signal);
            self.know(pid).gone = true;
        }
    }
}

/// Takes notice of children of this thread's that have ended.
pub fn reap() {
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    while let Ok(status) = waitpid(None, Some(flags)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
