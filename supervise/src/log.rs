//! Log files in Docker's json-file format: one JSON object a line, with what was written, by which stream, and when.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A line longer than this is kept in several entries, of which only the last ends with a newline.
const LONGEST_ENTRY: usize = 16 << 10;

/// Which stream something was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard output; a terminal's output too.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// What was written, with its newline where there was one. Bytes that are no UTF-8 are replaced.
    pub log: String,
    /// By which stream.
    pub stream: StreamName,
    /// When, RFC 3339.
    pub time: String,
}

/// Writes a container's log. The file is made when there is something to write.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: Option<fs_err::File>,
    partial: [Vec<u8>; 2],
}

impl LogWriter {
    /// A writer that adds to the log at `path`.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// Adds what a stream wrote. The last line waits for its end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, stream: StreamName, bytes: &[u8]) -> io::Result<()> {
        let mut entries = Vec::new();
        let partial = &mut self.partial[stream as usize];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            while partial.len() > LONGEST_ENTRY {
                let rest = partial.split_off(end_of_a_character(partial, LONGEST_ENTRY));
                entry(&mut entries, stream, partial)?;
                *partial = rest;
            }
            if partial.last() == Some(&b'\n') {
                entry(&mut entries, stream, partial)?;
                partial.clear();
            }
        }
        self.append(&entries)
    }

    /// Adds the last line of a stream that has ended without a newline.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end(&mut self, stream: StreamName) -> io::Result<()> {
        let partial = std::mem::take(&mut self.partial[stream as usize]);
        if partial.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        entry(&mut entries, stream, &partial)?;
        self.append(&entries)
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            let opened = fs_err::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&self.path)?;
            self.file = Some(opened);
        }
        match &mut self.file {
            Some(file) => file.write_all(entries),
            None => Ok(()),
        }
    }
}

/// The last place up to `at` that is not within a character of UTF-8, where there is one.
fn end_of_a_character(bytes: &[u8], at: usize) -> usize {
    let continues = |place: usize| bytes[place] & 0xc0 == 0x80;
    (at - 3..=at)
        .rev()
        .find(|place| !continues(*place))
        .unwrap_or(at)
}

fn entry(entries: &mut Vec<u8>, stream: StreamName, bytes: &[u8]) -> io::Result<()> {
    let line = LogLine {
        log: String::from_utf8_lossy(bytes).into_owned(),
        stream,
        time: Timestamp::now().to_string(),
    };
    serde_json::to_writer(&mut *entries, &line)?;
    entries.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(act: impl FnOnce(&mut LogWriter)) -> Vec<LogLine> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dhow-log-{}-{number}", std::process::id()));
        act(&mut LogWriter::new(&path));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_put_together_and_streams_kept_apart() {
        let lines = logged(|log| {
            log.add(StreamName::Stdout, b"on").unwrap();
            log.add(StreamName::Stderr, b"err\n").unwrap();
            log.add(StreamName::Stdout, b"e\ntwo\nthr").unwrap();
            log.end(StreamName::Stdout).unwrap();
            log.end(StreamName::Stderr).unwrap();
        });
        let texts: Vec<&str> = lines.iter().map(|line| line.log.as_str()).collect();
        assert_eq!(texts, ["err\n", "one\n", "two\n", "thr"]);
        assert_eq!(lines[0].stream, StreamName::Stderr);
    }

    #[test]
    fn a_long_line_is_kept_in_pieces() {
        let lines = logged(|log| {
            let long = [vec![b'x'; 2 * LONGEST_ENTRY + 1], vec![b'\n']].concat();
            log.add(StreamName::Stdout, &long).unwrap();
        });
        let lengths: Vec<usize> = lines.iter().map(|line| line.log.len()).collect();
        assert_eq!(lengths, [LONGEST_ENTRY, LONGEST_ENTRY, 2]);
    }

    #[test]
    fn a_long_line_is_not_cut_within_a_character() {
        let text = format!("x{}\n", "\u{20ac}".repeat(LONGEST_ENTRY));
        let lines = logged(|log| log.add(StreamName::Stdout, text.as_bytes()).unwrap());
        let whole: String = lines.iter().map(|line| line.log.as_str()).collect();
        assert_eq!(whole, text);
        assert!(lines.len() > 2);
    }

    #[test]
    fn nothing_written_is_no_file() {
        let path = std::env::temp_dir().join(format!("dhow-nolog-{}", std::process::id()));
        LogWriter::new(&path).end(StreamName::Stdout).unwrap();
        assert!(!path.exists());
    }
}
