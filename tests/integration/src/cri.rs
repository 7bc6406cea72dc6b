//! A small client of the Kubernetes container runtime interface (CRI, runtime.v1): one call, one request of curl's over HTTP/2.

use std::path::PathBuf;
use std::process::Command;

use crate::{Ran, Sandbox, ran};

/// A message of protocol buffers that is being written, field by field.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits, and that more come.
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// With a number.
    #[must_use]
    pub fn number(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.cast_unsigned());
        self
    }

    /// With bytes, which is how text and messages are written too.
    #[must_use]
    pub fn text(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint((u64::from(field) << 3) | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// With a message inside.
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.text(field, &value.0)
    }

    /// The bytes of the first field of this number that has some; empty when there is none.
    pub fn bytes_of(&self, field: u32) -> Vec<u8> {
        let found = self
            .fields()
            .into_iter()
            .find(|(number, _)| *number == field);
        match found {
            Some((_, Value::Bytes(bytes))) => bytes,
            _ => Vec::new(),
        }
    }

    /// The text of a field.
    pub fn text_of(&self, field: u32) -> String {
        String::from_utf8_lossy(&self.bytes_of(field)).into_owned()
    }

    /// The message in a field.
    pub fn message_of(&self, field: u32) -> Self {
        Self(self.bytes_of(field))
    }

    /// The number in a field; 0, which is not written, when there is none.
    pub fn number_of(&self, field: u32) -> u64 {
        let found = self
            .fields()
            .into_iter()
            .find(|(number, _)| *number == field);
        match found {
            Some((_, Value::Number(value))) => value,
            _ => 0,
        }
    }

    fn fields(&self) -> Vec<(u32, Value)> {
        let mut rest = self.0.as_slice();
        let mut all = Vec::new();
        while !rest.is_empty() {
            let key = take_varint(&mut rest);
            let field = u32::try_from(key >> 3).expect("a field's number");
            let value = match key & 7 {
                0 => Value::Number(take_varint(&mut rest)),
                2 => {
                    let length = usize::try_from(take_varint(&mut rest)).expect("a length");
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    Value::Bytes(bytes.to_vec())
                }
                other => panic!("a field of kind {other} is not read here"),
            };
            all.push((field, value));
        }
        all
    }
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first().expect("more bytes");
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Who calls a daemon by its socket.
pub struct Cri<'a> {
    socket: PathBuf,
    sandbox: &'a Sandbox,
}

impl<'a> Cri<'a> {
    /// A caller of this socket, with a place for the files that curl reads and writes.
    pub fn new(socket: PathBuf, sandbox: &'a Sandbox) -> Self {
        Self { socket, sandbox }
    }

    /// Calls a method of the runtime service.
    ///
    /// # Errors
    /// What the daemon says when it refuses.
    ///
    /// # Panics
    /// When it cannot be called (package curl).
    pub fn try_call(&self, method: &str, request: &Message) -> Result<Message, String> {
        // A frame: not compressed, its length, the message.
        let mut frame = vec![0];
        frame.extend(
            u32::try_from(request.0.len())
                .expect("a length")
                .to_be_bytes(),
        );
        frame.extend(&request.0);
        let sent = self.sandbox.write("cri-request", frame);
        let (headers, answer) = (
            self.sandbox.path("cri-headers"),
            self.sandbox.path("cri-answer"),
        );
        let _ = fs_err::remove_file(&answer);
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            "--max-time",
            "60",
        ])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg("--unix-socket")
        .arg(&self.socket)
        .arg("--data-binary")
        .arg(format!("@{}", sent.display()))
        .arg("--dump-header")
        .arg(&headers)
        .arg("--output")
        .arg(&answer)
        .arg(format!(
            "http://localhost/runtime.v1.RuntimeService/{method}"
        ));
        let called: Ran = ran(curl, b"");
        called.ok();
        let headers = fs_err::read_to_string(headers).expect("headers");
        if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
            return Err(headers);
        }
        let answer = fs_err::read(answer).unwrap_or_default();
        Ok(Message(answer.get(5..).unwrap_or_default().to_vec()))
    }

    /// Calls a method of the runtime service that is to succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn call(&self, method: &str, request: &Message) -> Message {
        self.try_call(method, request)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}
