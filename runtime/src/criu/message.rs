//! criu's RPC messages (its images/rpc.proto): fields by number, in protobuf's encoding.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

/// The kinds of requests that are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Save.
    Dump = 1,
    /// Make again.
    Restore = 2,
    /// Save memory only.
    PreDump = 4,
    /// A question in the middle of the work.
    Notify = 6,
    /// What the kernel has.
    FeatureCheck = 9,
}

impl Kind {
    /// Its name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::Restore => "RESTORE",
            Self::PreDump => "PRE_DUMP",
            Self::Notify => "NOTIFY",
            Self::FeatureCheck => "FEATURE_CHECK",
        }
    }
}

/// A message's fields, encoded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number; a negative one is sign-extended, as the encoding wants it.
    pub(crate) fn number(&mut self, field: u32, value: i64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// A switch.
    pub(crate) fn switch(&mut self, field: u32, on: bool) -> &mut Self {
        self.number(field, i64::from(on))
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text.
    pub(crate) fn text(&mut self, field: u32, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message in the message.
    pub(crate) fn nested(&mut self, field: u32, of: &Self) -> &mut Self {
        self.bytes(field, &of.0)
    }

    /// A pair of texts in a message of its own, as criu has them for mounts, cgroups and namespaces.
    pub(crate) fn pair(&mut self, field: u32, one: &str, other: &str) -> &mut Self {
        let mut pair = Self::default();
        pair.text(1, one).text(2, other);
        self.nested(field, &pair)
    }
}

/// A request of a kind, with options (field 2) or features (field 5).
pub(crate) fn request(kind: Kind, field: u32, content: &Fields) -> Fields {
    let mut request = Fields::default();
    request.number(1, kind as i64).nested(field, content);
    request
}

/// What a question is answered with.
pub(super) fn go_on() -> Fields {
    let mut request = Fields::default();
    request.number(1, Kind::Notify as i64).switch(3, true);
    request
}

/// What a worker says before it is criu: that it begins, or why it cannot.
pub(super) fn begun(error: Option<&str>) -> Fields {
    let mut answer = Fields::default();
    answer.number(1, 0).switch(2, error.is_none());
    if let Some(error) = error {
        answer.text(9, error);
    }
    answer
}

/// What criu says.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The kind of request that is answered, or of a question.
    pub(crate) kind: u64,
    /// Whether it was done.
    pub(crate) success: bool,
    /// What the system answered, if it was the system.
    pub(crate) errno: i64,
    /// What went wrong.
    message: String,
    /// A question's name.
    pub(crate) script: String,
    /// The process that a question or an answer is about.
    pub(crate) pid: i32,
    /// Whether the kernel can track memory, and serve it later.
    pub(crate) features: (bool, bool),
    /// A descriptor that came with it.
    pub(crate) passed: Option<OwnedFd>,
}

impl Answer {
    /// What went wrong, to be put behind other words.
    pub(super) fn words(&self) -> String {
        match self.message.is_empty() {
            true => String::new(),
            false => format!(": {}", self.message),
        }
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The next field of a message, and what comes after it.
fn next_field(bytes: &[u8]) -> Option<(u64, Value<'_>, &[u8])> {
    let (tag, rest) = read_varint(bytes)?;
    let (value, rest) = match tag & 7 {
        0 => {
            let (number, rest) = read_varint(rest)?;
            (Value::Number(number), rest)
        }
        1 => (Value::Bytes(rest.get(..8)?), rest.get(8..)?),
        2 => {
            let (length, rest) = read_varint(rest)?;
            let length = usize::try_from(length).ok()?;
            (Value::Bytes(rest.get(..length)?), rest.get(length..)?)
        }
        5 => (Value::Bytes(rest.get(..4)?), rest.get(4..)?),
        _ => return None,
    };
    Some((tag >> 3, value, rest))
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

fn each_field(mut bytes: &[u8], mut take: impl FnMut(u64, Value<'_>)) -> Option<()> {
    while !bytes.is_empty() {
        let (field, value, rest) = next_field(bytes)?;
        take(field, value);
        bytes = rest;
    }
    Some(())
}

fn decode(bytes: &[u8]) -> Option<Answer> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut answer = Answer::default();
    let mut whole = true;
    each_field(bytes, |field, value| match (field, value) {
        (1, Value::Number(kind)) => answer.kind = kind,
        (2, Value::Number(success)) => answer.success = success != 0,
        // What was restored.
        (4, Value::Bytes(inner)) => {
            whole &= each_field(inner, |field, value| {
                if let (1, Value::Number(pid)) = (field, value) {
                    answer.pid = pid as i32;
                }
            })
            .is_some();
        }
        // A question.
        (5, Value::Bytes(inner)) => {
            whole &= each_field(inner, |field, value| match (field, value) {
                (1, Value::Bytes(script)) => answer.script = text(script),
                (2, Value::Number(pid)) => answer.pid = pid as i32,
                _ => {}
            })
            .is_some();
        }
        (7, Value::Number(errno)) => answer.errno = errno as i64,
        (8, Value::Bytes(inner)) => {
            whole &= each_field(inner, |field, value| match (field, value) {
                (1, Value::Number(has)) => answer.features.0 = has != 0,
                (2, Value::Number(has)) => answer.features.1 = has != 0,
                _ => {}
            })
            .is_some();
        }
        (9, Value::Bytes(words)) => answer.message = text(words),
        _ => {}
    })?;
    whole.then_some(answer)
}

pub(super) fn send(socket: &OwnedFd, message: &Fields) -> Result<()> {
    rustix::net::send(socket, &message.0, SendFlags::NOSIGNAL).map(drop)
}

/// The next message; `None` when the other end is closed.
pub(super) fn receive(socket: &OwnedFd) -> Result<Option<Answer>> {
    let mut bytes = vec![0u8; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Ok(None),
            answer => break answer?.bytes,
        }
    };
    if received == 0 {
        return Ok(None);
    }
    let mut answer = decode(&bytes[..received]).ok_or(Errno::PROTO)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            answer.passed = fds.last();
        }
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_protobuf_has_them() {
        let mut fields = Fields::default();
        fields.number(1, 150).text(2, "testing").switch(3, true);
        assert_eq!(
            fields.0,
            [
                8, 0x96, 1, 0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g', 0x18, 1
            ]
        );
        let mut negative = Fields::default();
        negative.number(1, -1);
        assert_eq!(
            negative.0,
            [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
    }

    #[test]
    fn an_answer_is_read() {
        let mut notify = Fields::default();
        notify.text(1, "post-restore").number(2, 4321);
        let mut message = Fields::default();
        message.number(1, 6).switch(2, true).nested(5, &notify);
        // A field that nobody knows.
        message.text(99, "later");
        let answer = decode(&message.0).unwrap();
        assert!(answer.success);
        assert_eq!((answer.kind, answer.pid), (6, 4321));
        assert_eq!(answer.script, "post-restore");
    }

    #[test]
    fn half_a_message_is_none() {
        let mut notify = Fields::default();
        notify.text(1, "post-restore");
        let mut message = Fields::default();
        message.number(1, 6).nested(5, &notify);
        for length in 1..message.0.len() {
            let cut = &message.0[..length];
            assert!(decode(cut).is_none() || length == 2, "{length}");
        }
    }
}
