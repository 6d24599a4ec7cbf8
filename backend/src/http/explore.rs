//! What leaves nothing behind: tokens of a result, previews, pictures of one's own as tokens,
//! pictures drawn again.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;
use utoipa::IntoParams;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, JobId, TokenReport, TokenizedPicture, Verification,
};

use super::{
    Site,
    body::{Caching, answer, json, read_bytes, read_json},
    error::{ApiError, shortened},
    upload,
};
use crate::verification;

/// Which picture of a result.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TokensQuery {
    /// Index of the picture, from 0; 0 if absent.
    picture: Option<u32>,
}

/// Every token of a picture: its codeword, how far it lies from that, and the law that it was drawn
/// by. Computed anew and kept nowhere.
#[utoipa::path(
    get,
    path = "/api/results/{id}/tokens",
    tag = "results",
    params(("id" = JobId, Path, description = "Name of the result"), TokensQuery),
    responses(
        (status = 200, description = "The tokens of each scale", body = TokenReport),
        (status = 400, description = "Unknown query", body = ErrorBody),
        (status = 404, description = "No such result or picture (any more)", body = ErrorBody),
        (status = 422, description = "The model that drew it is not loaded", body = ErrorBody),
        (status = 503, description = "Shutting down, or no memory", body = ErrorBody),
    )
)]
pub(super) async fn tokens(
    request: HttpRequest,
    id: web::Path<JobId>,
    query: web::Query<TokensQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    site.limits.job(site.client(&request))?;
    let report = site.scheduler.tokens(&id, query.picture.unwrap_or(0)).await?;
    json(&request, Caching::Never, &report)
}

/// The finished picture of a request, small and at once; kept nowhere. A request whose connection
/// closes before the device has it is dropped.
#[utoipa::path(
    post,
    path = "/api/preview",
    tag = "jobs",
    request_body = GenerateRequest,
    responses(
        (status = 200, description = "The first picture of the request", body = Vec<u8>,
            content_type = "image/jpeg"),
        (status = 400, description = "Not the JSON that is expected", body = ErrorBody),
        (status = 404, description = "A parent is not there (any more)", body = ErrorBody),
        (status = 408, description = "The body took too long", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 422, description = "A value is out of its bounds", body = ErrorBody),
        (status = 503, description = "Shutting down, or no memory", body = ErrorBody),
    )
)]
pub(super) async fn preview(
    request: HttpRequest,
    payload: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let config = &site.config;
    let wanted: GenerateRequest =
        read_json(&request, payload, config.message_bytes, config.timeouts.request).await?;
    let (header, bytes) = site.scheduler.preview(wanted).await?;
    Ok(answer(&request, header.media_type.as_str(), Caching::Never, bytes))
}

/// Whose tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EncodeQuery {
    /// Name of a loaded model; the server's first one if absent.
    model: Option<String>,
}

/// A picture of one's own as tokens, to go on from. Neither the picture nor its tokens are kept.
#[utoipa::path(
    post,
    path = "/api/encode",
    tag = "jobs",
    params(EncodeQuery),
    request_body(content = Vec<u8>, description = "A PNG, JPEG or WebP of at most 16 MiB and 50 \
        megapixels, 8 bits a channel, not animated", content_type = "image/png"),
    responses(
        (status = 200, description = "Its tokens, and the picture up to each scale",
            body = TokenizedPicture),
        (status = 400, description = "Not sent as a picture", body = ErrorBody),
        (status = 408, description = "The body took too long", body = ErrorBody),
        (status = 413, description = "The picture has too many bytes", body = ErrorBody),
        (status = 422, description = "No picture, out of bounds, or no such model",
            body = ErrorBody),
        (status = 503, description = "Shutting down, or no memory", body = ErrorBody),
    )
)]
pub(super) async fn encode(
    request: HttpRequest,
    payload: web::Payload,
    query: web::Query<EncodeQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    check_media_type(&request, &["image/png", "image/jpeg", "image/webp"])?;
    site.limits.job(site.client(&request))?;
    let info = site.scheduler.model(query.model.as_deref())?;
    let side = info.image_size;
    let timeout = site.config.timeouts.request;
    let bytes = read_bytes(&request, payload, upload::MAX_BYTES, timeout).await?;
    let decoded = web::block(move || upload::decode(&bytes, side)).await.map_err(|_| stopping())?;
    let encoded = site.scheduler.encode(&info.name, decoded?).await?;
    json(&request, Caching::Never, &encoded)
}

/// A downloaded picture held against its own request, drawn again. Nothing of it is kept.
#[utoipa::path(
    post,
    path = "/api/verify",
    tag = "jobs",
    request_body(content((Vec<u8> = "image/png"), (Vec<u8> = "image/apng"),
        (Vec<u8> = "image/webp"), (Vec<u8> = "image/gif"), (Vec<u8> = "video/mp4")),
        description = "A picture or an animation of at most 16 MiB with the text `parameters` that \
        downloads have; of an animation, the last picture is compared"),
    responses(
        (status = 200, description = "Whether both are equal, and how it was drawn",
            body = Verification),
        (status = 400, description = "Not sent as a picture", body = ErrorBody),
        (status = 404, description = "A parent is not there (any more)", body = ErrorBody),
        (status = 408, description = "The body took too long", body = ErrorBody),
        (status = 413, description = "The picture has too many bytes", body = ErrorBody),
        (status = 422, description = "It does not say how it was drawn, that cannot be drawn here, \
            or it is a GIF or an MP4, which are never equal to what was drawn", body = ErrorBody),
        (status = 503, description = "Shutting down, or no memory", body = ErrorBody),
    )
)]
pub(super) async fn verify(
    request: HttpRequest,
    payload: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let types = ["image/png", "image/apng", "image/webp", "image/gif", "video/mp4"];
    check_media_type(&request, &types)?;
    site.limits.job(site.client(&request))?;
    let timeout = site.config.timeouts.request;
    let bytes = read_bytes(&request, payload, upload::MAX_BYTES, timeout).await?;
    let kept = verification::parameters(&bytes)?;
    let drawn = site.scheduler.draw_again(kept.clone()).await?;
    let compare = move || verification::largest_difference(&bytes, &drawn);
    let largest_difference = web::block(compare).await.map_err(|_| stopping())??;
    let answer = Verification { request: kept.request, picture: kept.picture, largest_difference };
    json(&request, Caching::Never, &answer)
}

/// Refuses a body that is not sent as one of these types. Asking for them also makes browsers ask
/// first before another page may send it.
fn check_media_type(request: &HttpRequest, expected: &[&str]) -> Result<(), ApiError> {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if expected.contains(&media_type.trim()) {
        return Ok(());
    }
    let message = format!(
        "the body must be sent as `Content-Type: {}`, not {:?}",
        expected.join("` or `"),
        shortened(media_type)
    );
    Err(ApiError::new(ErrorCode::MalformedBody, message))
}

pub(super) fn stopping() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the server is shutting down; try again later")
}
