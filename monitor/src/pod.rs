//! The pod: its containers from start to end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use dhow_runtime_client::RuntimeClient;
use dhow_supervise::{
    Channel, ContainerStatus, Exit, Phase, Plan, PodFiles, Report, Request, Status,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clients::Clients;
use crate::container::{Attachment, Container, StartError};
use crate::handle::Handle;

/// How long output is waited for after its container has ended: what is in the pipes is there already, and only a process outside the
/// container can still hold them.
const DRAIN: Duration = Duration::from_millis(200);

/// What is left to do when all has ended.
pub(crate) enum End {
    /// The starter has done it.
    CleanedUp,
    /// The plan's last command.
    ToCleanUp,
}

/// The pod that this process holds.
pub(crate) struct Pod {
    plan: Plan,
    files: PodFiles,
    runtime: RuntimeClient,
    /// What the client starts.
    _program: Handle,
    clients: Clients,
    containers: Vec<Container>,
    status: Status,
    attached: bool,
    cleaned: bool,
    drain_until: Option<Instant>,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Client(usize),
    End(usize),
    Output(usize),
}

impl Pod {
    pub(crate) fn new(plan: Plan, files: PodFiles, starter: Channel) -> anyhow::Result<Self> {
        let listener = dhow_supervise::listen(files.dir())
            .with_context(|| format!("listening in {}", files.dir().display()))?;
        let status = Status {
            monitor: rustix::process::getpid().as_raw_nonzero().get(),
            containers: plan
                .containers
                .iter()
                .map(|container| ContainerStatus {
                    id: container.id.clone(),
                    ..ContainerStatus::default()
                })
                .collect(),
        };
        let program = Handle::new(&plan.runtime);
        Ok(Self {
            runtime: RuntimeClient::new(program.path(), &plan.runtime_root),
            _program: program,
            plan,
            files,
            clients: Clients::new(listener, starter),
            containers: Vec::new(),
            status,
            attached: false,
            cleaned: false,
            drain_until: None,
        })
    }

    /// Starts the containers and stays until all have ended.
    pub(crate) fn run(&mut self, attachment: Attachment) -> anyhow::Result<End> {
        self.attached = attachment.attached;
        // The intent, before anything is started: whoever finds it without a monitor knows what to look for.
        self.record()?;
        match self.start(attachment) {
            Ok(()) => self.watch()?,
            Err(error) => self.give_up(&error)?,
        }
        if !self.plan.at_end.is_empty() {
            self.await_starter();
        }
        Ok(if self.cleaned {
            End::CleanedUp
        } else {
            End::ToCleanUp
        })
    }

    fn record(&self) -> anyhow::Result<()> {
        dhow_supervise::write(&self.files.status(), &self.status)
            .context("recording the pod's status")
    }

    fn start(&mut self, attachment: Attachment) -> Result<(), StartError> {
        let mut attachment = Some(attachment);
        for plan in self.plan.containers.clone() {
            let index = self.containers.len();
            let attachment = attachment.take().unwrap_or_default();
            let container = Container::start(plan, &self.files, &self.runtime, attachment)?;
            self.containers.push(container);
            let container = &self.containers[index];
            let status = &mut self.status.containers[index];
            status.phase = Phase::Running;
            status.pid = Some(container.pid);
            status.started = Some(now());
        }
        self.record()?;
        let first = self.containers.first();
        let report = Report::Started {
            pid: first.map_or(0, |container| container.pid),
        };
        let terminal = first.and_then(|container| container.terminal.as_ref());
        let descriptors: Vec<_> = terminal.iter().map(|fd| fd.as_fd()).collect();
        if let Some(starter) = self.clients.starter() {
            let descriptors = if self.attached { &descriptors[..] } else { &[] };
            let _ = starter.send(&report, descriptors);
        }
        Ok(())
    }

    /// A container could not be started: then there is no pod.
    fn give_up(&mut self, error: &StartError) -> anyhow::Result<()> {
        for container in &self.plan.containers {
            let _ = self.runtime.delete(&container.id, true);
        }
        for status in &mut self.status.containers {
            status.phase = Phase::Exited;
            status.pid = None;
            status.exit = Some(Exit::failed(error.code, &error.message));
        }
        self.record()?;
        self.clients.tell(&Report::Failed {
            code: error.code,
            message: error.message.clone(),
        });
        Ok(())
    }

    /// Waits for whatever happens until all containers have ended and their output is moved.
    fn watch(&mut self) -> anyhow::Result<()> {
        while !self.is_over() {
            for source in self.wait()? {
                match source {
                    Source::Listener => self.clients.accept(),
                    Source::End(index) => self.see_end(index)?,
                    Source::Output(index) => self.containers[index].pump(),
                    Source::Client(index) => self.hear(index),
                }
            }
            let ours: Vec<i32> = self.containers.iter().map(|c| c.pid).collect();
            if self.drain_until.is_none() {
                dhow_supervise::reap_strangers(&ours);
            }
            if self
                .drain_until
                .is_some_and(|until| Instant::now() >= until)
            {
                self.drain_until = None;
                for container in self.containers.iter_mut().filter(|c| c.exit.is_some()) {
                    container.close_output();
                }
            }
        }
        self.clients.tell(&Report::Ended);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.containers.iter().all(|container| container.exit.is_some())
            // The slow reader of the output is waited for, as long as there is one.
            && self.containers.iter().all(Container::is_drained)
    }

    /// What became ready. Clients come last and from the last to the first, so that one may be removed.
    fn wait(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut polled = Vec::new();
        for (index, container) in self.containers.iter().enumerate() {
            if let Some(end) = container.end() {
                sources.push(Source::End(index));
                polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
            }
            for pump in &container.pumps {
                let ready = [
                    (pump.source(), PollFlags::IN),
                    (pump.sink(), PollFlags::OUT),
                ];
                for (descriptor, flags) in ready {
                    if let Some(descriptor) = descriptor {
                        sources.push(Source::Output(index));
                        polled.push(PollFd::from_borrowed_fd(descriptor, flags));
                    }
                }
            }
        }
        for (index, descriptor) in self.clients.descriptors().enumerate() {
            sources.push(match index {
                0 => Source::Listener,
                index => Source::Client(index - 1),
            });
            polled.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        }
        let timeout = self.drain_until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting"),
        }
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let mut sources: Vec<Source> = sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect();
        sources.reverse();
        sources.sort_by_key(|source| matches!(source, Source::Client(_) | Source::Listener));
        Ok(sources)
    }

    /// A container's process has ended: its exit is recorded before anything of it is removed.
    fn see_end(&mut self, index: usize) -> anyhow::Result<()> {
        let container = &mut self.containers[index];
        let Some(code) = dhow_supervise::reap(container.pidfd.as_fd())
            .context("asking for the container's exit status")?
        else {
            return Ok(());
        };
        let mut exit = Exit::now(code);
        // Only what the kernel killed can have been killed for want of memory, be it a child that its parent reports.
        exit.oom_killed = code != 0 && dhow_supervise::oom_kills(&container.plan.cgroup) > 0;
        container.exit = Some(exit.clone());
        container.pump();
        let status = &mut self.status.containers[index];
        status.phase = Phase::Exited;
        status.pid = None;
        status.exit = Some(exit.clone());
        self.record()?;
        let container = &self.containers[index];
        if !container.is_drained() {
            self.drain_until = Some(Instant::now() + DRAIN);
        }
        let id = container.plan.id.clone();
        self.clients.tell(&Report::Exited {
            container: id.clone(),
            exit,
        });
        // What cannot be deleted now is seen by whoever removes the container.
        let _ = self.runtime.delete(&id, true);
        Ok(())
    }

    /// A client said something, or is gone.
    fn hear(&mut self, index: usize) {
        let request = self.clients.channel(index).receive::<Request>();
        let Ok(Some(request)) = request else {
            self.clients.remove(index);
            return;
        };
        let answer = match request.message {
            Request::Signal { container, signal } => self.signal(container.as_deref(), signal),
            Request::Wait => {
                self.clients.let_wait(index);
                return;
            }
            Request::Cleaned => {
                self.cleaned = true;
                return;
            }
            Request::Begin { .. } => Report::Refused {
                message: "the pod has begun already".into(),
            },
        };
        let _ = self.clients.channel(index).send(&answer, &[]);
    }

    fn signal(&self, container: Option<&str>, signal: i32) -> Report {
        let refused = |message: &str| Report::Refused {
            message: message.into(),
        };
        let wanted = self
            .containers
            .iter()
            .find(|candidate| container.is_none_or(|id| candidate.plan.id == id));
        let Some(wanted) = wanted else {
            return refused("the pod has no such container");
        };
        if wanted.exit.is_some() {
            return refused("it has ended");
        }
        match dhow_sys::signal::send(wanted.pidfd.as_fd(), signal) {
            Ok(()) => Report::Done,
            Err(error) => refused(&error.to_string()),
        }
    }

    /// Where there is something to clean up, a starter that is attached does it itself, unless it dies before it has.
    fn await_starter(&mut self) {
        while self.attached && !self.cleaned {
            let Some(starter) = self.clients.starter() else {
                return;
            };
            match starter.receive::<Request>() {
                Ok(Some(request)) if request.message == Request::Cleaned => self.cleaned = true,
                Ok(Some(_)) => {
                    let _ = starter.send(&Report::Done, &[]);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn now() -> String {
    Exit::now(0).finished
}
