//! Cross-origin requests (CORS, in the Fetch standard): pages of the origins that were allowed may
//! use the interface under `/api/` as the server's own page does.

use actix_web::{
    HttpRequest, HttpResponse,
    dev::ServiceResponse,
    http::header::{self, HeaderValue},
    web,
};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{Site, error::ApiError, security::Gate};

/// What such a page may send.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, if-none-match");

/// What such a page may read, beyond what every page may.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("allow, etag, location, retry-after");

/// Seconds for which the answer to a preflight holds.
const PREFLIGHT_HOLDS: HeaderValue = HeaderValue::from_static("600");

/// Tells the browser whether the page that asked may read the answer.
pub(super) fn add_headers<B>(gate: &Gate, response: &mut ServiceResponse<B>) {
    if !gate.allows_others() || !response.request().path().starts_with("/api/") {
        return;
    }
    let origin = gate.allowed_origin(response.request().headers());
    let headers = response.headers_mut();
    // Caches must not give an answer for one origin to another.
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

/// Answers a preflight for an address that takes the `allowed` methods.
///
/// # Errors
/// When it is none (405), or not of a page that is let in (403).
pub(super) fn preflight(
    site: &web::Data<Site>,
    request: &HttpRequest,
    allowed: &str,
) -> Result<HttpResponse, ApiError> {
    let headers = request.headers();
    let is_preflight = headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight || !site.gate.allows_others() {
        return Err(ApiError::method_not_allowed("OPTIONS", request.path(), allowed));
    }
    if site.gate.allowed_origin(headers).is_none() {
        let message = "pages of this origin may not use this server; start it with --allow-origin \
             to let them";
        return Err(ErrorBody::new(ErrorCode::OriginRefused, message).into());
    }
    Ok(HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, allowed))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_HOLDS))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}
