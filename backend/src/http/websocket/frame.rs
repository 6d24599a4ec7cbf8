//! Frames of a WebSocket (RFC 6455, section 5), as bytes come: nothing waits for a frame that will
//! not be taken.
//!
//! Every rule is checked as soon as the bytes that it is about are there: a frame that announces
//! more than the limit is refused by its header alone, and at no time is more kept than one message
//! up to the limit.

use actix_http::ws::{CloseCode, OpCode};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes of a control frame's payload (RFC 6455, section 5.5).
const MOST_OF_CONTROL: u64 = 125;

/// A whole message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// Asks for a [`Message::Pong`] with the same payload.
    Ping(Bytes),
    /// Answers a ping.
    Pong(Bytes),
    /// The other side ends the conversation, with this code if it gave one.
    Close(Option<u16>),
}

/// Bytes against the rules; the conversation ends with this code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Code of the close frame.
    pub(crate) code: CloseCode,
    /// What was wrong.
    pub(crate) reason: String,
}

fn protocol_error(reason: impl Into<String>) -> Violation {
    Violation { code: CloseCode::Protocol, reason: reason.into() }
}

fn not_utf8() -> Violation {
    Violation { code: CloseCode::Invalid, reason: "a text that is not UTF-8".into() }
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

/// The frame whose payload is arriving.
#[derive(Debug)]
struct Current {
    opcode: OpCode,
    last: bool,
    mask: [u8; 4],
    /// Bytes of the payload still to come, and how many came.
    left: u64,
    taken: usize,
}

/// Reads what a client sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    most: usize,
    /// Bytes of a header that is not complete.
    header: Vec<u8>,
    current: Option<Current>,
    control: Vec<u8>,
    /// Whether a message has begun, and is text.
    text: Option<bool>,
    message: Vec<u8>,
    /// Bytes of the message that are known to be whole characters.
    checked: usize,
}

impl Decoder {
    /// Takes messages of at most `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            header: Vec::new(),
            current: None,
            control: Vec::new(),
            text: None,
            message: Vec::new(),
            checked: 0,
        }
    }

    /// Takes messages of at most `most` bytes from now on.
    pub(crate) fn set_limit(&mut self, most: usize) {
        self.most = most;
    }

    /// The limit of a message in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.most
    }

    /// Whether a frame or message has begun that is not complete.
    pub(crate) fn is_midway(&self) -> bool {
        !self.header.is_empty() || self.current.is_some() || self.text.is_some()
    }

    /// Takes bytes off `input` until a message or control frame is complete, or none are left.
    ///
    /// # Errors
    /// At the first byte against the rules; nothing can be read after that.
    pub(crate) fn read(&mut self, input: &mut Bytes) -> Result<Option<Message>, Violation> {
        loop {
            let Some(current) = &mut self.current else {
                if input.is_empty() {
                    return Ok(None);
                }
                self.header.push(input.get_u8());
                self.current = self.header()?;
                continue;
            };
            let control = is_control(current.opcode);
            let part = input
                .split_to(input.len().min(usize::try_from(current.left).unwrap_or(usize::MAX)));
            let kept = if control { &mut self.control } else { &mut self.message };
            for (at, byte) in (current.taken..).zip(&part) {
                kept.push(byte ^ current.mask[at % 4]);
            }
            current.taken += part.len();
            current.left -= part.len() as u64;
            let done = current.left == 0;
            let (opcode, last) = (current.opcode, current.last);
            if !control && self.text == Some(true) {
                self.check_text(done && last)?;
            }
            if !done {
                return Ok(None);
            }
            self.current = None;
            if control {
                return self.control(opcode).map(Some);
            }
            if last {
                return Ok(Some(self.whole()?));
            }
        }
    }

    /// The frame that the header announces, once it is complete.
    fn header(&mut self) -> Result<Option<Current>, Violation> {
        let header = &self.header;
        let first = header[0];
        if first & 0x70 != 0 {
            return Err(protocol_error("reserved bits are set; no extension was agreed on"));
        }
        let (last, opcode) = (first & 0x80 != 0, OpCode::from(first & 0x0f));
        let begun = self.text.is_some();
        match opcode {
            OpCode::Bad => {
                return Err(protocol_error(format!("opcode {} is reserved", first & 0x0f)));
            }
            OpCode::Continue if !begun => {
                return Err(protocol_error("a continuation of no message"));
            }
            OpCode::Text | OpCode::Binary if begun => {
                return Err(protocol_error("a message begins within another"));
            }
            _ if is_control(opcode) && !last => {
                return Err(protocol_error("a control frame in pieces"));
            }
            _ => {}
        }
        let Some(&second) = header.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(protocol_error("a client's frame must be masked"));
        }
        let (length, rest) = match second & 0x7f {
            126 => match header[2..].split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match header[2..].split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), &header[2..]),
        };
        let shortest = match second & 0x7f {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < shortest || length > i64::MAX as u64 {
            return Err(protocol_error(format!("a length of {length} in the wrong form")));
        }
        if is_control(opcode) && length > MOST_OF_CONTROL {
            return Err(protocol_error(format!(
                "a control frame of {length} bytes; it has at most {MOST_OF_CONTROL}"
            )));
        }
        if !is_control(opcode) && self.message.len() as u64 + length > self.most as u64 {
            return Err(Violation {
                code: CloseCode::Size,
                reason: format!("the message is over the limit of {} bytes", self.most),
            });
        }
        let Ok(mask) = rest.try_into() else { return Ok(None) };
        self.header.clear();
        match opcode {
            OpCode::Text => self.text = Some(true),
            OpCode::Binary => self.text = Some(false),
            _ => {}
        }
        Ok(Some(Current { opcode, last, mask, left: length, taken: 0 }))
    }

    /// Checks the text so far; a character may be cut off unless it is all.
    fn check_text(&mut self, all: bool) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() && !all => {
                self.checked += error.valid_up_to();
            }
            Err(_) => return Err(not_utf8()),
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<Message, Violation> {
        self.checked = 0;
        let message = std::mem::take(&mut self.message);
        match self.text.take() {
            Some(true) => String::from_utf8(message).map(Message::Text).map_err(|_| not_utf8()),
            _ => Ok(Message::Binary(message)),
        }
    }

    fn control(&mut self, opcode: OpCode) -> Result<Message, Violation> {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            OpCode::Ping => Ok(Message::Ping(payload.into())),
            OpCode::Pong => Ok(Message::Pong(payload.into())),
            _ => close(&payload).map(Message::Close),
        }
    }
}

/// The code of a close frame (RFC 6455, sections 5.5.1 and 7.4).
fn close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(protocol_error("a close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol_error(format!("close code {code} may not be sent")));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(not_utf8());
    }
    Ok(Some(code))
}

/// A frame of the server: whole, unmasked.
pub(crate) fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(0x80 | u8::from(opcode));
    match payload.len() {
        short @ 0..126 => frame.put_u8(short as u8),
        medium @ 126..0x1_0000 => {
            frame.put_u8(126);
            frame.put_u16(medium as u16);
        }
        long => {
            frame.put_u8(127);
            frame.put_u64(long as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

/// The payload of a close frame, its reason cut to what fits.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(MOST_OF_CONTROL as usize - 2);
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let plain = encode(OpCode::Binary, payload);
        let mut frame = plain[..plain.len() - payload.len()].to_vec();
        frame[0] = first;
        frame[1] |= 0x80;
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// What comes of bytes that arrive in pieces of a size.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Violation> {
        let mut decoder = Decoder::new(1000);
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(message) = decoder.read(&mut piece)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
        let mut header = vec![0x82, 0xff];
        header.extend(1_u64.rotate_left(40).to_be_bytes());
        assert_eq!(read(&header, 1).unwrap_err().code, CloseCode::Size);
        let mut decoder = Decoder::new(1000);
        assert!(decoder.read(&mut Bytes::from(header)).is_err());
        assert_eq!(decoder.message.capacity(), 0);
        let half = vec![0; 600];
        let two = [frame(0x02, &half), frame(0x80, &half)].concat();
        assert_eq!(read(&two, 9).unwrap_err().code, CloseCode::Size, "in pieces as well");
    }

    #[test]
    fn a_text_is_refused_at_its_first_wrong_byte() {
        let bytes = [frame(0x01, "é".as_bytes()), frame(0x00, &[0xc3])].concat();
        assert_eq!(read(&bytes, 1), Ok(vec![]), "half a character may go on");
        let wrong = [bytes.as_slice(), &frame(0x00, &[0xc3])].concat();
        assert_eq!(read(&wrong, 1).unwrap_err().code, CloseCode::Invalid);
        let cut_off = [bytes.as_slice(), &frame(0x80, b"")].concat();
        assert_eq!(read(&cut_off, 1).unwrap_err().code, CloseCode::Invalid);
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let payload = close_payload(1000, &"é".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(close(&payload), Ok(Some(1000)));
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_their_bytes_are_cut(
            texts in prop::collection::vec(".{0,100}", 1..4),
            pieces in 1..5_usize,
            cut in 1..40_usize,
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for text in &texts {
                let step = text.len().div_ceil(pieces).max(1);
                let parts: Vec<_> = text.as_bytes().chunks(step).collect();
                let parts = if parts.is_empty() { vec![&[][..]] } else { parts };
                for (at, part) in parts.iter().enumerate() {
                    let opcode = if at == 0 { 0x01 } else { 0x00 };
                    let last = if at + 1 == parts.len() { 0x80 } else { 0 };
                    bytes.extend(frame(opcode | last, part));
                    bytes.extend(frame(0x89, &[at as u8]));
                    if last == 0 {
                        expected.push(Message::Ping(vec![at as u8].into()));
                    }
                }
                expected.push(Message::Text(text.clone()));
                expected.push(Message::Ping(vec![parts.len() as u8 - 1].into()));
            }
            prop_assert_eq!(read(&bytes, cut), Ok(expected));
        }

        #[test]
        fn no_bytes_upset_it_or_are_kept_beyond_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            let mut decoder = Decoder::new(100);
            let mut input = Bytes::from(bytes);
            while let Ok(Some(_)) = decoder.read(&mut input) {}
            prop_assert!(decoder.message.len() <= 100 && decoder.control.len() <= 125);
            prop_assert!(decoder.header.len() <= 14);
        }
    }
}
