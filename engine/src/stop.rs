//! Signals and ends.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dhow_supervise::{Channel, Exit, Report, Request};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{ContainerState, Engine, EngineError, PodSpec};

/// The number of a signal by its name, with or without `SIG`, or by its number; `RTMIN+N` too.
///
/// # Errors
/// When there is none.
pub(crate) fn signal_number(text: &str) -> Result<i32, EngineError> {
    let wrong = || {
        EngineError::Invalid(format!(
            "{text:?} is not a signal; write its name or number as in signal(7), for example TERM"
        ))
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // The C library keeps the first two real-time signals for itself.
    let offset = |rest: &str| match rest {
        "" => Some(0),
        rest => rest.trim_start_matches(['+', '-']).parse::<i32>().ok(),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest)
            .map(|n| 34 + n)
            .filter(|n| *n <= 64)
            .ok_or_else(wrong);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest)
            .map(|n| 64 - n)
            .filter(|n| *n >= 34)
            .ok_or_else(wrong);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| wrong())
}

impl Engine {
    /// Sends a signal (a name or a number) to a container's first process.
    ///
    /// # Errors
    /// When there is no such signal, or the container does not run.
    pub fn kill(&self, spec: &PodSpec, signal: &str) -> Result<(), EngineError> {
        let signal = signal_number(signal)?;
        let monitor = self.connect(spec)?;
        send_signal(&monitor, spec, signal)
    }

    /// Asks a container to end with its stop signal, or with `signal`; kills it when it has not ended after `patience`. Gives how it ended, none
    /// when it did not run.
    ///
    /// # Errors
    /// When its monitor cannot be spoken with.
    pub fn stop(
        &self,
        spec: &PodSpec,
        signal: Option<&str>,
        patience: Duration,
    ) -> Result<Option<Exit>, EngineError> {
        let signal = signal_number(signal.unwrap_or(&spec.first().stop_signal))?;
        let monitor = match self.connect(spec) {
            Err(EngineError::NotRunning(_)) => return Ok(None),
            monitor => monitor?,
        };
        monitor
            .send(&Request::Wait, &[])
            .map_err(EngineError::system("speaking with the monitor"))?;
        if let Err(EngineError::MonitorDied(_)) = send_signal(&monitor, spec, signal) {
            return Ok(None);
        }
        let exit = match await_exit(&monitor, Some(patience))? {
            Some(exit) => Some(exit),
            None => {
                let _ = send_signal(&monitor, spec, 9);
                await_exit(&monitor, None)?
            }
        };
        // It has ended when its monitor has let go of it.
        while monitor.receive::<Report>().is_ok_and(|word| word.is_some()) {}
        Ok(exit)
    }

    /// Waits until a container ends, and gives how. At once when it does not run.
    ///
    /// # Errors
    /// When it was never started, or its monitor dies.
    pub fn wait(&self, spec: &PodSpec) -> Result<Exit, EngineError> {
        if let Ok(monitor) = self.connect(spec) {
            let _ = monitor.send(&Request::Wait, &[]);
            if let Some(exit) = await_exit(&monitor, None)? {
                while monitor.receive::<Report>().is_ok_and(|word| word.is_some()) {}
                return Ok(exit);
            }
        }
        match self.status(spec.clone())?.state() {
            ContainerState::Exited { exit, .. } => Ok(exit),
            ContainerState::Created => Err(EngineError::NotRunning(spec.name.to_string())),
            ContainerState::Running { .. } => Err(EngineError::MonitorDied(spec.name.to_string())),
        }
    }

    /// The monitor of a container that runs.
    pub(crate) fn connect(&self, spec: &PodSpec) -> Result<Channel, EngineError> {
        dhow_supervise::connect(self.files(&spec.id).dir())
            .map_err(EngineError::system("connecting with the monitor"))?
            .ok_or_else(|| EngineError::NotRunning(spec.name.to_string()))
    }
}

fn send_signal(monitor: &Channel, spec: &PodSpec, signal: i32) -> Result<(), EngineError> {
    let died = || EngineError::MonitorDied(spec.name.to_string());
    let request = Request::Signal {
        container: Some(spec.first().id.to_string()),
        signal,
    };
    monitor.send(&request, &[]).map_err(|_| died())?;
    let answer = monitor.receive::<Report>().map_err(|_| died())?;
    match answer.map(|word| word.message) {
        Some(Report::Refused { message }) => Err(EngineError::Invalid(format!(
            "container {} was not sent the signal: {message}",
            spec.name
        ))),
        Some(_) => Ok(()),
        None => Err(died()),
    }
}

/// Waits for the word that a container has ended; none when it does not come in time, or the monitor is gone.
fn await_exit(monitor: &Channel, patience: Option<Duration>) -> Result<Option<Exit>, EngineError> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut polled = [PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(EngineError::system("waiting for the container")(errno)),
        }
        let word = monitor
            .receive::<Report>()
            .map_err(EngineError::system("hearing from the monitor"))?;
        match word.map(|word| word.message) {
            Some(Report::Exited { exit, .. }) => return Ok(Some(exit)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("usr1", 10),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "SIGNOPE", "RTMIN+99"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
