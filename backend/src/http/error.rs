//! Errors over HTTP: one table from code to status, one body for all of them.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use var_dd_protocol::{ErrorBody, ErrorCode};

/// The HTTP status of every error code.
pub fn status(code: ErrorCode) -> StatusCode {
    use ErrorCode::*;
    match code {
        MalformedMessage | MalformedBody | ProtocolVersion => StatusCode::BAD_REQUEST,
        NotOwner | OriginRefused => StatusCode::FORBIDDEN,
        NotFound => StatusCode::NOT_FOUND,
        MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Timeout => StatusCode::REQUEST_TIMEOUT,
        Conflict => StatusCode::CONFLICT,
        TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        UnknownModel | ClassOutOfRange | InvalidPlan | InvalidExplore | InvalidPicture
        | NoTeacher | CountOutOfRange | SeedOutOfRange | DeadlineOutOfRange | KeyReused => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        QueueFull | RateLimited | TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
        ShuttingDown | OutOfMemory | StorageFailed | DeadlinePassed => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error on its way out over HTTP.
#[derive(Debug)]
pub struct ApiError {
    body: ErrorBody,
    status: StatusCode,
    /// Boxed, so that the error stays small beside the results it travels with.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ApiError {
    /// An error with the status of its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorBody::new(code, message).into()
    }

    /// The request names no owner's token (401; a wrong one is 403).
    pub fn no_token() -> Self {
        let message = "only its owner may do this; send the owner's token as in `Authorization: \
            Bearer TOKEN`";
        Self {
            status: StatusCode::UNAUTHORIZED,
            header: Some(Box::new((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))),
            ..Self::new(ErrorCode::NotOwner, message)
        }
    }

    /// The address exists, but not with this method.
    pub fn method_not_allowed(method: &str, path: &str, allowed: &str) -> Self {
        let method: String = method.chars().take(20).collect();
        let message = format!("{method} cannot be used on {}; use {allowed}", shortened(path));
        Self {
            header: HeaderValue::from_str(allowed)
                .ok()
                .map(|value| Box::new((header::ALLOW, value))),
            ..Self::new(ErrorCode::MethodNotAllowed, message)
        }
    }

    /// A WebSocket handshake for another version than the one spoken here.
    pub fn other_websocket_version(version: &'static str) -> Self {
        let message = format!(
            "this address speaks version {version} of WebSockets, which the header \
             Sec-WebSocket-Version must name; a proxy before this server must pass it on"
        );
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            header: Some(Box::new((
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(version),
            ))),
            ..Self::new(ErrorCode::MalformedBody, message)
        }
    }

    /// Nothing is served at this path.
    pub fn no_such_path(path: &str) -> Self {
        let message =
            format!("nothing is served at {}; /api/openapi.json lists what is", shortened(path));
        Self::new(ErrorCode::NotFound, message)
    }
}

/// The whole answer to a connection that is not taken in, as bytes: nothing of it was read.
pub fn refusal_on_the_wire(error: &ErrorBody) -> Vec<u8> {
    let body = serde_json::to_string(error).unwrap_or_default();
    let status = status(error.code);
    let retry_after =
        error.retry_after_s.map(|wait| format!("retry-after: {wait}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n{retry_after}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a message repeats of a text that somebody sent.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whole seconds, rounded up, for `Retry-After`.
pub fn seconds(wait: Duration) -> u32 {
    wait.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)).try_into().unwrap_or(u32::MAX)
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self { status: status(body.code), header: None, body }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.body.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(pair) = &self.header {
            response.insert_header((pair.0.clone(), pair.1.clone()));
        }
        response.json(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_with_the_seconds_to_wait() {
        let body = ErrorBody::new(ErrorCode::QueueFull, "64 of 64 jobs wait").retry_after(7);
        let response = ApiError::from(body).error_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "7");
    }

    #[test]
    fn a_missing_token_asks_for_one_and_a_wrong_one_is_forbidden() {
        let response = ApiError::no_token().error_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers().get(header::WWW_AUTHENTICATE).unwrap(), "Bearer");
        assert_eq!(status(ErrorCode::NotOwner), StatusCode::FORBIDDEN);
    }

    #[test]
    fn seconds_to_wait_are_rounded_up_and_never_none() {
        for (wait_ms, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_500, 60)] {
            assert_eq!(seconds(Duration::from_millis(wait_ms)), expected, "{wait_ms} ms");
        }
    }

    #[test]
    fn a_message_repeats_no_more_than_a_line_of_what_was_sent() {
        let error = ApiError::no_such_path(&"ä".repeat(10_000));
        assert!(error.to_string().chars().count() < 200, "{error}");
    }
}
