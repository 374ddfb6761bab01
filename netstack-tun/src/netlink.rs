//! The subset of rtnetlink that this crate needs: a request, and the kernel's answer.

use crate::sys;
use std::io::{self, Read, Write};

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const MESSAGE_HEADER_LEN: usize = 16;
/// `struct nlattr`: length, type.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The one request on its socket.
const SEQUENCE: u32 = 1;
/// More than the description of any link.
const ANSWER_LEN: usize = 64 * 1024;

/// A request under construction.
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of type `kind` (`RTM_*`) with its fixed part; `flags` beside `NLM_F_REQUEST` and
    /// `NLM_F_ACK`.
    pub(crate) fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; MESSAGE_HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
        let mut request = Self { bytes };
        request.push(body);
        request
    }

    /// Adds an attribute.
    pub(crate) fn attribute(self, kind: u16, value: &[u8]) -> Self {
        self.nest(kind, |mut request| {
            request.bytes.extend_from_slice(value);
            request
        })
    }

    /// Adds an attribute that is a terminated string.
    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute whose value is what `build` adds.
    pub(crate) fn nest(mut self, kind: u16, build: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_HEADER_LEN]);
        self = build(self);
        // Padding after a value belongs to no attribute.
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
        self
    }

    /// Adds bytes without an attribute around them: a fixed part.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the request and waits until the kernel has carried it out.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn send(self) -> io::Result<()> {
        self.query(|_| ())
    }

    /// Sends the request and passes each message of the answer but the acknowledgement, without
    /// its header, to `on_message`.
    pub(crate) fn query(mut self, mut on_message: impl FnMut(&[u8])) -> io::Result<()> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        // A socket for each request: no answer to another one can be in it.
        let mut socket = sys::netlink_socket()?;
        if socket.write(&self.bytes)? != self.bytes.len() {
            return Err(malformed());
        }
        let mut answer = vec![0; ANSWER_LEN];
        loop {
            let len = socket.read(&mut answer)?;
            if len == 0 {
                return Err(malformed());
            }
            let mut rest = &answer[..len];
            while !rest.is_empty() {
                let message = Message::parse(&mut rest)?;
                match message.kind {
                    kind if kind == libc::NLMSG_ERROR as u16 => return message.acknowledgement(),
                    kind if kind == libc::NLMSG_NOOP as u16 => {}
                    _ => on_message(message.body),
                }
            }
        }
    }
}

/// One message of an answer.
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `bytes`.
    fn parse(bytes: &mut &'a [u8]) -> io::Result<Self> {
        let (head, _) = bytes.split_first_chunk::<MESSAGE_HEADER_LEN>().ok_or_else(malformed)?;
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let body = bytes.get(MESSAGE_HEADER_LEN..len).ok_or_else(malformed)?;
        *bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Ok(Self { kind, body })
    }

    /// The result that an `NLMSG_ERROR` brings: zero or a negative error number.
    fn acknowledgement(&self) -> io::Result<()> {
        let code = self.body.first_chunk().ok_or_else(malformed)?;
        match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            _ => Err(malformed()),
        }
    }
}

/// The attributes in `bytes`; ends at the first that is malformed.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1] = bytes.first_chunk::<ATTRIBUTE_HEADER_LEN>()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say "nested" and "network byte order".
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed rtnetlink message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_are_padded_and_measured() {
        let request = Request::new(16, 0, &[7; 4])
            .nest(1, |request| request.string(2, "ab").attribute(3, &[9; 4]))
            .attribute(4, &[]);
        let body = &request.bytes[MESSAGE_HEADER_LEN..];
        assert_eq!(body[..4], [7; 4]);
        let outer: Vec<_> = attributes(&body[4..]).collect();
        assert_eq!(outer.len(), 2);
        assert_eq!(outer[1], (4, &[][..]));
        let inner: Vec<_> = attributes(outer[0].1).collect();
        assert_eq!(inner, [(2, &b"ab\0"[..]), (3, &[9; 4][..])]);
    }

    #[test]
    fn acknowledgements() {
        let ack = |body: &[u8]| Message { kind: 2, body }.acknowledgement();
        assert!(ack(&0i32.to_ne_bytes()).is_ok());
        assert_eq!(ack(&(-libc::EPERM).to_ne_bytes()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        for bad in [&1i32.to_ne_bytes()[..], &[0; 3], &[]] {
            assert_eq!(ack(bad).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(ack(&i32::MIN.to_ne_bytes()).is_err());
    }

    #[test]
    fn malformed_answers_are_errors_or_end() {
        for len in [0u32, 15, 21, u32::MAX] {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert!(Message::parse(&mut &bytes[..]).is_err(), "{len}");
        }
        assert!(Message::parse(&mut &[0; 8][..]).is_err());
        for len in [0u16, 3, 9] {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{len}");
        }
    }
}
