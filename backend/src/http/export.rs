//! A result as one file to keep or to show elsewhere: an animation of its scales, or all of them,
//! or all of its pictures, side by side. Files that were made lately are kept in memory.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::{self, Bytes},
};
use anyhow::Context;
use image::{RgbImage, imageops};
use quick_cache::{Weighter, sync::Cache};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};
use var_dd_protocol::{
    ErrorBody, ErrorCode, FrameEntry, JobId, JobState, JobView, XMP_BOX, with_texts,
};
use webp_animation::{ColorMode, Encoder, EncoderOptions};

use super::{
    Site,
    body::{Caching, answer},
    enlarged::{Enlarged, Pixels},
    error::ApiError,
    results,
};
use crate::picture_file;

/// Most scales of an export; of a model of more the last ones are shown.
const SCALES: usize = 32;

/// How long each scale is shown at an even pace.
const EVEN: Duration = Duration::from_millis(400);

/// Shortest and longest time of a scale: browsers slow down what is shorter, and nobody waits for
/// what is longer.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// How long the finished picture is held before the animation begins anew.
const HELD: Duration = Duration::from_secs(2);

/// What kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The scales one after the other, in at most 256 colours each.
    Gif,
    /// The scales one after the other, as they were sent, the last one lossless.
    Apng,
    /// The scales one after the other, lossless, smaller than as APNG.
    Webp,
    /// The scales one after the other as a video (AV1), compressed with loss: the smallest by far.
    Mp4,
    /// The scales side by side.
    Filmstrip,
    /// All pictures of the result side by side.
    Sheet,
}

/// How fast an animation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Pace {
    /// As fast as it was drawn.
    #[default]
    Drawn,
    /// Each scale as long as the others.
    Even,
}

/// How to export.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// What kind of file.
    #[param(inline)]
    r#as: Kind,
    /// How fast an animation runs; as drawn if absent.
    #[serde(default)]
    #[param(inline)]
    pace: Pace,
    /// Index of the picture whose scales are shown, from 0; 0 if absent.
    #[serde(default)]
    picture: u32,
    /// How many times as large as they were drawn pictures are: from 1 to 8, up to a side of 1024
    /// pixels; 1 if absent.
    #[param(minimum = 1, maximum = 8, default = 1)]
    scale: Option<u32>,
    /// How the pixels of enlarged pictures look; crisp if absent.
    #[param(inline)]
    pixels: Option<Pixels>,
}

/// A finished result as one file: animated (it loops, and holds the finished picture), a video, or
/// side by side. The request is in it as text.
#[utoipa::path(
    get,
    path = "/api/results/{id}/export",
    tag = "results",
    params(("id" = JobId, Path, description = "Name of the result"), ExportQuery),
    responses(
        (status = 200, description = "The file", content(
            (Vec<u8> = "image/gif"), (Vec<u8> = "image/apng"), (Vec<u8> = "image/webp"),
            (Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"))),
        (status = 304, description = "As the client has it"),
        (status = 400, description = "No such kind, pace, scale or pixels", body = ErrorBody),
        (
            status = 404,
            description = "No such finished result or picture (any more)",
            body = ErrorBody
        ),
        (
            status = 413,
            description = "Enlarged too far, or too many pixels for a video",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn export(
    request: HttpRequest,
    id: web::Path<JobId>,
    query: web::Query<ExportQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let view = site.scheduler.view(&id).await?;
    let ExportQuery { r#as: kind, pace, picture, scale, pixels } = query.into_inner();
    if view.state != JobState::Finished || picture as usize >= view.pictures.len() {
        let message = format!(
            "the result {id} has no finished picture {picture}; it has {} (counted from 0)",
            view.pictures.len()
        );
        return Err(ApiError::new(ErrorCode::NotFound, message));
    }
    let enlarged = Enlarged::of(view.image_size, scale, pixels)?;
    if kind == Kind::Mp4 {
        let count = scales(&view, picture).len().min(SCALES);
        let check = var_dd_video::check(count, enlarged.side(view.image_size));
        check.map_err(|error| ApiError::new(ErrorCode::TooLarge, error.to_string()))?;
    }
    let (media_type, ending) = match kind {
        Kind::Gif => ("image/gif", "gif"),
        // Several of them may lie in one folder, beside the picture itself.
        Kind::Apng => ("image/apng", "animation.png"),
        Kind::Webp => ("image/webp", "webp"),
        Kind::Mp4 => ("video/mp4", "mp4"),
        Kind::Filmstrip => ("image/png", "scales.png"),
        Kind::Sheet => ("image/png", "pictures.png"),
    };
    let name = results::file_name(&view, picture, &enlarged.ending(ending));
    let key = Key { result: id.into_inner(), kind, pace, picture, enlarged };
    // Whoever asks while it is made waits for the same one.
    let making = make(&site, &view, &key);
    let bytes = site.exports.made.get_or_insert_async(&key, making).await?;
    let mut response = answer(&request, media_type, Caching::Immutable, bytes);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// An export by what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    result: JobId,
    kind: Kind,
    pace: Pace,
    picture: u32,
    enlarged: Enlarged,
}

/// Exports that were made lately, within a bound of memory.
pub(super) struct Exports {
    made: Cache<Key, Bytes, Length>,
    turns: Semaphore,
}

impl Exports {
    /// About how many there is room for.
    const COUNT: usize = 128;

    /// Bytes of all that are kept.
    const BYTES: u64 = 64 << 20;

    /// How many are made at once; others wait their turn, so that they leave cores to everybody
    /// else.
    const AT_ONCE: usize = 2;

    /// None made so far.
    pub(super) fn new() -> Self {
        let made = Cache::with_weighter(Self::COUNT, Self::BYTES, Length);
        Self { made, turns: Semaphore::new(Self::AT_ONCE) }
    }

    /// Forgets those of a result.
    pub(super) fn forget(&self, result: &JobId) {
        self.made.retain(|key, _| key.result != *result);
    }
}

/// An export weighs its bytes.
#[derive(Clone)]
struct Length;

impl Weighter<Key, Bytes> for Length {
    fn weight(&self, _: &Key, made: &Bytes) -> u64 {
        // What weighs nothing is never let go.
        made.len().max(1) as u64
    }
}

/// Makes an export.
async fn make(site: &Site, view: &JobView, key: &Key) -> Result<Bytes, ApiError> {
    let &Key { kind, pace, picture, enlarged, .. } = key;
    let mut shown = Vec::new();
    if kind == Kind::Sheet {
        for index in 0..view.request.count {
            shown.push((site.scheduler.picture(&view.id, index).await?, HELD));
        }
    } else {
        for (frame, hold) in held(&scales(view, picture), pace) {
            shown.push((site.scheduler.frame(&view.id, frame.seq).await?.1, hold));
        }
    }
    let texts = results::parameters(view, picture);
    let side = view.image_size;
    in_turn(site, move || made(kind, &shown, (side, enlarged), &texts)).await
}

/// A picture in another size than it was drawn in.
///
/// # Errors
/// When it cannot be read, or the server shuts down.
pub(super) async fn enlarged(
    site: &Site,
    picture: Bytes,
    enlarged: Enlarged,
) -> Result<Bytes, ApiError> {
    in_turn(site, move || {
        let picture = image::load_from_memory(&picture)?.to_rgb8();
        picture_file::png(&enlarged.picture(picture), &[])
    })
    .await
}

/// Makes a file when it is its turn.
async fn in_turn(
    site: &Site,
    make: impl FnOnce() -> anyhow::Result<Vec<u8>> + Send + 'static,
) -> Result<Bytes, ApiError> {
    let _turn = site.exports.turns.acquire().await;
    let made = web::block(make).await;
    let made = made.map_err(|_| {
        ApiError::new(ErrorCode::ShuttingDown, "the server is shutting down; try again later")
    })?;
    made.map(Bytes::from).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("the export cannot be made: {error:#}"))
    })
}

/// The scales of a picture in their order. Of one that came twice, as in a draft, the later counts.
pub(super) fn scales(view: &JobView, picture: u32) -> Vec<&FrameEntry> {
    let mut frames: Vec<_> =
        view.frames.iter().filter(|frame| frame.header.picture == picture).collect();
    frames.sort_by_key(|frame| (frame.header.scale, std::cmp::Reverse(frame.seq)));
    frames.dedup_by_key(|frame| frame.header.scale);
    frames
}

/// Each scale with how long it is shown: until the next one came, or evenly.
fn held<'a>(frames: &[&'a FrameEntry], pace: Pace) -> Vec<(&'a FrameEntry, Duration)> {
    let frames = &frames[frames.len().saturating_sub(SCALES)..];
    let next = frames.iter().skip(1).map(Some).chain([None]);
    frames
        .iter()
        .zip(next)
        .map(|(frame, next)| {
            let hold = match (next, pace) {
                (None, _) => HELD,
                (Some(_), Pace::Even) => EVEN,
                (Some(next), Pace::Drawn) => {
                    // With the last frame first, others come after it: such a time is none.
                    let ms = (next.header.at_ms - frame.header.at_ms).clamp(0.0, 1e6);
                    Duration::from_millis(ms as u64).clamp(PACE.0, PACE.1)
                }
            };
            (*frame, hold)
        })
        .collect()
}

/// The file, of pictures of a side that are enlarged.
fn made(
    kind: Kind,
    shown: &[(Bytes, Duration)],
    (side, enlarged): (u32, Enlarged),
    texts: &[(&'static str, String)],
) -> anyhow::Result<Vec<u8>> {
    let pictures = shown
        .iter()
        .map(|(bytes, _)| {
            let picture = image::load_from_memory(bytes)?.to_rgb8();
            let as_it_is = picture.dimensions() == (side, side);
            Ok(enlarged.picture(if as_it_is {
                picture
            } else {
                imageops::resize(&picture, side, side, imageops::FilterType::Triangle)
            }))
        })
        .collect::<anyhow::Result<Vec<RgbImage>>>()
        .context("a picture of the result cannot be read")?;
    let holds: Vec<Duration> = shown.iter().map(|(_, hold)| *hold).collect();
    let side =
        u16::try_from(enlarged.side(side)).context("the picture is too large for an animation")?;
    match kind {
        Kind::Gif => gif(&pictures, &holds, side, texts),
        Kind::Apng => Ok(with_texts(&apng(&pictures, &holds, side)?, texts)),
        Kind::Webp => webp(&pictures, &holds, side, texts),
        Kind::Mp4 => mp4(&pictures, &holds, side, texts),
        Kind::Filmstrip => {
            let strip = picture_file::in_rows(&pictures, pictures.len());
            Ok(with_texts(&picture_file::png(&strip, &[])?, texts))
        }
        Kind::Sheet => {
            let sheet = picture_file::contact_sheet(&pictures);
            Ok(with_texts(&picture_file::png(&sheet, &[])?, texts))
        }
    }
}

/// An animation without end as GIF, with texts as comments.
///
/// # Errors
/// When a picture is not of this side.
pub(super) fn gif(
    pictures: &[RgbImage],
    holds: &[Duration],
    side: u16,
    texts: &[(&'static str, String)],
) -> anyhow::Result<Vec<u8>> {
    /// How long colours are looked for, from 1 (long) to 30.
    const SPEED: i32 = 10;
    let mut encoder = gif::Encoder::new(Vec::new(), side, side, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    for (keyword, text) in texts {
        // A comment, in pieces of the greatest length that the format has.
        let comment = format!("{keyword}: {text}");
        let pieces: Vec<&[u8]> = comment.as_bytes().chunks(255).collect();
        encoder.write_raw_extension(gif::Extension::Comment.into(), &pieces)?;
    }
    for (picture, hold) in pictures.iter().zip(holds) {
        let mut frame = gif::Frame::from_rgb_speed(side, side, picture, SPEED);
        frame.delay = u16::try_from(hold.as_millis() / 10).unwrap_or(u16::MAX);
        encoder.write_frame(&frame)?;
    }
    Ok(encoder.into_inner()?)
}

/// An animation without end as APNG.
///
/// # Errors
/// When there is no picture, or one is not of this side.
pub(super) fn apng(
    pictures: &[RgbImage],
    holds: &[Duration],
    side: u16,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side.into(), side.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(u32::try_from(pictures.len())?, 0)?;
    let mut writer = encoder.write_header()?;
    for (picture, hold) in pictures.iter().zip(holds) {
        writer.set_frame_delay(u16::try_from(hold.as_millis())?, 1000)?;
        writer.write_image_data(picture)?;
    }
    writer.finish()?;
    Ok(bytes)
}

fn webp(
    pictures: &[RgbImage],
    holds: &[Duration],
    side: u16,
    texts: &[(&'static str, String)],
) -> anyhow::Result<Vec<u8>> {
    let options = EncoderOptions { color_mode: ColorMode::Rgb, ..EncoderOptions::default() };
    let mut encoder = Encoder::new_with_options((side.into(), side.into()), options)?;
    let mut at_ms = 0;
    for (picture, hold) in pictures.iter().zip(holds) {
        encoder.add_frame(picture, at_ms)?;
        at_ms += i32::try_from(hold.as_millis())?;
    }
    Ok(described(&encoder.finalize(at_ms)?, texts))
}

/// An extended WebP file with texts in its XMP (WebP container specification, sections "Extended
/// File Format" and "Metadata").
fn described(webp: &[u8], texts: &[(&'static str, String)]) -> Vec<u8> {
    /// Where the flags of the first chunk are, and the one that says that there is XMP.
    const FLAGS: (usize, u8) = (20, 0x04);
    let xmp = xmp(texts);
    let mut file = webp.to_vec();
    let Some(flags) = file.get_mut(FLAGS.0).filter(|_| webp.get(12..16) == Some(b"VP8X")) else {
        return file;
    };
    *flags |= FLAGS.1;
    file.extend_from_slice(b"XMP ");
    file.extend_from_slice(&(xmp.len() as u32).to_le_bytes());
    file.extend_from_slice(xmp.as_bytes());
    if xmp.len() % 2 == 1 {
        file.push(0);
    }
    let size = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}

/// A video, with texts in its XMP, which is a box of its own at its end (XMP specification, part 3,
/// "MPEG-4").
///
/// # Errors
/// As [`var_dd_video::mp4`].
pub(super) fn mp4(
    pictures: &[RgbImage],
    holds: &[Duration],
    side: u16,
    texts: &[(&'static str, String)],
) -> anyhow::Result<Vec<u8>> {
    let mut file = var_dd_video::mp4(pictures, holds, side)?;
    let xmp = xmp(texts);
    let size = u32::try_from(8 + XMP_BOX.len() + xmp.len())?;
    file.extend_from_slice(&size.to_be_bytes());
    file.extend_from_slice(b"uuid");
    file.extend_from_slice(&XMP_BOX);
    file.extend_from_slice(xmp.as_bytes());
    Ok(file)
}

/// Texts as the lines of a description (XMP specification, part 1).
fn xmp(texts: &[(&'static str, String)]) -> String {
    let lines: Vec<_> = texts.iter().map(|(keyword, text)| format!("{keyword}: {text}")).collect();
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
         xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
         rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:description><rdf:Alt>\
         <rdf:li xml:lang=\"x-default\">{}</rdf:li></rdf:Alt></dc:description>\
         </rdf:Description></rdf:RDF></x:xmpmeta>",
        html_escape::encode_text(&lines.join("\n"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(scale: u32, seq: u64, at_ms: f64) -> FrameEntry {
        serde_json::from_value(serde_json::json!({
            "seq": seq, "picture": 0, "pass": 0, "scale": scale, "width": 8,
            "height": 8, "media_type": "image/webp", "last": scale == 2, "at_ms": at_ms,
            "encode_ms": 0.5, "url": ""
        }))
        .unwrap()
    }

    #[test]
    fn scales_are_held_as_drawn_or_evenly_and_the_last_one_longer() {
        let frames = [frame(0, 1, 10.0), frame(1, 2, 110.0), frame(2, 3, 111.0)];
        let frames: Vec<_> = frames.iter().collect();
        let ms = |pace| -> Vec<u128> {
            held(&frames, pace).iter().map(|(_, hold)| hold.as_millis()).collect()
        };
        assert_eq!(ms(Pace::Drawn), [100, 20, 2000]);
        assert_eq!(ms(Pace::Even), [400, 400, 2000]);
        let odd = [frame(0, 1, f64::MAX), frame(1, 2, f64::MIN), frame(2, 3, 0.0)];
        let odd: Vec<_> = odd.iter().collect();
        let all: Vec<_> =
            held(&odd, Pace::Drawn).iter().map(|(_, hold)| hold.as_millis()).collect();
        assert_eq!(all, [20, 5000, 2000]);
    }
}
