//! WebSockets (RFC 6455) over the request and response bodies of an upgraded connection.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use actix_http::ws::{OpCode, hash_key};
use actix_web::{
    HttpRequest, HttpResponse,
    error::PayloadError,
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderMap, HeaderValue},
    },
    web,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use var_dd_protocol::ErrorCode;

use super::error::{ApiError, shortened};

pub(super) mod frame;

pub(super) use actix_http::ws::CloseCode;
pub(super) use frame::{Message, Violation};

/// The only version of the protocol there is.
const VERSION: &str = "13";

/// Frames on their way to the connection.
const FRAMES_WAITING: usize = 16;

/// Checks the handshake of a client (RFC 6455, section 4.2.1).
///
/// # Errors
/// What is missing or wrong; 426 with the version that is spoken here where it is another.
fn handshake(request: &HttpRequest) -> Result<String, ApiError> {
    let wrong = |what: &str| {
        let message = format!("this address takes WebSocket handshakes: {what}");
        Err(ApiError::new(ErrorCode::MalformedBody, message))
    };
    let headers = request.headers();
    let lists = |name, wanted: &str| {
        headers
            .get_all(name)
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    if request.method() != Method::GET {
        return wrong("the method must be GET");
    }
    if request.version() < Version::HTTP_11 {
        return wrong(
            "they need HTTP/1.1 or newer; a proxy before this server must speak it (nginx: \
             `proxy_http_version 1.1;`)",
        );
    }
    if !lists(header::UPGRADE, "websocket") {
        return wrong(
            "the header `Upgrade: websocket` is missing; a proxy before this server must pass \
             Upgrade and Connection on (nginx: `proxy_set_header Upgrade $http_upgrade;` and \
             `proxy_set_header Connection \"upgrade\";`)",
        );
    }
    if !lists(header::CONNECTION, "upgrade") {
        return wrong(
            "the header `Connection: Upgrade` is missing; a proxy before this server must pass it \
             on (nginx: `proxy_set_header Connection \"upgrade\";`)",
        );
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION);
    if versions.next().is_none_or(|version| version != VERSION) || versions.next().is_some() {
        return Err(ApiError::other_websocket_version(VERSION));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY);
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => {
            Ok(String::from_utf8_lossy(&hash_key(key.as_bytes())).into_owned())
        }
        (Some(_), None) => wrong("Sec-WebSocket-Key must be 16 bytes in base64"),
        _ => wrong(
            "there must be one Sec-WebSocket-Key; a proxy before this server must pass the headers \
             Sec-WebSocket-* on",
        ),
    }
}

/// WebSockets that did not open: each reason is told of in the log once, since it is mostly a proxy
/// that leaves something out, and only the browser hears of it.
#[derive(Debug, Default)]
pub(super) struct FailedHandshakes(Mutex<BTreeSet<String>>);

impl FailedHandshakes {
    /// Tells why a handshake failed unless one has failed for that before.
    pub(super) fn tell(&self, headers: &HeaderMap, why: &ApiError) {
        if !self.is_new(why) {
            return;
        }
        let shown = |name| match headers.get(name) {
            Some(value) => shortened(&String::from_utf8_lossy(HeaderValue::as_bytes(value))),
            None => "(none)".to_owned(),
        };
        tracing::warn!(
            host = ?shown(header::HOST),
            origin = ?shown(header::ORIGIN),
            "a WebSocket did not open: {why}. This is said once"
        );
    }

    /// Whether it is the first one to fail for this. Reasons are as few as `handshake` has.
    fn is_new(&self, why: &ApiError) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_string())
    }
}

/// Whether a key is 16 bytes in base64: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(digit) && key[22..] == *b"=="
}

/// Accepts a handshake: the answer, and both directions of the connection.
///
/// # Errors
/// When the request is not a handshake.
pub(super) fn accept(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
) -> Result<(HttpResponse, Sender, Receiver), ApiError> {
    let accepted = handshake(request)?;
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING);
    let response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS)
        .upgrade("websocket")
        .insert_header((header::SEC_WEBSOCKET_ACCEPT, accepted))
        .streaming(ReceiverStream::new(waiting).map(Ok::<_, actix_web::Error>));
    let receiver =
        Receiver { payload, input: Bytes::new(), decoder: frame::Decoder::new(most), begun: None };
    Ok((response, Sender(frames), receiver))
}

/// The other side is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Sends frames.
#[derive(Clone, Debug)]
pub(super) struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// Sends a frame; waits while those before it are not taken.
    ///
    /// # Errors
    /// When the other side is gone.
    pub(super) async fn send(&self, opcode: OpCode, payload: &[u8]) -> Result<(), Gone> {
        self.0.send(frame::encode(opcode, payload)).await.map_err(|_| Gone)
    }

    /// Sends the last frame.
    ///
    /// # Errors
    /// When the other side is gone.
    pub(super) async fn close(self, code: CloseCode, reason: &str) -> Result<(), Gone> {
        self.send(OpCode::Close, &frame::close_payload(code.into(), reason)).await
    }
}

/// Why no message comes.
#[derive(Debug)]
pub(super) enum ReceiveError {
    /// The other side is gone.
    Gone,
    /// It does not keep to the rules.
    Violation(Violation),
    /// A message that began does not end.
    TooSlow,
}

/// Receives messages.
pub(super) struct Receiver {
    payload: web::Payload,
    input: Bytes,
    decoder: frame::Decoder,
    /// When the message began that is not complete.
    begun: Option<Instant>,
}

impl Receiver {
    /// Takes messages of at most `most` bytes from now on.
    pub(super) fn set_limit(&mut self, most: usize) {
        self.decoder.set_limit(most);
    }

    /// The limit of a message in bytes.
    pub(super) fn limit(&self) -> usize {
        self.decoder.limit()
    }

    /// The next message or control frame. One that has begun must be complete within `time`.
    /// Cancel safe.
    ///
    /// # Errors
    /// When none comes any more.
    pub(super) async fn next(&mut self, time: Duration) -> Result<Message, ReceiveError> {
        loop {
            let message = self.decoder.read(&mut self.input).map_err(ReceiveError::Violation)?;
            if !self.decoder.is_midway() {
                self.begun = None;
            } else {
                self.begun.get_or_insert_with(Instant::now);
            }
            if let Some(message) = message {
                return Ok(message);
            }
            let chunk = match self.begun {
                None => self.payload.next().await,
                Some(begun) => timeout_at(begun + time, self.payload.next())
                    .await
                    .map_err(|_| ReceiveError::TooSlow)?,
            };
            self.input = chunk
                .transpose()
                .map_err(|_: PayloadError| ReceiveError::Gone)?
                .ok_or(ReceiveError::Gone)?;
        }
    }

    /// Reads on for `time` without keeping anything, so that closing over unread bytes does not
    /// reset the connection before the other side has read why.
    pub(super) async fn drain(mut self, time: Duration) {
        let gone = async { while let Some(Ok(_)) = self.payload.next().await {} };
        // Who goes on sending is cut off in the middle.
        let _ = tokio::time::timeout(time, gone).await;
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const HEADERS: [(&str, &str); 4] = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The handshake without a header, as a proxy passes it on.
    fn without(left_out: &str, version: Version) -> Result<String, ApiError> {
        let headers = HEADERS.into_iter().filter(|(name, _)| *name != left_out);
        let request = headers.fold(TestRequest::get().version(version), |request, header| {
            request.insert_header(header)
        });
        handshake(&request.to_http_request())
    }

    #[test]
    fn each_thing_that_a_proxy_leaves_out_is_named_once() {
        assert!(without("", Version::HTTP_11).is_ok());
        let failed = FailedHandshakes::default();
        for (left_out, version, named) in [
            ("", Version::HTTP_10, "proxy_http_version 1.1;"),
            ("Upgrade", Version::HTTP_11, "proxy_set_header Upgrade $http_upgrade;"),
            ("Connection", Version::HTTP_11, "proxy_set_header Connection"),
            ("Sec-WebSocket-Version", Version::HTTP_11, "Sec-WebSocket-Version"),
            ("Sec-WebSocket-Key", Version::HTTP_11, "Sec-WebSocket-*"),
        ] {
            let error = without(left_out, version).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(named) && text.contains("proxy"), "{text}");
            assert!(failed.is_new(&error), "{text}");
            assert!(!failed.is_new(&error), "{text}");
        }
    }
}
