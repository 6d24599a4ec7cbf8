//! Bodies in and out: JSON that is read within bounds, answers that caches can ask about.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, EntityTag, HeaderValue, IfNoneMatch, TryIntoHeaderValue},
    web::{self, Bytes, BytesMut},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use var_dd_protocol::ErrorCode;

use super::error::{ApiError, shortened};

/// Reads a JSON body of at most `most` bytes that arrives within `patience`.
///
/// # Errors
/// [`ErrorCode::TooLarge`], [`ErrorCode::Timeout`] or [`ErrorCode::MalformedBody`].
pub(super) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
    patience: Duration,
) -> Result<T, ApiError> {
    let malformed = |message: String| ApiError::new(ErrorCode::MalformedBody, message);
    let too_large = || {
        let message = format!("the body is over the limit of {most} bytes");
        ApiError::new(ErrorCode::TooLarge, message)
    };
    // Asking for this type also makes browsers ask first before another page may send it.
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let essence = media_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(malformed(format!(
            "the body must be sent as `Content-Type: application/json`, not {:?}",
            shortened(essence)
        )));
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut payload = payload;
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| malformed(format!("the body broke off: {error}")))?;
            if body.len() + chunk.len() > most {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    let body = tokio::time::timeout(patience, read).await.map_err(|_| {
        let message = format!("the body did not arrive within {} s", patience.as_secs());
        ApiError::new(ErrorCode::Timeout, message)
    })??;
    serde_json::from_slice(&body).map_err(|error| {
        malformed(format!("the body is not the JSON that is expected here: {error}"))
    })
}

/// How long a response may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// It never changes.
    Immutable,
    /// It may be kept and must be asked about before every use.
    Ask,
    /// It may not be kept.
    Never,
}

impl Caching {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Caching::Immutable => "public, max-age=31536000, immutable",
            Caching::Ask => "no-cache",
            Caching::Never => "no-store",
        })
    }
}

/// A body with its type, and an `ETag` where it may be kept; 304 without body if the client has it
/// already.
pub(super) fn answer(
    request: &HttpRequest,
    media_type: &str,
    caching: Caching,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let body = body.into();
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, caching.header()));
    if caching != Caching::Never {
        let digest = Sha256::digest(&body);
        let tag: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = EntityTag::new_strong(tag);
        let known = match request.headers().get(header::IF_NONE_MATCH) {
            Some(_) => match header::Header::parse(request) {
                Ok(IfNoneMatch::Any) => true,
                Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|other| other.weak_eq(&tag)),
                Err(_) => false,
            },
            None => false,
        };
        if known {
            response.status(actix_web::http::StatusCode::NOT_MODIFIED);
        }
        if let Ok(value) = tag.try_into_value() {
            response.insert_header((header::ETAG, value));
        }
        if known {
            return response.finish();
        }
    }
    response.content_type(media_type).body(body)
}

/// A value as JSON.
pub(super) fn json(
    request: &HttpRequest,
    caching: Caching,
    value: &impl serde::Serialize,
) -> Result<HttpResponse, ApiError> {
    let body = serde_json::to_vec(value).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("the answer cannot be written: {error}"))
    })?;
    Ok(answer(request, "application/json", caching, body))
}
