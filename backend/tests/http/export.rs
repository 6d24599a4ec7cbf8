//! Results as one file.

use std::io::Cursor;

use image::{
    AnimationDecoder, DynamicImage, RgbaImage, codecs::webp::WebPDecoder, metadata::LoopCount,
};
use reqwest::{Method, header};
use serde_json::json;
use shiguredo_mp4::{
    boxes::SampleEntry,
    demux::{Input, Mp4FileDemuxer},
};
use var_dd_protocol::{ErrorCode, FileShape, JobView, PictureParameters};

use crate::server::{Server, refusal, wish, wish_with};

fn at(view: &JobView, query: &str) -> String {
    format!("/api/results/{}/export?{query}", view.id)
}

#[tokio::test]
async fn an_animation_has_every_scale_loops_and_holds_the_finished_picture() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let finished = server.get(&view.pictures[1]).await.bytes().await.unwrap();
    let finished = image::load_from_memory(&finished).unwrap().to_rgb8();

    let response = server.get(&at(&view, "as=apng&pace=even&picture=1")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/apng");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    let name = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(name.starts_with("attachment; filename=\"class-0_seed-7_") && name.ends_with(".png\""));
    let mut names = vec![name];
    for kind in ["as=filmstrip", "as=sheet", "as=gif", "as=webp"] {
        let response = server.get(&at(&view, &format!("{kind}&picture=1"))).await;
        let name = &response.headers()[header::CONTENT_DISPOSITION];
        names.push(name.to_str().unwrap().to_owned());
    }
    let picture = server.get(&format!("{}?download", view.pictures[1])).await;
    names.push(picture.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "in one folder: {names:?}");
    let bytes = response.bytes().await.unwrap();
    let kept = PictureParameters::of(&bytes).unwrap();
    assert_eq!((&kept.request, kept.picture), (&view.request, 1));
    let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
    let control = *reader.info().animation_control().unwrap();
    assert_eq!((control.num_frames as usize, control.num_plays), (view.patch_nums.len(), 0));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let mut delays = Vec::new();
    for _ in 0..control.num_frames {
        reader.next_frame(&mut pixels).unwrap();
        delays.push(reader.info().frame_control().unwrap().delay_num);
    }
    assert_eq!(delays.first(), Some(&400));
    assert_eq!(delays.last(), Some(&2000));
    assert_eq!(&pixels, finished.as_raw(), "the last frame is the picture, to the bit");

    let gif = server.get(&at(&view, "as=gif&picture=1")).await;
    assert_eq!(gif.headers()[header::CONTENT_TYPE], "image/gif");
    let gif = gif.bytes().await.unwrap();
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(&gif[..]).unwrap();
    assert_eq!(u32::from(decoder.width()), view.image_size);
    let mut last = None;
    let mut frames = 0;
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        frames += 1;
        last = Some(frame.delay);
    }
    assert_eq!((frames, last), (view.patch_nums.len(), Some(200)));
    assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
    let kept = PictureParameters::of(&gif).unwrap();
    assert_eq!((&kept.request, kept.picture), (&view.request, 1));
    let shape = FileShape::of(&gif).unwrap();
    assert!(shape.is_animated && shape.width == view.image_size, "{shape:?}");

    let webp = server.get(&at(&view, "as=webp&pace=even&picture=1")).await;
    assert_eq!(webp.headers()[header::CONTENT_TYPE], "image/webp");
    let webp = webp.bytes().await.unwrap();
    let decoder = WebPDecoder::new(Cursor::new(&webp)).unwrap();
    assert!(matches!(decoder.loop_count(), LoopCount::Infinite));
    // By libwebp, as browsers do: the other one takes 1 off colours when it lays frames over.
    let frames: Vec<_> = webp_animation::Decoder::new(&webp).unwrap().into_iter().collect();
    let ends: Vec<_> = frames.iter().map(webp_animation::Frame::timestamp).collect();
    assert_eq!(ends.len(), view.patch_nums.len());
    assert_eq!(ends.first(), Some(&400));
    assert_eq!(ends[ends.len() - 1] - ends[ends.len() - 2], 2000);
    let last = frames.last().unwrap();
    let last =
        RgbaImage::from_raw(finished.width(), finished.height(), last.data().to_vec()).unwrap();
    let last = DynamicImage::from(last).to_rgb8();
    assert_eq!(last, finished, "the last frame is the picture, to the bit");
    let length = u32::from_le_bytes(webp[4..8].try_into().unwrap()) as usize;
    assert_eq!(length + 8, webp.len());
    let kept = PictureParameters::of(&webp).unwrap();
    assert_eq!((&kept.request, kept.picture), (&view.request, 1));
    let shape = FileShape::of(&webp).unwrap();
    assert!(shape.is_animated && shape.width == view.image_size, "{shape:?}");
}

/// Size, and how long each picture of a video is shown, in milliseconds.
fn video(file: &[u8]) -> ((u16, u16), Vec<u32>) {
    let mut demuxer = Mp4FileDemuxer::new();
    demuxer.handle_input(Input { position: 0, data: file });
    let tracks = demuxer.tracks().unwrap().to_vec();
    assert_eq!((tracks.len(), tracks[0].timescale.get()), (1, 1000));
    let mut size = (0, 0);
    let mut times = Vec::new();
    while let Some(sample) = demuxer.next_sample().unwrap() {
        if let Some(entry) = sample.sample_entry {
            let SampleEntry::Av01(entry) = entry else { panic!("not AV1: {entry:?}") };
            size = (entry.visual.width, entry.visual.height);
        }
        times.push(sample.duration);
    }
    assert_eq!(tracks[0].duration, times.iter().map(|time| u64::from(*time)).sum::<u64>());
    (size, times)
}

#[tokio::test]
async fn a_video_has_every_scale_and_holds_the_finished_picture() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let response = server.get(&at(&view, "as=mp4&pace=even&picture=1")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "video/mp4");
    let name = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(name.ends_with(".mp4\""), "{name}");
    let bytes = response.bytes().await.unwrap();
    let (size, times) = video(&bytes);
    let mut expected = vec![400; view.patch_nums.len()];
    expected[view.patch_nums.len() - 1] = 2000;
    let side = view.image_size.max(16) as u16;
    assert_eq!((size, times), ((side, side), expected));
    let kept = PictureParameters::of(&bytes).unwrap();
    assert_eq!((&kept.request, kept.picture), (&view.request, 1));
    let shape = FileShape::of(&bytes).unwrap();
    assert!(shape.is_animated && shape.width == u32::from(side), "{shape:?}");

    let drawn = server.get(&at(&view, "as=mp4")).await.bytes().await.unwrap();
    let (_, times) = video(&drawn);
    assert_eq!((times.len(), times.last()), (view.patch_nums.len(), Some(&2000)));
}

#[tokio::test]
async fn an_export_is_the_same_each_time_and_gone_with_its_result() {
    let server = Server::start(&[]).await;
    let (view, token) = server.finished(wish()).await;
    let path = at(&view, "as=webp");
    let first = server.get(&path).await.bytes().await.unwrap();
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), first);
    let delete = server.request(Method::DELETE, &format!("/api/results/{}", view.id));
    let deleted = delete.bearer_auth(token.0).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(server.get(&path).await.status(), 404);
}

#[tokio::test]
async fn scales_or_pictures_lie_side_by_side() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 3}))).await;
    let side = view.image_size;
    let span = |count: u32| count * (side + 4) + 4;
    for (query, size) in [
        ("as=filmstrip", (span(view.patch_nums.len() as u32), span(1))),
        ("as=sheet", (span(2), span(2))),
    ] {
        let bytes = server.get(&at(&view, query)).await.bytes().await.unwrap();
        let picture = image::load_from_memory(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), size, "{query}");
        let kept = PictureParameters::of(&bytes).unwrap();
        assert_eq!(kept.request, view.request, "{query}");
    }
}

#[tokio::test]
async fn an_export_is_asked_about_for_free_and_refused_where_there_is_none() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    let response = server.get(&at(&view, "as=gif")).await;
    let tag = response.headers()[header::ETAG].clone();
    let again = server.request(Method::GET, &at(&view, "as=gif"));
    let again = again.header(header::IF_NONE_MATCH, tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    for (query, status, code) in [
        ("", 400, ErrorCode::MalformedBody),
        ("as=mov", 400, ErrorCode::MalformedBody),
        ("as=gif&pace=slow", 400, ErrorCode::MalformedBody),
        ("as=gif&loops=1", 400, ErrorCode::MalformedBody),
        ("as=gif&picture=-1", 400, ErrorCode::MalformedBody),
        ("as=gif&picture=1", 404, ErrorCode::NotFound),
        ("as=gif&picture=4294967295", 404, ErrorCode::NotFound),
    ] {
        let (got, error) = refusal(server.get(&at(&view, query)).await).await;
        assert_eq!((got, error.code), (status, code), "{query}: {}", error.message);
    }
    let held = Server::held(&[]).await;
    let (job, _) = held.submitted(wish()).await;
    let path = format!("/api/results/{job}/export?as=gif");
    assert_eq!(held.get(&path).await.status(), 404, "not finished");
    held.gate.open();
    let missing = format!("/api/results/{}/export?as=gif", "0".repeat(32));
    assert_eq!(held.get(&missing).await.status(), 404);
}

#[tokio::test]
async fn pictures_and_exports_are_made_larger_within_bounds() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let side = view.image_size;
    let picture = &view.pictures[1];
    let drawn = server.get(picture).await.bytes().await.unwrap();
    let drawn = image::load_from_memory(&drawn).unwrap().to_rgb8();

    // A picture, with its settings or without, as squares or smooth.
    let crisp = server.get(&format!("{picture}?download&scale=4")).await;
    let name = crisp.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(name.ends_with(".4x.png\""), "{name}");
    let crisp = crisp.bytes().await.unwrap();
    assert_eq!(PictureParameters::of(&crisp).unwrap().picture, 1);
    let crisp = image::load_from_memory(&crisp).unwrap().to_rgb8();
    assert_eq!(crisp.dimensions(), (4 * side, 4 * side));
    assert!(crisp.enumerate_pixels().all(|(x, y, pixel)| pixel == drawn.get_pixel(x / 4, y / 4)));
    let plain = format!("{picture}?download&parameters=no&scale=4&pixels=smooth");
    let smooth = server.get(&plain).await.bytes().await.unwrap();
    assert!(PictureParameters::of(&smooth).is_err(), "settings that were not wanted");
    let smooth = image::load_from_memory(&smooth).unwrap().to_rgb8();
    assert_eq!(smooth.dimensions(), crisp.dimensions());
    assert_ne!(smooth, crisp);
    let shown = server.get(&format!("{picture}?scale=2&pixels=crisp")).await.bytes().await.unwrap();
    assert_eq!(image::load_from_memory(&shown).unwrap().width(), 2 * side);

    // Every kind of export.
    let span = |count: u32| count * (2 * side + 4) + 4;
    let scales = view.patch_nums.len() as u32;
    for (kind, size) in [
        ("gif", (2 * side, 2 * side)),
        ("apng", (2 * side, 2 * side)),
        ("webp", (2 * side, 2 * side)),
        ("mp4", (2 * side, 2 * side)),
        ("filmstrip", (span(scales), span(1))),
        // Its two pictures lie in a row.
        ("sheet", (span(2), span(1))),
    ] {
        let response = server.get(&at(&view, &format!("as={kind}&scale=2"))).await;
        let bytes = response.bytes().await.unwrap();
        let shape = FileShape::of(&bytes).unwrap();
        assert_eq!((shape.width, shape.height), size, "{kind}");
        assert_eq!(PictureParameters::of(&bytes).unwrap().request, view.request, "{kind}");
    }
    // None takes the place of another.
    let gif = async |query: &str| {
        let gif = server.get(&at(&view, &format!("as=gif{query}"))).await.bytes().await.unwrap();
        (FileShape::of(&gif).unwrap().width, gif)
    };
    assert_eq!(gif("").await.0, side);
    assert_ne!(gif("&scale=2&pixels=smooth").await.1, gif("&scale=2").await.1);

    for (query, status, code) in [
        ("scale=0", 400, ErrorCode::MalformedBody),
        ("scale=9", 400, ErrorCode::MalformedBody),
        ("scale=-1", 400, ErrorCode::MalformedBody),
        ("scale=1.5", 400, ErrorCode::MalformedBody),
        ("scale=99999999999", 400, ErrorCode::MalformedBody),
        ("pixels=round", 400, ErrorCode::MalformedBody),
    ] {
        for path in [at(&view, &format!("as=gif&{query}")), format!("{picture}?{query}")] {
            let (got, error) = refusal(server.get(&path).await).await;
            assert_eq!((got, error.code), (status, code), "{path}: {}", error.message);
        }
    }
}
