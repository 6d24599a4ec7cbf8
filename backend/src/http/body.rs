//! Bodies in and out: JSON that is read within bounds, answers that caches can ask about.

use std::{io::Write, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, EntityTag, HeaderValue, IfNoneMatch, TryIntoHeaderValue},
    web::{self, Bytes, BytesMut},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use var_dd_protocol::ErrorCode;

use super::error::{ApiError, shortened};

/// Reads a JSON body of at most `most` bytes that arrives within `timeout`.
///
/// # Errors
/// [`ErrorCode::TooLarge`], [`ErrorCode::Timeout`] or [`ErrorCode::MalformedBody`].
pub(super) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
    timeout: Duration,
) -> Result<T, ApiError> {
    let malformed = |message: String| ApiError::new(ErrorCode::MalformedBody, message);
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
    let body = read_bytes(request, payload, most, timeout).await?;
    var_dd_protocol::from_json_object(&body).map_err(|error| {
        malformed(format!("the body is not the JSON that is expected here: {error}"))
    })
}

/// Reads a body of at most `most` bytes that arrives within `timeout`.
///
/// # Errors
/// [`ErrorCode::TooLarge`], [`ErrorCode::Timeout`], or [`ErrorCode::MalformedBody`] if it breaks
/// off or is compressed.
pub(super) async fn read_bytes(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
    timeout: Duration,
) -> Result<BytesMut, ApiError> {
    let malformed = |message: String| ApiError::new(ErrorCode::MalformedBody, message);
    // What it would unpack to has no bound.
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if let Some(coding) = coding.filter(|coding| !coding.is_empty() && *coding != "identity") {
        return Err(malformed(format!(
            "the body has the Content-Encoding {:?}; send it as it is, without one",
            shortened(&String::from_utf8_lossy(coding.as_bytes()))
        )));
    }
    let too_large = || {
        let message = format!("the body is over the limit of {most} bytes");
        ApiError::new(ErrorCode::TooLarge, message)
    };
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
    tokio::time::timeout(timeout, read).await.map_err(|_| {
        let message = format!("the body did not arrive within {} s", timeout.as_secs());
        ApiError::new(ErrorCode::Timeout, message)
    })?
}

/// Whether a client reads a content coding: named (or `*`) and not with weight 0.
pub(super) fn reads(request: &HttpRequest, coding: &str) -> bool {
    let lines = request.headers().get_all(header::ACCEPT_ENCODING);
    let items: Vec<(String, bool)> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(|text| text.parse::<f32>().ok());
            (name.trim().to_ascii_lowercase(), weight.is_none_or(|weight| weight > 0.0))
        })
        .collect();
    let of = |name: &str| items.iter().find(|(item, _)| item == name).map(|&(_, wanted)| wanted);
    of(coding).or_else(|| of("*")).unwrap_or(false)
}

/// Bodies below this size gain nothing by being compressed.
const LEAST_COMPRESSED: usize = 256;

/// The body compressed in a coding that the client reads, if that makes it smaller.
fn compressed(
    request: &HttpRequest,
    media_type: &str,
    body: &[u8],
) -> Option<(&'static str, Vec<u8>)> {
    let is_text = media_type.starts_with("text/") || media_type.starts_with("application/json");
    if !is_text || body.len() < LEAST_COMPRESSED {
        return None;
    }
    let (coding, packed) = if reads(request, "br") {
        let mut packed = Vec::new();
        // Most of what the best quality gains, in a fraction of its time.
        let parameters = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
        brotli::BrotliCompress(&mut &body[..], &mut packed, &parameters).ok()?;
        ("br", packed)
    } else if reads(request, "gzip") {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(body).ok()?;
        ("gzip", packer.finish().ok()?)
    } else {
        return None;
    };
    (packed.len() < body.len()).then_some((coding, packed))
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
    coded_answer(request, media_type, caching, None, body.into())
}

/// The same with a body that is in a content coding already, if one is given: it is sent as it is,
/// also where another compression would happen to make it a little smaller.
pub(super) fn coded_answer(
    request: &HttpRequest,
    media_type: &str,
    caching: Caching,
    coding: Option<&'static str>,
    body: Bytes,
) -> HttpResponse {
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
    response.content_type(media_type);
    let (coding, body) = match coding {
        Some(coding) => (Some(coding), body),
        None => match compressed(request, media_type, &body) {
            Some((coding, packed)) => (Some(coding), packed.into()),
            None => (None, body),
        },
    };
    if let Some(coding) = coding {
        response.insert_header((header::CONTENT_ENCODING, coding));
        response.insert_header((header::VARY, "Accept-Encoding"));
    }
    response.body(body)
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

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asking(accepted: &str) -> HttpRequest {
        TestRequest::default().insert_header((header::ACCEPT_ENCODING, accepted)).to_http_request()
    }

    #[test]
    fn compression_is_used_only_where_it_is_read() {
        for (accepted, coding, expected) in [
            ("gzip, deflate, br, zstd", "br", true),
            ("gzip", "br", false),
            ("br;q=0, gzip", "br", false),
            ("*", "br", true),
            ("*;q=0, gzip;q=0.5", "gzip", true),
            ("BR ; q=0.1", "br", true),
            ("", "gzip", false),
        ] {
            assert_eq!(reads(&asking(accepted), coding), expected, "{accepted:?} {coding}");
        }
    }

    #[test]
    fn only_long_texts_are_compressed() {
        let long = "a class name, ".repeat(100);
        let coding = |accepted: &str, media_type: &str, body: &str| {
            compressed(&asking(accepted), media_type, body.as_bytes()).map(|(coding, _)| coding)
        };
        assert_eq!(coding("gzip, br", "application/json", &long), Some("br"));
        assert_eq!(coding("gzip", "text/html; charset=utf-8", &long), Some("gzip"));
        assert_eq!(coding("identity", "application/json", &long), None);
        assert_eq!(coding("gzip, br", "image/png", &long), None);
        assert_eq!(coding("gzip, br", "application/json", "{}"), None);
    }
}
