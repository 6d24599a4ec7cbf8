//! A closed walk between corners as one animated file or video.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web,
};
use anyhow::Context;
use image::RgbImage;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, MAX_WALK_MS, PARAMETERS_KEYWORD, PictureParameters,
    WALK_KEYWORD, WalkFormat, WalkRequest, with_texts,
};

use super::{
    Site,
    body::{Caching, answer, read_json},
    error::ApiError,
    explore::stopping,
    export,
};

/// Walks that are drawn at once; others wait their turn, so that they leave memory and the device
/// to everybody else.
pub(super) const AT_ONCE: usize = 2;

/// A closed walk between the corners of a blend as an animation that begins anew after its last
/// picture, with the request of its first picture and the whole walk as texts in it. Nothing is
/// kept; what is not on the device yet is dropped when the connection closes.
#[utoipa::path(
    post,
    path = "/api/loop",
    tag = "jobs",
    request_body = WalkRequest,
    responses(
        (status = 200, description = "The animation", content(
            (Vec<u8> = "image/gif"), (Vec<u8> = "image/apng"), (Vec<u8> = "video/mp4"))),
        (status = 400, description = "Not the JSON that is expected", body = ErrorBody),
        (status = 404, description = "A parent is not there (any more)", body = ErrorBody),
        (status = 408, description = "The body took too long", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 422, description = "A value is out of its bounds", body = ErrorBody),
        (status = 503, description = "Shutting down, no memory, or the deadline passed",
            body = ErrorBody),
    )
)]
pub(super) async fn walk(
    request: HttpRequest,
    payload: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let config = &site.config;
    let wanted: WalkRequest =
        read_json(&request, payload, config.message_bytes, config.timeouts.request).await?;
    site.limits.job(site.client(&request))?;
    if wanted.format == WalkFormat::Mp4 {
        let side = site.scheduler.model(wanted.request.model.as_deref())?.image_size;
        var_dd_video::check(wanted.weights.len(), side).map_err(|error| {
            ErrorBody::new(ErrorCode::InvalidExplore, format!("weights: {error}")).at("weights")
        })?;
    }
    let deadline_ms = wanted.request.deadline_ms.unwrap_or(MAX_WALK_MS).min(MAX_WALK_MS);
    let draw = async {
        let _turn = site.walks.acquire().await;
        site.scheduler.walk(&wanted).await
    };
    let drawn = tokio::time::timeout(Duration::from_millis(deadline_ms), draw).await;
    let (first, pictures) = drawn.map_err(|_| {
        let message = format!(
            "the {} pictures were not drawn within {deadline_ms} ms; ask for fewer, by a plan of \
             fewer steps, or when the server is less busy",
            wanted.weights.len()
        );
        ApiError::new(ErrorCode::DeadlinePassed, message)
    })??;
    let format = wanted.format;
    let made = web::block(move || made(&wanted, first, &pictures)).await;
    let bytes = made.map_err(|_| stopping())?.map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("the walk cannot be written: {error:#}"))
    })?;
    let mut response = answer(&request, format.media_type(), Caching::Never, bytes);
    let disposition = format!("attachment; filename=\"walk.{}\"", format.ending());
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The file.
fn made(
    walk: &WalkRequest,
    first: GenerateRequest,
    pictures: &[RgbImage],
) -> anyhow::Result<Vec<u8>> {
    let side = pictures.first().map_or(0, |picture| picture.width());
    let side = u16::try_from(side).context("the picture is too large for an animation")?;
    let holds = vec![Duration::from_millis(walk.picture_ms.into()); pictures.len()];
    let texts = [
        ("Software", format!("var-dd {}", env!("CARGO_PKG_VERSION"))),
        (
            PARAMETERS_KEYWORD,
            serde_json::to_string(&PictureParameters { request: first, picture: 0 })?,
        ),
        (WALK_KEYWORD, serde_json::to_string(walk)?),
    ];
    match walk.format {
        WalkFormat::Gif => export::gif(pictures, &holds, side, &texts),
        WalkFormat::Apng => Ok(with_texts(&export::apng(pictures, &holds, side)?, &texts)),
        WalkFormat::Mp4 => export::mp4(pictures, &holds, side, &texts),
    }
}
