//! Messages of D-Bus on the wire: the few types that systemd's manager wants (D-Bus specification, "Message Protocol").

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cgroup) enum Value {
    Text(String),
    Flag(bool),
    Byte(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Bytes(Vec<u8>),
    Texts(Vec<String>),
    U32s(Vec<u32>),
    /// `a(ss)`: DeviceAllow.
    Pairs(Vec<(String, String)>),
    /// `a(st)`: limits of devices.
    Limits(Vec<(String, u64)>),
}

/// A unit's property.
pub(in crate::cgroup) type Property = (String, Value);

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Byte(_) => "y",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Bytes(_) => "ay",
            Self::Texts(_) => "as",
            Self::U32s(_) => "au",
            Self::Pairs(_) => "a(ss)",
            Self::Limits(_) => "a(st)",
        }
    }
}

/// What is sent, in this machine's byte order.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number<const SIZE: usize>(&mut self, bytes: [u8; SIZE]) {
        self.align(SIZE);
        self.bytes.extend_from_slice(&bytes);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.number(number.to_ne_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.u32(flag.into());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array; its length is told without the padding before its first element.
    pub(super) fn array<T>(
        &mut self,
        alignment: usize,
        elements: &[T],
        mut each: impl FnMut(&mut Self, &T),
    ) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        for element in elements {
            self.align(alignment);
            each(self, element);
        }
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::I16(number) => self.number(number.to_ne_bytes()),
            Value::U16(number) => self.number(number.to_ne_bytes()),
            Value::I32(number) => self.number(number.to_ne_bytes()),
            Value::U32(number) => self.u32(*number),
            Value::I64(number) => self.number(number.to_ne_bytes()),
            Value::U64(number) => self.number(number.to_ne_bytes()),
            Value::Double(number) => self.number(number.to_ne_bytes()),
            Value::Bytes(bytes) => self.array(1, bytes, |w, byte| w.bytes.push(*byte)),
            Value::Texts(texts) => self.array(4, texts, |w, text| w.text(text)),
            Value::U32s(numbers) => self.array(4, numbers, |w, number| w.u32(*number)),
            Value::Pairs(pairs) => self.array(8, pairs, |w, (first, second)| {
                w.text(first);
                w.text(second);
            }),
            Value::Limits(limits) => self.array(8, limits, |w, (device, limit)| {
                w.text(device);
                w.number(limit.to_ne_bytes());
            }),
        }
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[Property]) {
        self.array(8, properties, |w, (name, value)| {
            w.text(name);
            w.variant(value);
        });
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What is asked of whom.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The arguments' types.
    pub(super) signature: &'a str,
    pub(super) body: Writer,
}

const ORDER: u8 = if cfg!(target_endian = "big") {
    b'B'
} else {
    b'l'
};
const METHOD_CALL: u8 = 1;
const PROTOCOL: u8 = 1;

impl Call<'_> {
    /// The whole message.
    pub(super) fn encode(self, serial: u32) -> Vec<u8> {
        let body = self.body.into_bytes();
        let mut out = Writer::default();
        out.bytes
            .extend_from_slice(&[ORDER, METHOD_CALL, 0, PROTOCOL]);
        out.u32(body.len() as u32);
        out.u32(serial);
        let mut fields: Vec<(u8, &str, &str)> = vec![
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        if !self.signature.is_empty() {
            fields.push((8, "g", self.signature));
        }
        out.array(8, &fields, |w, (code, kind, value)| {
            w.bytes.push(*code);
            w.signature(kind);
            match *kind {
                "g" => w.signature(value),
                _ => w.text(value),
            }
        });
        out.align(8);
        out.bytes.extend_from_slice(&body);
        out.bytes
    }
}

/// What kind of message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    Error,
    Signal,
    Other,
}

/// What came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The call that it answers.
    pub(super) answers: u32,
    /// The error's name.
    pub(super) error: String,
    /// The signal's name.
    pub(super) member: String,
    /// Whose it is, as the bus says; without a bus, nobody's.
    pub(super) sender: String,
    body: Vec<u8>,
}

/// The size of what tells the sizes of the rest.
pub(super) const FIXED: usize = 16;

/// How long the rest of a message is whose first bytes these are; none where it is none that can be read.
pub(super) fn rest_length(fixed: &[u8; FIXED]) -> Option<usize> {
    if fixed[0] != ORDER {
        return None;
    }
    let mut reader = Reader::new(fixed);
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    // The specification's limits are 64 and 128 MiB; nothing of systemd's comes near.
    (body < 1 << 24 && fields < 1 << 20).then(|| fields.next_multiple_of(8) + body)
}

impl Message {
    /// Reads a message whose fields and body these are.
    pub(super) fn decode(fixed: &[u8; FIXED], rest: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(fixed);
        reader.at = 12;
        let fields = reader.u32()? as usize;
        let mut message = Self {
            kind: match fixed[1] {
                2 => Kind::Reply,
                3 => Kind::Error,
                4 => Kind::Signal,
                _ => Kind::Other,
            },
            answers: 0,
            error: String::new(),
            member: String::new(),
            sender: String::new(),
            body: rest.get(fields.next_multiple_of(8)..)?.to_vec(),
        };
        let mut reader = Reader::new(rest.get(..fields)?);
        while reader.at < fields {
            reader.align(8);
            let code = reader.byte()?;
            let signature = reader.signature()?;
            match (code, signature.as_str()) {
                (5, "u") => message.answers = reader.u32()?,
                (4, "s") => message.error = reader.text()?,
                (3, "s") => message.member = reader.text()?,
                (7, "s") => message.sender = reader.text()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        Some(message)
    }

    /// A reader of the arguments.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader::new(&self.body)
    }
}

/// Reads what came; none where it ends too early.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        self.take(1)?;
        Some(text)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let mut body = Writer::default();
        body.text("a.scope");
        body.properties(&[
            ("Delegate".to_owned(), Value::Flag(true)),
            ("MemoryMax".to_owned(), Value::U64(4096)),
            ("PIDs".to_owned(), Value::U32s(vec![7])),
        ]);
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StartTransientUnit",
            signature: "sa(sv)",
            body,
        };
        let bytes = call.encode(5);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(rest_length(&fixed), Some(bytes.len() - FIXED));
        let message = Message::decode(&fixed, &bytes[FIXED..]).unwrap();
        assert_eq!(message.kind, Kind::Other);
        assert_eq!(message.member, "StartTransientUnit");
        let mut body = message.body();
        assert_eq!(body.text().as_deref(), Some("a.scope"));
        let length = body.u32().unwrap() as usize;
        body.align(8);
        assert_eq!(body.at + length, message.body.len());
        assert_eq!(body.text().as_deref(), Some("Delegate"));
        assert_eq!(body.signature().as_deref(), Some("b"));
        assert_eq!(body.u32(), Some(1));
        body.align(8);
        assert_eq!(body.text().as_deref(), Some("MemoryMax"));
    }

    #[test]
    fn the_sender_is_who_the_bus_says() {
        let mut fields = Writer::default();
        fields.bytes.push(7);
        fields.signature("s");
        fields.text(":1.7");
        let fields = fields.into_bytes();
        let mut fixed = [0; FIXED];
        fixed[..2].copy_from_slice(&[ORDER, 4]);
        fixed[12..].copy_from_slice(&(fields.len() as u32).to_ne_bytes());
        let mut rest = fields.clone();
        rest.resize(fields.len().next_multiple_of(8), 0);
        let message = Message::decode(&fixed, &rest).unwrap();
        assert_eq!((message.kind, &*message.sender), (Kind::Signal, ":1.7"));
    }

    #[test]
    fn what_ends_too_early_is_no_message() {
        let fixed = [0; FIXED];
        assert_eq!(rest_length(&fixed), None);
        let mut fixed = [0; FIXED];
        fixed[0] = ORDER;
        fixed[12..].copy_from_slice(&64u32.to_ne_bytes());
        assert!(Message::decode(&fixed, &[0; 8]).is_none());
        assert!(Message::decode(&fixed, &[9; 64]).is_none());
    }
}
