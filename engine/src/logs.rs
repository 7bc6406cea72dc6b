//! What a container wrote.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind as Io, Seek};
use std::os::fd::AsFd;

use dhow_supervise::{Channel, LogLine, Request};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use crate::{Engine, EngineError, PodSpec};

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Only so many of the last entries.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Also what is written from now on, until the container ends.
    pub follow: bool,
}

impl Engine {
    /// Gives the entries of a container's log, in the order in which they were written; `show` ends it early by giving false.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn logs(
        &self,
        spec: &PodSpec,
        options: &LogOptions,
        mut show: impl FnMut(&LogLine) -> bool,
    ) -> Result<(), EngineError> {
        let watch = if options.follow {
            self.watch(spec)?
        } else {
            None
        };
        let mut reader = Reader::new(self, spec);
        let mut last: VecDeque<LogLine> = VecDeque::new();
        while let Some(line) = reader.next()? {
            if options.since.is_some_and(|since| is_older(&line, since)) {
                continue;
            }
            match options.tail {
                None => {
                    if !show(&line) {
                        return Ok(());
                    }
                }
                Some(tail) => {
                    last.push_back(line);
                    if last.len() > tail {
                        last.pop_front();
                    }
                }
            }
        }
        if !last.iter().all(&mut show) {
            return Ok(());
        }
        let Some(watch) = watch else { return Ok(()) };
        loop {
            // What was there before the look is shown also when the look says that all is over.
            let goes_on = watch.wait()?;
            while let Some(line) = reader.next()? {
                if !show(&line) {
                    return Ok(());
                }
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// What tells of new entries, for a container that runs.
    fn watch(&self, spec: &PodSpec) -> Result<Option<Watch>, EngineError> {
        let monitor = match self.connect(spec) {
            Err(EngineError::NotRunning(_)) => return Ok(None),
            monitor => monitor?,
        };
        let failed = || EngineError::system("watching the log");
        monitor.send(&Request::Wait, &[]).map_err(failed())?;
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(failed())?;
        // The directory and not the file, which is made with the first entry.
        inotify::add_watch(
            &inotify,
            self.records.dir(&spec.id),
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE,
        )
        .map_err(failed())?;
        Ok(Some(Watch { monitor, inotify }))
    }
}

fn is_older(line: &LogLine, than: Timestamp) -> bool {
    line.time.parse::<Timestamp>().is_ok_and(|time| time < than)
}

/// A running container's log.
struct Watch {
    monitor: Channel,
    inotify: std::os::fd::OwnedFd,
}

impl Watch {
    /// Waits until something was written; false when nothing will be any more.
    fn wait(&self) -> Result<bool, EngineError> {
        let mut polled = [
            PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(EngineError::system("waiting for the log")(errno)),
        }
        if !polled[0].revents().is_empty() {
            let mut buffer = [0; 4096];
            while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|count| count > 0) {}
        }
        if polled[1].revents().is_empty() {
            return Ok(true);
        }
        let word = self.monitor.receive::<dhow_supervise::Report>();
        Ok(!matches!(
            word.map(|word| word.map(|word| word.message)),
            Ok(None | Some(dhow_supervise::Report::Ended)) | Err(_)
        ))
    }
}

/// Reads entries as far as there are whole ones.
struct Reader {
    path: std::path::PathBuf,
    file: Option<BufReader<fs_err::File>>,
    partial: Vec<u8>,
}

impl Reader {
    fn new(engine: &Engine, spec: &PodSpec) -> Self {
        Self {
            path: engine.log(&spec.id),
            file: None,
            partial: Vec::new(),
        }
    }

    fn next(&mut self) -> Result<Option<LogLine>, EngineError> {
        if self.file.is_none() {
            match fs_err::File::open(&self.path) {
                Ok(file) => self.file = Some(BufReader::new(file)),
                Err(error) if error.kind() == Io::NotFound => return Ok(None),
                Err(error) => return Err(EngineError::File(error)),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        loop {
            file.read_until(b'\n', &mut self.partial)
                .map_err(EngineError::File)?;
            if self.partial.last() != Some(&b'\n') {
                if !was_truncated(file)? {
                    return Ok(None);
                }
                file.rewind().map_err(EngineError::File)?;
                self.partial.clear();
                continue;
            }
            let line = serde_json::from_slice(&self.partial);
            self.partial.clear();
            // A line that a crash cut off is followed by whole ones.
            if let Ok(line) = line {
                return Ok(Some(line));
            }
        }
    }
}

/// Whether somebody has cut the log, which is written at its end, to less than was read.
fn was_truncated(file: &mut BufReader<fs_err::File>) -> Result<bool, EngineError> {
    let read = file.stream_position().map_err(EngineError::File)?;
    let length = file.get_ref().metadata().map_err(EngineError::File)?.len();
    Ok(length < read)
}
