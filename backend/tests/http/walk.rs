//! A closed walk as one animated file.

use std::io::Cursor;

use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use var_dd_protocol::{ErrorCode, FileShape, PictureParameters};

use crate::server::{Server, refusal, wish_with};

/// A walk of three pictures between two corners.
fn body(format: &str) -> Value {
    let blend = json!([
        {"class": 0, "seed": 1, "weight": 0.5}, {"class": 2, "seed": 9, "weight": 0.5}
    ]);
    json!({
        "request": wish_with(json!({"explore": {"blend": blend}})),
        "weights": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], "format": format, "picture_ms": 120,
    })
}

async fn sent(server: &Server, body: &Value) -> Response {
    server.request(Method::POST, "/api/loop").json(body).send().await.unwrap()
}

#[tokio::test]
async fn a_walk_is_an_animation_without_end_that_says_how_it_was_drawn() {
    let server = Server::start(&[]).await;
    let response = sent(&server, &body("apng")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/apng");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(
        response.headers()[header::CONTENT_DISPOSITION],
        "attachment; filename=\"walk.png\""
    );
    let bytes = response.bytes().await.unwrap();
    let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
    let control = *reader.info().animation_control().unwrap();
    assert_eq!((control.num_frames, control.num_plays), (3, 0));
    let texts = &reader.info().uncompressed_latin1_text;
    let walk = texts.iter().find(|text| text.keyword == "walk").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&walk.text).unwrap(), body("apng"));
    let mut pictures = Vec::new();
    for _ in 0..control.num_frames {
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(reader.info().frame_control().unwrap().delay_num, 120);
        pictures.push(pixels);
    }
    // Each is the picture of its place.
    let kept = PictureParameters::of(&bytes).unwrap();
    assert_eq!(kept.request.model.as_deref(), Some("stand-in"));
    for (pixels, weights) in pictures.iter().zip([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]) {
        let mut alone = serde_json::to_value(&kept.request).unwrap();
        for (at, weight) in weights.into_iter().enumerate() {
            alone["explore"]["blend"][at]["weight"] = json!(weight);
        }
        let (view, _) = server.finished(alone).await;
        let picture = server.get(&view.pictures[0]).await.bytes().await.unwrap();
        assert_eq!(pixels, image::load_from_memory(&picture).unwrap().to_rgb8().as_raw());
    }
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2], "the places differ");

    let gif = sent(&server, &body("gif")).await;
    assert_eq!(gif.headers()[header::CONTENT_TYPE], "image/gif");
    let gif = gif.bytes().await.unwrap();
    let mut decoder = gif::DecodeOptions::new().read_info(&gif[..]).unwrap();
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!((delays, decoder.repeat()), (vec![12; 3], gif::Repeat::Infinite));
    assert!(String::from_utf8_lossy(&gif).contains("parameters: {\"request\""));

    let mp4 = sent(&server, &body("mp4")).await;
    assert_eq!(mp4.headers()[header::CONTENT_TYPE], "video/mp4");
    assert_eq!(mp4.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"walk.mp4\"");
    let mp4 = mp4.bytes().await.unwrap();
    assert_eq!(PictureParameters::of(&mp4).unwrap().request, kept.request);
    let shape = FileShape::of(&mp4).unwrap();
    assert!(shape.is_animated && shape.is_walk, "{shape:?}");
}

#[tokio::test]
async fn a_walk_out_of_bounds_is_refused_by_field() {
    let server = Server::start(&[]).await;
    let with = |pointer: &str, value: Value| {
        let mut changed = body("gif");
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let explore = ErrorCode::InvalidExplore;
    for (body, status, code, field) in [
        (with("/weights", json!([[1.0, 0.0]])), 422, explore, "weights"),
        (with("/weights", json!(vec![[1.0, 0.0]; 97])), 422, explore, "weights"),
        (with("/weights/1", json!([0.5, 0.6])), 422, explore, "weights[1]"),
        (with("/weights/2", json!([1.0])), 422, explore, "weights[2]"),
        (with("/picture_ms", json!(10)), 422, explore, "picture_ms"),
        (
            with("/request/explore/blend/1/class", json!(8)),
            422,
            explore,
            "request.explore.blend[1].class",
        ),
        (with("/request/explore", Value::Null), 422, explore, "request.explore.blend"),
        (with("/request/count", json!(2)), 422, ErrorCode::CountOutOfRange, "request.count"),
    ] {
        let (got, error) = refusal(sent(&server, &body).await).await;
        assert_eq!((got, error.code), (status, code), "{body}: {}", error.message);
        assert_eq!(error.field.as_deref(), Some(field), "{body}");
        assert!(error.message.starts_with(field), "{}", error.message);
    }
    for wrong in [with("/format", json!("mov")), with("/weights/0", json!([null, 1.0]))] {
        let (status, error) = refusal(sent(&server, &wrong).await).await;
        assert_eq!((status, error.code), (400, ErrorCode::MalformedBody), "{wrong}");
    }
}

#[tokio::test]
async fn a_walk_that_takes_too_long_ends_at_its_deadline() {
    let server = Server::held(&[]).await;
    let mut late = body("gif");
    late["request"]["deadline_ms"] = json!(50);
    let (status, error) = refusal(sent(&server, &late).await).await;
    assert_eq!((status, error.code), (503, ErrorCode::DeadlinePassed));
    assert!(error.message.contains("3 pictures") && error.message.contains("50 ms"), "{error}");
    server.gate.open();
    assert_eq!(sent(&server, &body("gif")).await.status(), 200, "the turn is free again");
}
