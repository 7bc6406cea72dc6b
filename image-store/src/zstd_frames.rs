//! zstd streams, frame by frame: how much memory a frame takes to decode is for who made it to say, so that of the large ones only one is
//! decoded at a time.

use std::io::{self, BufRead, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every decoder has to take windows as large as this (RFC 8878), and what makes images writes none that are larger.
const ORDINARY: u64 = 8 << 20;
/// Magic number, descriptor, dictionary and size of the content, at their longest.
const HEADER: usize = 4 + 1 + 4 + 8;
/// Who decodes a frame with a larger window. Without this each of an image's layers that come at the same time might take as much
/// as a decoder gives at all, 128 MiB.
static TURN: Mutex<()> = Mutex::new(());

/// Reads the content of all frames of a stream.
pub(crate) struct Frames<R: BufRead> {
    state: State<R>,
}

enum State<R: BufRead> {
    Between(Peeked<R>),
    Within(
        zstd::Decoder<'static, Peeked<R>>,
        Option<MutexGuard<'static, ()>>,
    ),
    /// At the end, or after an error.
    Over,
}

impl<R: BufRead> Frames<R> {
    pub(crate) fn new(input: R) -> Self {
        let input = Peeked {
            start: Vec::new(),
            at: 0,
            rest: input,
        };
        Self {
            state: State::Between(input),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Between(mut input) => {
                    let header = input.peek(HEADER)?;
                    if header.is_empty() {
                        return Ok(0);
                    }
                    let is_large = window(header).is_some_and(|window| window > ORDINARY);
                    let turn =
                        is_large.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
                    let decoder = zstd::Decoder::with_buffer(input)?.single_frame();
                    self.state = State::Within(decoder, turn);
                }
                State::Within(mut decoder, turn) => {
                    let count = match decoder.read(out) {
                        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                            return Err(error);
                        }
                        Ok(0) => {
                            decoder.finish_frame()?;
                            self.state = State::Between(decoder.finish());
                            continue;
                        }
                        other => other,
                    };
                    self.state = State::Within(decoder, turn);
                    return count;
                }
                State::Over => return Ok(0),
            }
        }
    }
}

/// How many bytes a frame that begins so may refer back to; none where it is none with content.
fn window(header: &[u8]) -> Option<u64> {
    let rest = header.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // All of its content is one segment, and as large.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let width = 1_usize << (descriptor >> 6);
    let mut size = [0; 8];
    size[..width].copy_from_slice(rest.get(dictionary..dictionary + width)?);
    Some(u64::from_le_bytes(size))
}

/// A stream whose next bytes can be seen before they are read.
struct Peeked<R> {
    start: Vec<u8>,
    at: usize,
    rest: R,
}

impl<R: BufRead> Peeked<R> {
    /// The next bytes, so many where there are so many.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        self.start.drain(..self.at);
        self.at = 0;
        let lacking = count.saturating_sub(self.start.len());
        let rest = self.rest.by_ref();
        rest.take(lacking as u64).read_to_end(&mut self.start)?;
        Ok(&self.start)
    }
}

impl<R: BufRead> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.start.get(self.at..) {
            Some(start) if !start.is_empty() => Ok(start),
            _ => self.rest.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self.at < self.start.len() {
            true => self.at += count,
            false => self.rest.consume(count),
        }
    }
}

impl<R: BufRead> Read for Peeked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Bytes without a pattern.
    fn noise(count: u32) -> Vec<u8> {
        (0..count)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    }

    fn frame(content: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(window_log).expect("a window");
        encoder.write_all(content).expect("write");
        encoder.finish().expect("a frame")
    }

    #[test]
    fn all_frames_are_read_and_large_ones_one_at_a_time() {
        let content = noise(300_000);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let (small, large) = (frame(&content, 20), frame(&content, 25));
        assert_eq!(window(&small), Some(1 << 20));
        assert_eq!(window(&large), Some(1 << 25));
        let tiny = zstd::encode_all(&b"tiny"[..], 1).expect("a frame");
        let all = [&skipped, &tiny, &small, &tiny, &large, &skipped, &small];
        let all = all.map(Vec::as_slice).concat();
        let expected = [&b"tiny"[..], &content, b"tiny", &content, &content].concat();
        // Where pieces end does not matter.
        for piece in [1, 7, 4096] {
            let mut read = Vec::new();
            let input = io::BufReader::with_capacity(piece, all.as_slice());
            let mut frames = Frames::new(input);
            let mut buffer = vec![0; 10_000];
            loop {
                let count = frames.read(&mut buffer).expect("content");
                read.extend_from_slice(&buffer[..count]);
                let is_large = matches!(&frames.state, State::Within(_, Some(_)));
                assert_eq!(TURN.try_lock().is_err(), is_large);
                // What has been read to its end may have its turn until the next read.
                let within = 300_009..600_008;
                assert!(is_large || !within.contains(&read.len()), "{}", read.len());
                if count == 0 {
                    break;
                }
            }
            assert!(read == expected);
        }
    }

    #[test]
    fn what_ends_early_or_is_none_is_an_error() {
        let whole = frame(&noise(300_000), 20);
        let ends_early = whole[..whole.len() - 5].to_vec();
        for broken in [ends_early, [&whole[..], b"garbage"].concat()] {
            let read = Frames::new(broken.as_slice()).read_to_end(&mut Vec::new());
            assert!(read.is_err());
        }
    }

    #[test]
    fn a_frame_of_one_segment_is_as_large_as_its_content() {
        let begin = [0x28, 0xb5, 0x2f, 0xfd];
        let header = |rest: &[u8]| window(&[&begin, rest].concat());
        assert_eq!(header(&[0x20, 9]), Some(9));
        assert_eq!(header(&[0xa1, 0xff, 0, 0, 0, 1]), Some(1 << 24));
        assert_eq!(
            header(&[0xe3, 1, 2, 3, 4, 0, 0, 0, 0, 0, 1, 0, 0]),
            Some(1 << 40)
        );
        assert_eq!(header(&[0xe3, 1, 2]), None);
        assert_eq!(window(b"other"), None);
    }
}
