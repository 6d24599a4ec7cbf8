//! Jobs over plain HTTP, for programs; the page uses the WebSocket.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, JobId, MAX_PICTURES, OwnerToken, PROTOCOL_VERSION,
    ServerInfo,
};

use super::{
    Site,
    body::{Caching, json, read_json},
    error::ApiError,
};
use crate::jobs::{Asking, Client, Unwatched};

/// What this server offers.
#[utoipa::path(
    get,
    path = "/api/info",
    tag = "server",
    responses(
        (
            status = 200,
            description = "Models, plans, limits and a finished example",
            body = ServerInfo
        ),
    )
)]
pub(super) async fn info(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let info = ServerInfo {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        models: site.scheduler.models().to_vec(),
        max_pictures: MAX_PICTURES,
        example: site.scheduler.example(),
    };
    json(&request, Caching::Ask, &info)
}

/// A job that will be drawn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Submitted {
    /// Name of the job and of its result.
    job: JobId,
    /// The owner's secret, told only here and again under the same key; it alone may cancel or
    /// delete.
    owner_token: OwnerToken,
    /// The request as accepted: model and seed filled in.
    request: GenerateRequest,
    /// Path of the result's page.
    url: String,
}

/// Asks for pictures. The job is on disk when this answers.
#[utoipa::path(
    post,
    path = "/api/jobs",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Name of the request, 1 to \
        255 visible characters, as a UUID: asked again under it, also after a restart of the \
        server, the same request gets the job that there is, with its owner's token; another one \
        is refused with 422. Keep it secret as the token.")),
    request_body = GenerateRequest,
    responses(
        (status = 202, description = "Accepted", body = Submitted,
            headers(("Location" = String, description = "Path of the job: GET it until its state \
                is final"))),
        (status = 400, description = "Not the JSON that is expected", body = ErrorBody),
        (status = 408, description = "The body took too long", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 422, description = "A value is out of its bounds, or another request has this \
            key", body = ErrorBody),
        (status = 429, description = "Queue full or too many requests", body = ErrorBody,
            headers(("Retry-After" = u32, description = "Seconds after which to try again"))),
        (status = 503, description = "Shutting down, or the job cannot be kept", body = ErrorBody),
    )
)]
pub(super) async fn submit(
    request: HttpRequest,
    payload: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let config = &site.config;
    let wanted: GenerateRequest =
        read_json(&request, payload, config.message_bytes, config.timeouts.request).await?;
    let key = idempotency_key(&request)?;
    let client = site.client(&request);
    site.limits.job(client)?;
    let client = Client { address: Some(client), conversation: 0 };
    let asking = Asking { unwatched: Unwatched::Stays, client, key };
    let accepted = site.scheduler.submit_as(wanted, asking).await?;
    let location = format!("/api/results/{}", accepted.job);
    let body = Submitted {
        url: format!("/r/{}", accepted.job),
        job: accepted.job,
        owner_token: accepted.owner_token,
        request: accepted.request,
    };
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(body))
}

/// Longest key of a client, in characters.
const LONGEST_KEY: usize = 255;

/// The key under which the client asks (IETF draft-ietf-httpapi-idempotency-key-header), if any.
///
/// # Errors
/// 400 when it is not one key of 1 to 255 visible ASCII characters.
fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut keys = request.headers().get_all("idempotency-key");
    let Some(key) = keys.next() else { return Ok(None) };
    let visible = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
    // The draft writes a string in quotes; most clients send it bare.
    match key.to_str().ok().map(|key| key.trim().trim_matches('"')) {
        Some(key)
            if (1..=LONGEST_KEY).contains(&key.len()) && visible(key) && keys.next().is_none() =>
        {
            return Ok(Some(format!("http\0{key}")));
        }
        _ => {}
    }
    let message = format!(
        "Idempotency-Key must be one key of 1 to {LONGEST_KEY} visible ASCII characters, as a UUID"
    );
    Err(ApiError::new(ErrorCode::MalformedBody, message))
}

/// Stops a job: its owner only.
#[utoipa::path(
    post,
    path = "/api/results/{id}/cancel",
    tag = "jobs",
    params(("id" = JobId, Path, description = "Name of the job")),
    security(("owner_token" = [])),
    responses(
        (status = 204, description = "It is stopped, at the latest after the running pass"),
        (status = 401, description = "No owner's token", body = ErrorBody),
        (
            status = 403,
            description = "Wrong owner's token, host or origin refused",
            body = ErrorBody
        ),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 409, description = "It has ended", body = ErrorBody),
        (status = 503, description = "It is stopped, which cannot be kept yet", body = ErrorBody),
    )
)]
pub(super) async fn cancel(
    request: HttpRequest,
    id: web::Path<JobId>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    site.scheduler.cancel(&id, &owner_token(&request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The token of `Authorization: Bearer …`.
///
/// # Errors
/// 401 when there is none.
pub(super) fn owner_token(request: &HttpRequest) -> Result<OwnerToken, ApiError> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(ApiError::no_token)?;
    match value.split_once(' ') {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() =>
        {
            Ok(OwnerToken(token.trim().to_owned()))
        }
        _ => Err(ApiError::no_token()),
    }
}
