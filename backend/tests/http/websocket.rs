//! RFC 6455 over raw sockets: what the server answers to each frame, right or wrong.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::server::Server;

/// Longer than anything here takes; ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

const HELLO: &[u8] = br#"{"type":"hello","version":1}"#;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const LAST: u8 = 0x80;

/// A frame as a client must send it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64, true);
    let mask = [0xa5, 0x5a, 0x0f, 0xf0];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header of a frame, without its mask.
fn header(first: u8, length: u64, masked: bool) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut header = vec![first];
    match length {
        0..=125 => header.push(bit | length as u8),
        126..=0xffff => {
            header.push(bit | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(bit | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(LAST | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Frame(u8, Vec<u8>),
    /// A close frame with its code, if it has one.
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

struct Raw(TcpStream);

impl Raw {
    /// A connection whose handshake is done.
    async fn open(server: &Server) -> Self {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(request(server, &[]).as_bytes()).await.unwrap();
        let head = head(&mut socket).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The example of RFC 6455, section 1.3.
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(head.to_ascii_lowercase().contains(&accept.to_ascii_lowercase()), "{head}");
        Self(socket)
    }

    /// One that has said hello, too.
    async fn greeted(server: &Server) -> Self {
        let mut raw = Self::open(server).await;
        raw.send(&frame(LAST | TEXT, HELLO)).await;
        let answer = raw.next().await;
        assert!(matches!(&answer, Sent::Frame(first, _) if *first == LAST | TEXT), "{answer:?}");
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A server that has had enough may have hung up; what it said before can still be read.
        let _ = self.0.write_all(bytes).await;
    }

    /// What comes next, pings apart.
    async fn next(&mut self) -> Sent {
        loop {
            match timeout(LIMIT, self.read()).await.expect("the server says nothing") {
                Ok(Sent::Frame(first, _)) if first == LAST | PING => {}
                Ok(sent) => return sent,
                Err(_) => return Sent::End,
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Sent> {
        let first = self.0.read_u8().await?;
        let length = match self.0.read_u8().await? {
            126 => u64::from(self.0.read_u16().await?),
            127 => self.0.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(match first {
            first if first == LAST | CLOSE => {
                Sent::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))
            }
            first => Sent::Frame(first, payload),
        })
    }

    /// The code that the server closes with, whatever it says before.
    async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Sent::Close(code) => {
                    assert_eq!(self.next().await, Sent::End, "nothing follows a close frame");
                    return code;
                }
                Sent::End => panic!("the connection ended without a close frame"),
                Sent::Frame(..) => {}
            }
        }
    }
}

/// A handshake with some headers more, or instead of those of their name.
fn request(server: &Server, changed: &[(&str, &str)]) -> String {
    let host = server.address.to_string();
    let headers = [
        ("Host", host.as_str()),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let kept = headers.iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    let lines = kept.chain(changed).filter(|(_, value)| !value.is_empty());
    let lines: String = lines.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /api/ws HTTP/1.1\r\n{lines}\r\n")
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(LIMIT, socket.read_u8()).await.expect("no head comes");
        match byte {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_with_its_status() {
    let server = Server::start(&[]).await;
    let cases: [(&[(&str, &str)], u16); 18] = [
        (&[("Upgrade", "")], 400),
        (&[("Upgrade", "h2c")], 400),
        (&[("Upgrade", "h2c, WebSocket")], 101),
        (&[("Connection", "")], 400),
        (&[("Connection", "close")], 400),
        (&[("Connection", "keep-alive, UPGRADE")], 101),
        (&[("Sec-WebSocket-Version", "")], 426),
        (&[("Sec-WebSocket-Version", "8")], 426),
        (&[("Sec-WebSocket-Version", "12")], 426),
        (&[("Sec-WebSocket-Version", "14")], 426),
        (&[("Sec-WebSocket-Version", "13, 8")], 426),
        (&[("Sec-WebSocket-Version", "x")], 426),
        (&[("Sec-WebSocket-Key", "")], 400),
        (&[("Sec-WebSocket-Key", "short")], 400),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSB0b28gbG9uZw==")], 400),
        (&[("Sec-WebSocket-Key", "!GhlIHNhbXBsZSBub25jZQ==")], 400),
        (&[("Sec-WebSocket-Protocol", "chat, superchat")], 101),
        (&[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")], 101),
    ];
    for (changed, status) in cases {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(request(&server, changed).as_bytes()).await.unwrap();
        let head = head(&mut socket).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{changed:?}: {head}");
        let lower = head.to_ascii_lowercase();
        assert_eq!(lower.contains("sec-websocket-version: 13"), status == 426, "{changed:?}");
        assert!(!lower.contains("sec-websocket-extensions"), "none is agreed on: {head}");
        assert!(!lower.contains("sec-websocket-protocol"), "none is agreed on: {head}");
    }
    for (line, refused) in [
        ("GET /api/ws HTTP/1.0", "HTTP/1.0 400 "),
        ("POST /api/ws HTTP/1.1", "HTTP/1.1 405 "),
        ("HEAD /api/ws HTTP/1.1", "HTTP/1.1 400 "),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = request(&server, &[]).replace("GET /api/ws HTTP/1.1", line);
        socket.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut socket).await;
        assert!(head.starts_with(refused), "{line}: {head}");
    }
}

#[tokio::test]
async fn frames_against_the_rules_are_told_which_kind_of_fault_it_was() {
    let server = Server::start(&["--requests-per-second=0"]).await;
    let mut cases: Vec<(String, Vec<u8>, u16)> = Vec::new();
    let mut case = |what: &str, bytes: Vec<u8>, code: u16| cases.push((what.into(), bytes, code));
    for bits in [0x10, 0x20, 0x40, 0x30, 0x50, 0x60, 0x70] {
        case(&format!("reserved bits {bits:02x}"), frame(LAST | TEXT | bits, b"x"), 1002);
    }
    for bits in [0x10, 0x40] {
        case(
            &format!("a ping with reserved bits {bits:02x}"),
            frame(LAST | PING | bits, b""),
            1002,
        );
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        case(&format!("opcode {opcode}"), frame(LAST | opcode, b"x"), 1002);
    }
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        let mut bytes = header(LAST | opcode, 4, false);
        bytes.extend(b"oops");
        case(&format!("opcode {opcode} without mask"), bytes, 1002);
    }
    for opcode in [PING, PONG, CLOSE] {
        case(&format!("opcode {opcode} in pieces"), frame(opcode, b"ab"), 1002);
        case(&format!("opcode {opcode} of 126 bytes"), frame(LAST | opcode, &[0x33; 126]), 1002);
        case(&format!("opcode {opcode} of 70000 bytes"), header(LAST | opcode, 70_000, true), 1002);
    }
    for first in [0x00, LAST] {
        case(&format!("a continuation {first:02x} of nothing"), frame(first, b"x"), 1002);
    }
    for (one, other) in [(TEXT, TEXT), (TEXT, BINARY), (BINARY, TEXT), (BINARY, BINARY)] {
        let bytes = [frame(one, b"{"), frame(LAST | other, b"}")].concat();
        case(&format!("opcode {other} within {one}"), bytes, 1002);
    }
    let wrong_form = |short: u8, length: &[u8]| [&[LAST | TEXT, 0x80 | short], length].concat();
    case("5 bytes in the middle form", wrong_form(126, &5_u16.to_be_bytes()), 1002);
    case("125 bytes in the middle form", wrong_form(126, &125_u16.to_be_bytes()), 1002);
    case("5 bytes in the long form", wrong_form(127, &5_u64.to_be_bytes()), 1002);
    case("65535 bytes in the long form", wrong_form(127, &65_535_u64.to_be_bytes()), 1002);
    case("a length with its first bit set", wrong_form(127, &(1_u64 << 63).to_be_bytes()), 1002);
    case("a length of all bits", wrong_form(127, &u64::MAX.to_be_bytes()), 1002);
    for (what, length) in [("64 KiB and one", (64 << 10) + 1), ("2^32", 1 << 32), ("2^40", 1 << 40)]
    {
        case(&format!("{what} announced as text"), header(LAST | TEXT, length, true), 1009);
        case(&format!("{what} announced as bytes"), header(LAST | BINARY, length, true), 1009);
    }
    let half = vec![b' '; 40 << 10];
    let pieces = [frame(TEXT, &half), header(LAST, 40 << 10, true)].concat();
    case("two pieces over the limit", pieces, 1009);
    let many: Vec<u8> = std::iter::once(frame(TEXT, &half[..8192]))
        .chain((0..8).map(|_| frame(0x00, &half[..8192])))
        .flatten()
        .collect();
    case("nine pieces over the limit", many, 1009);
    for (what, text) in [
        ("a lone first byte", &b"\xc3"[..]),
        ("a lone later byte", b"\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong NUL", b"\xe0\x80\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("bytes that never are", b"\xfe\xff"),
        ("a character cut off after text", b"{\"type\":\"\xe2\x82"),
    ] {
        case(&format!("text with {what}"), frame(LAST | TEXT, text), 1007);
    }
    let cut = [frame(TEXT, b"\xe2\x82"), frame(LAST, b"")].concat();
    case("text that ends within a character, in pieces", cut, 1007);
    let early = [frame(TEXT, b"ok \xff"), vec![]].concat();
    case("text that is wrong in its first piece", early, 1007);
    case("a close frame of one byte", frame(LAST | CLOSE, b"\x03"), 1002);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        case(&format!("close code {code}"), close(code, b""), 1002);
    }
    case("a close reason that is not UTF-8", close(1000, b"\xff"), 1007);
    assert!(cases.len() >= 75, "{}", cases.len());
    let server = &server;
    let tried = cases.into_iter().map(|(what, bytes, code)| async move {
        let mut raw = Raw::greeted(server).await;
        raw.send(&bytes).await;
        assert_eq!(raw.close_code().await, Some(code), "{what}");
    });
    stream::iter(tried).buffer_unordered(32).collect::<()>().await;
}

#[tokio::test]
async fn frames_within_the_rules_are_served() {
    let server = Server::start(&["--requests-per-second=0"]).await;
    // Close codes come back as they were sent.
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999]
    {
        let mut raw = Raw::greeted(&server).await;
        raw.send(&close(code, "für später".as_bytes())).await;
        assert_eq!(raw.close_code().await, Some(code));
    }
    let mut raw = Raw::greeted(&server).await;
    raw.send(&frame(LAST | CLOSE, b"")).await;
    assert_eq!(raw.close_code().await, Some(1000));
    // After a close frame nothing is served.
    let mut raw = Raw::greeted(&server).await;
    raw.send(&[close(1000, b""), frame(LAST | PING, b"late")].concat()).await;
    assert_eq!(raw.next().await, Sent::Close(Some(1000)));
    assert_eq!(raw.next().await, Sent::End);

    let mut raw = Raw::greeted(&server).await;
    for length in [0, 1, 4, 5, 124, 125] {
        let payload = vec![0x41; length];
        raw.send(&frame(LAST | PING, &payload)).await;
        assert_eq!(raw.next().await, Sent::Frame(LAST | PONG, payload), "a ping of {length}");
        raw.send(&frame(LAST | PONG, &vec![0x42; length])).await;
    }
    // Each of these is one message, which is answered with one error or one hello.
    let hello = |cut: &[usize]| {
        let mut bytes = Vec::new();
        let mut from = 0;
        for (at, &to) in cut.iter().chain([&HELLO.len()]).enumerate() {
            let opcode = if at == 0 { TEXT } else { 0x00 };
            let last = if to == HELLO.len() { LAST } else { 0 };
            bytes.extend(frame(opcode | last, &HELLO[from..to]));
            from = to;
        }
        bytes
    };
    for (what, bytes) in [
        ("whole", hello(&[])),
        ("in two pieces", hello(&[9])),
        ("in three", hello(&[1, 20])),
        ("with empty pieces", hello(&[0, 5, 5])),
        ("byte by byte", hello(&(1..HELLO.len()).collect::<Vec<_>>())),
        ("a long text", frame(LAST | TEXT, &vec![b' '; 64 << 10])),
        ("a text of 126", frame(LAST | TEXT, &[b' '; 126])),
        ("a text of 65535", frame(LAST | TEXT, &vec![b' '; 65_535])),
        ("an empty text", frame(LAST | TEXT, b"")),
        ("every length of character", frame(LAST | TEXT, "aé€🦀".as_bytes())),
        ("a character in pieces", {
            [frame(TEXT, b"\xf0\x9f"), frame(0x00, b"\xa6"), frame(LAST, b"\x80")].concat()
        }),
        ("bytes", frame(LAST | BINARY, b"\xff\x00")),
        ("no bytes", frame(LAST | BINARY, b"")),
        ("bytes in pieces", [frame(BINARY, b"\xff"), frame(LAST, b"\xfe")].concat()),
        ("a mask of zeros", {
            let mut bytes = header(LAST | TEXT, HELLO.len() as u64, true);
            bytes.extend([0; 4]);
            bytes.extend(HELLO);
            bytes
        }),
    ] {
        let mut raw = Raw::greeted(&server).await;
        // In one write, then in single bytes where that is no test of patience.
        let drip = if bytes.len() < 500 { 1 } else { bytes.len() };
        for piece in [bytes.len(), drip] {
            for piece in bytes.chunks(piece) {
                raw.send(piece).await;
            }
            let answer = raw.next().await;
            assert!(matches!(&answer, Sent::Frame(first, _) if *first == LAST | TEXT), "{what}");
        }
        raw.send(&frame(LAST | PING, b"still there")).await;
        assert_eq!(raw.next().await, Sent::Frame(LAST | PONG, b"still there".to_vec()), "{what}");
    }
    // Control frames come between the pieces of a message.
    let mut raw = Raw::greeted(&server).await;
    raw.send(&frame(TEXT, &HELLO[..7])).await;
    raw.send(&frame(LAST | PING, b"between")).await;
    assert_eq!(raw.next().await, Sent::Frame(LAST | PONG, b"between".to_vec()));
    raw.send(&frame(LAST, &HELLO[7..])).await;
    assert!(matches!(raw.next().await, Sent::Frame(..)));
}

#[tokio::test]
async fn before_hello_little_is_taken() {
    let server = Server::start(&[]).await;
    for bytes in [
        frame(LAST | TEXT, &[b' '; 2000]),
        header(LAST | BINARY, 1 << 40, true),
        [frame(TEXT, &[b' '; 1000]), header(0x00, 1000, true)].concat(),
    ] {
        let mut raw = Raw::open(&server).await;
        raw.send(&bytes).await;
        assert_eq!(raw.close_code().await, Some(1009));
    }
}

#[tokio::test]
async fn a_message_that_does_not_end_ends_the_connection() {
    let server = Server::adjusted(&[], |config, _| {
        config.http.timeouts.request = Duration::from_secs(3);
    })
    .await;
    for bytes in [vec![LAST | TEXT], frame(TEXT, b"{"), frame(LAST | TEXT, HELLO)[..9].to_vec()] {
        let mut raw = Raw::greeted(&server).await;
        raw.send(&bytes).await;
        // Control frames between the pieces are no way around.
        if bytes.len() > 1 && bytes[0] == TEXT {
            raw.send(&frame(LAST | PONG, b"")).await;
        }
        assert_eq!(raw.close_code().await, Some(1008));
    }
}

/// Bytes that this process holds in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn what_a_frame_announces_takes_no_memory() {
    let server = Server::start(&["--requests-per-second=0"]).await;
    drop(Raw::greeted(&server).await);
    let before = resident();
    let mut most = before;
    let megabyte = vec![0x55; 1 << 20];
    let mut sent = 0_u64;
    for greeted in [false, true, false, true] {
        let mut raw = if greeted { Raw::greeted(&server).await } else { Raw::open(&server).await };
        raw.send(&header(LAST | BINARY, 1 << 40, true)).await;
        for _ in 0..256 {
            // Written until the server hangs up, which it is free to do at once.
            if raw.0.write_all(&megabyte).await.is_err() {
                break;
            }
            sent += 1;
            most = most.max(resident());
        }
    }
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown <= 16, "{sent} MB were sent and {grown} MB were kept");
}
