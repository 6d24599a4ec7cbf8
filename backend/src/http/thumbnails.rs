//! A small picture of each class, for lists to choose from: drawn when it is first asked for, then
//! kept in memory.

use std::{
    collections::HashMap,
    io::Cursor,
    sync::{Mutex, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Bytes},
};
use image::codecs::jpeg::JpegEncoder;
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use var_dd_protocol::{ErrorBody, ErrorCode, GenerateRequest, ModelInfo};

use super::{
    Site,
    body::{Caching, answer},
    error::ApiError,
};

/// Longest side of a thumbnail, in pixels.
const SIDE: u32 = 96;
const QUALITY: u8 = 82;

/// Thumbnails kept; each has a few thousand bytes.
const MOST: usize = 4096;

/// The seed of every thumbnail.
const SEED: u64 = 1;

/// The thumbnails drawn so far.
pub(super) struct Thumbnails {
    kept: Mutex<HashMap<Key, Bytes>>,
    /// One is drawn after the other: a list that opens must not fill the device.
    turn: Semaphore,
}

/// Name of the model, and the class.
type Key = (String, u32);

impl Default for Thumbnails {
    fn default() -> Self {
        Self { kept: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Thumbnails {
    /// The one of a class of a model, if it was drawn before: a JPEG.
    pub(super) fn of(&self, model: &ModelInfo, class: u32) -> Option<Bytes> {
        self.get(&(model.name.clone(), class))
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: Key, thumbnail: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST
            && let Some(other) = kept.keys().next().cloned()
        {
            kept.remove(&other);
        }
        kept.insert(key, thumbnail);
    }
}

/// Of which model.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ThumbnailQuery {
    /// Name of a loaded model; the server's first one if absent.
    model: Option<String>,
}

/// What a class looks like: a JPEG of at most 96 pixels a side, drawn once by the student.
#[utoipa::path(
    get,
    path = "/api/classes/{class}/thumbnail",
    tag = "jobs",
    params(("class" = u32, Path, description = "Number of the class"), ThumbnailQuery),
    responses(
        (status = 200, description = "A picture of the class", body = Vec<u8>,
            content_type = "image/jpeg"),
        (status = 400, description = "Unknown query", body = ErrorBody),
        (status = 404, description = "The class is no number", body = ErrorBody),
        (status = 422, description = "No such class or model", body = ErrorBody),
        (status = 503, description = "Shutting down, or no memory", body = ErrorBody),
    )
)]
pub(super) async fn thumbnail(
    request: HttpRequest,
    class: web::Path<u32>,
    query: web::Query<ThumbnailQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let class = class.into_inner();
    let info = site.scheduler.model(query.model.as_deref())?;
    let thumbnails = &site.thumbnails;
    let key = (info.name.clone(), class);
    let bytes = match thumbnails.get(&key) {
        Some(bytes) => bytes,
        None => {
            let Ok(_turn) = thumbnails.turn.acquire().await else { return Err(failed()) };
            // Whoever was before may have asked for the same.
            match thumbnails.get(&key) {
                Some(bytes) => bytes,
                None => {
                    let (_, picture) = site.scheduler.preview(wanted(&info, class)).await?;
                    let small = web::block(move || reduced(&picture)).await.ok().flatten();
                    let small = small.ok_or_else(failed)?;
                    thumbnails.keep(key, small.clone());
                    small
                }
            }
        }
    };
    Ok(answer(&request, "image/jpeg", Caching::Ask, bytes))
}

/// The request that draws a thumbnail: by the student alone, in as many steps as the model offers.
fn wanted(model: &ModelInfo, class: u32) -> GenerateRequest {
    let plans = model.plans.iter().map(|preset| &preset.plan);
    let students = plans.filter(|plan| !plan.needs_teacher());
    let plan = students.max_by_key(|plan| plan.passes(model.scales()).len());
    GenerateRequest {
        model: Some(model.name.clone()),
        seed: Some(SEED),
        ..GenerateRequest::new(
            class,
            plan.cloned().unwrap_or_else(|| var_dd_protocol::Plan::few_step(&[0], 1)),
        )
    }
}

fn reduced(picture: &[u8]) -> Option<Bytes> {
    let picture = image::load_from_memory(picture).ok()?;
    let small = if picture.width().max(picture.height()) > SIDE {
        picture.thumbnail(SIDE, SIDE)
    } else {
        picture
    };
    let mut bytes = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    small.to_rgb8().write_with_encoder(encoder).ok()?;
    Some(bytes.into_inner().into())
}

fn failed() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the thumbnail of this class cannot be drawn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbnails_kept_have_a_bound_and_the_newest_is_among_them() {
        let thumbnails = Thumbnails::default();
        for class in 0..MOST as u32 + 10 {
            thumbnails.keep(("a".into(), class), Bytes::from_static(b"a"));
            assert!(thumbnails.get(&("a".into(), class)).is_some());
        }
        assert_eq!(thumbnails.kept.lock().unwrap().len(), MOST);
    }

    #[test]
    fn a_large_picture_is_reduced_and_what_is_none_gives_nothing() {
        let mut large = Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(256, 256, image::Rgb([200, 40, 90]));
        picture.write_to(&mut large, image::ImageFormat::Jpeg).unwrap();
        let small = reduced(large.get_ref()).unwrap();
        let small = image::load_from_memory(&small).unwrap().to_rgb8();
        assert_eq!(small.dimensions(), (SIDE, SIDE));
        assert!(small.get_pixel(48, 48).0[0] > 190);
        assert_eq!(reduced(b"no picture"), None);
    }
}
