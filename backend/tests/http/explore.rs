//! Going on from pictures: over HTTP and the WebSocket, with a stand-in for the engine.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use reqwest::{Method, header};
use serde_json::{Value, json};
use var_dd_protocol::{
    ClientMessage, ErrorCode, JobId, JobState, PassKind, TokenReport, TokenizedPicture,
    Verification,
};

use crate::server::{Client, Heard, Server, refusal, request, wish, wish_with};

/// A request that goes on from a picture.
fn from(origin: &Value) -> Value {
    wish_with(json!({"explore": {"from": origin}}))
}

fn parent(job: &JobId) -> Value {
    json!({"of": "result", "result": job, "picture": 0})
}

#[tokio::test]
async fn a_child_carries_its_lineage_and_outlives_its_parent() {
    let server = Server::start(&[]).await;
    let (first, token) = server.finished(wish()).await;
    let reroll = |job: &JobId| json!({"kind": "reroll", "parent": parent(job), "from_scale": 1});
    let (child, _) = server.finished(from(&reroll(&first.id))).await;
    assert_eq!(child.state, JobState::Finished);
    let kinds: Vec<_> = child.passes.iter().map(|pass| (pass.kind, pass.first_scale)).collect();
    assert_eq!(kinds, [(PassKind::Kept, 0), (PassKind::Student, 1)]);
    assert_eq!(child.frames.len(), 3, "kept scale 0, drawn scales 1 and 2");
    let said = serde_json::to_value(&child.request).unwrap();
    let kept = &said["explore"]["from"]["parent"];
    assert_eq!(kept["result"], first.id.as_str());
    assert_eq!(kept["request"]["seed"], 7);
    assert_eq!(child.request.lineage(), 1);

    let (grandchild, _) = server.finished(from(&reroll(&child.id))).await;
    assert_eq!(grandchild.request.lineage(), 2);

    server.scheduler.delete(&first.id, &token).await.unwrap();
    // What has its lineage with it needs no parent any more; what names a deleted one is refused.
    let tokens = server.get(&format!("/api/results/{}/tokens", child.id)).await;
    assert_eq!(tokens.status(), 200);
    let (status, error) = refusal(server.post(&from(&reroll(&first.id))).await).await;
    assert_eq!((status, error.code), (404, ErrorCode::NotFound));
    assert_eq!(error.field.as_deref(), Some("explore.from.parent.result"));
}

#[tokio::test]
async fn what_cannot_be_gone_on_from_is_refused_by_field_and_nothing_is_kept() {
    let server = Server::held(&[]).await;
    let (waiting, _) = server.submitted(wish()).await;
    let codes = json!({"of": "codes", "codes": vec![0; 21]});
    let explore = |fields: Value| wish_with(json!({"explore": fields}));
    for (body, status, code, field) in [
        (
            from(&json!({"kind": "picture", "parent": parent(&JobId::from_bits(1))})),
            404,
            ErrorCode::NotFound,
            "explore.from.parent.result",
        ),
        (
            from(&json!({"kind": "picture", "parent": parent(&waiting)})),
            422,
            ErrorCode::InvalidExplore,
            "explore.from.parent.result",
        ),
        (
            from(&json!({"kind": "reroll", "parent": codes, "from_scale": 3})),
            422,
            ErrorCode::InvalidExplore,
            "explore.from.from_scale",
        ),
        (
            from(&json!({"kind": "edit", "parent": codes, "mask": "011"})),
            422,
            ErrorCode::InvalidExplore,
            "explore.from.mask",
        ),
        (explore(json!({"gains": [1.0, 1.0]})), 422, ErrorCode::InvalidExplore, "explore.gains"),
        (
            explore(json!({"blend": [
                {"class": 0, "seed": 1, "weight": 0.7}, {"class": 1, "seed": 1, "weight": 0.7}
            ]})),
            422,
            ErrorCode::InvalidExplore,
            "explore.blend",
        ),
    ] {
        let (got, error) = refusal(server.post(&body).await).await;
        assert_eq!((got, error.code), (status, code), "{body}: {}", error.message);
        assert_eq!(error.field.as_deref(), Some(field), "{body}");
    }
    for gains in ["[NaN]", "[null]", "[1e999]", "\"1\""] {
        let text = wish_with(json!({"explore": {"gains": "here"}})).to_string();
        let body = text.replace("\"here\"", gains);
        let response = server
            .request(Method::POST, "/api/jobs")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let (status, error) = refusal(response).await;
        assert_eq!((status, error.code), (400, ErrorCode::MalformedBody), "{gains}");
    }
    assert_eq!(server.scheduler.stats().queued + server.scheduler.stats().running, 1);
    server.gate.open();
}

#[tokio::test]
async fn tokens_of_a_result_are_computed_when_asked_for() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let path = format!("/api/results/{}/tokens?picture=1", view.id);
    let response = server.get(&path).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let report: TokenReport = response.json().await.unwrap();
    assert_eq!((report.picture, report.vocabulary), (1, 16));
    let sizes: Vec<_> = report.scales.iter().map(|of| (of.side, of.codes.len())).collect();
    assert_eq!(sizes, [(1, 1), (2, 4), (4, 16)]);
    let beyond = format!("/api/results/{}/tokens?picture=2", view.id);
    let (status, error) = refusal(server.get(&beyond).await).await;
    assert_eq!((status, error.code), (404, ErrorCode::NotFound));
    let (status, _) = refusal(server.get(&path.replace("picture", "colour")).await).await;
    assert_eq!(status, 400);
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

async fn sent(server: &Server, media_type: &'static str, body: Vec<u8>) -> reqwest::Response {
    server
        .request(Method::POST, "/api/encode")
        .header(header::CONTENT_TYPE, media_type)
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_picture_of_one_s_own_becomes_tokens_that_can_be_gone_on_from() {
    let server = Server::start(&[]).await;
    let response =
        sent(&server, "image/png", png(RgbImage::from_pixel(40, 20, Rgb([5, 6, 7])))).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let encoded: TokenizedPicture = response.json().await.unwrap();
    assert_eq!((encoded.model.as_str(), encoded.codes.clone()), ("stand-in", vec![5; 21]));
    assert_eq!(encoded.frames.len(), 3);
    assert!(encoded.frames[0].starts_with("data:image/jpeg;base64,"));
    assert_eq!(server.scheduler.recent(10, None).await.unwrap().results.len(), 0, "nothing kept");
    let codes = json!({"of": "codes", "codes": encoded.codes});
    let (child, _) = server.finished(from(&json!({"kind": "picture", "parent": codes}))).await;
    assert_eq!(child.frames.len(), 3);
    let listed = server.scheduler.recent(10, None).await.unwrap().results;
    assert!(listed.is_empty(), "what descends from it is in no list");
}

#[tokio::test]
async fn bytes_that_are_no_picture_are_refused() {
    let server = Server::start(&[]).await;
    let whole = png(RgbImage::new(16, 16));
    for (media_type, body, status, code) in [
        ("text/plain", whole.clone(), 400, ErrorCode::MalformedBody),
        ("image/gif", whole.clone(), 400, ErrorCode::MalformedBody),
        ("image/png", whole[..40].to_vec(), 422, ErrorCode::InvalidPicture),
        ("image/png", b"hello".to_vec(), 422, ErrorCode::InvalidPicture),
        ("image/png", Vec::new(), 422, ErrorCode::InvalidPicture),
        ("image/png", vec![0; (16 << 20) + 1], 413, ErrorCode::TooLarge),
    ] {
        let (got, error) = refusal(sent(&server, media_type, body).await).await;
        assert_eq!((got, error.code), (status, code), "{media_type}: {}", error.message);
    }
}

#[tokio::test]
async fn a_preview_is_a_picture_that_is_kept_nowhere() {
    let server = Server::start(&[]).await;
    let response = server.request(Method::POST, "/api/preview").json(&wish()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let picture = image::load_from_memory(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(picture.width(), 16);
    assert_eq!(server.scheduler.recent(10, None).await.unwrap().results.len(), 0);
}

#[tokio::test]
async fn of_previews_on_a_connection_the_newest_wins() {
    let server = Server::held(&[]).await;
    let mut client = Client::greeted(&server).await;
    for tag in 1..=5 {
        client.say(&ClientMessage::Preview { tag, request: request(0) }).await;
        if tag == 1 {
            // The first one is on the device; nothing takes it back.
            let gate = server.gate.clone();
            tokio::task::spawn_blocking(move || gate.wait_for_device()).await.unwrap();
        }
    }
    client.say(&ClientMessage::Preview { tag: 6, request: request(99) }).await;
    let refused = loop {
        if let Heard::Message(message) = client.hear().await {
            break serde_json::to_value(message).unwrap();
        }
    };
    assert_eq!(
        (&refused["tag"], &refused["error"]["code"]),
        (&json!(6), &json!("class_out_of_range"))
    );
    client.say(&ClientMessage::Preview { tag: 7, request: request(0) }).await;
    server.gate.open();
    let mut shown = Vec::new();
    while shown.len() < 2 {
        if let Heard::Frame(job, ..) = client.hear().await {
            shown.push(job);
        }
    }
    assert_eq!(shown, [JobId::of_preview(1), JobId::of_preview(7)]);
}

#[tokio::test]
async fn a_downloaded_picture_is_drawn_again_and_compared() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let download = format!("{}?download", view.pictures[1]);
    let bytes = server.get(&download).await.bytes().await.unwrap().to_vec();
    let verify = async |media_type: &'static str, body: Vec<u8>| {
        let request = server.request(Method::POST, "/api/verify");
        request.header(header::CONTENT_TYPE, media_type).body(body).send().await.unwrap()
    };
    let response = verify("image/png", bytes.clone()).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let same: Verification = response.json().await.unwrap();
    let expected = (view.request.clone(), 1, 0);
    assert_eq!((same.request, same.picture, same.largest_difference), expected);
    // Animations end with the picture.
    for (kind, media_type) in
        [("webp", "image/webp"), ("apng", "image/apng"), ("apng", "image/png")]
    {
        let path = format!("/api/results/{}/export?as={kind}&picture=1", view.id);
        let animation = server.get(&path).await.bytes().await.unwrap().to_vec();
        let same: Verification = verify(media_type, animation).await.json().await.unwrap();
        assert_eq!((same.request, same.picture, same.largest_difference), expected, "{kind}");
    }
    let path = format!("/api/results/{}/export?as=gif", view.id);
    let gif = server.get(&path).await.bytes().await.unwrap().to_vec();
    let (status, error) = refusal(verify("image/gif", gif).await).await;
    assert_eq!((status, error.code), (422, ErrorCode::InvalidPicture));
    assert!(error.message.contains("256 colours"), "{}", error.message);
    // The second picture under the name of the first.
    let other = server.get(&format!("{}?download", view.pictures[0])).await.bytes().await.unwrap();
    let data = |bytes: &[u8]| bytes.windows(4).position(|name| name == b"IDAT").unwrap() - 4;
    let mixed = [&other[..data(&other)], &bytes[data(&bytes)..]].concat();
    let differs: Verification = verify("image/png", mixed).await.json().await.unwrap();
    assert!(differs.picture == 0 && differs.largest_difference > 0, "{differs:?}");
    assert_eq!(server.scheduler.recent(10, None).await.unwrap().results.len(), 1, "nothing kept");
    for (media_type, body, status, code) in [
        ("image/jpeg", bytes.clone(), 400, ErrorCode::MalformedBody),
        ("image/png", bytes[..bytes.len() - 8].to_vec(), 422, ErrorCode::InvalidPicture),
        ("image/png", png(RgbImage::new(16, 16)), 422, ErrorCode::InvalidPicture),
        ("image/png", b"hello".to_vec(), 422, ErrorCode::InvalidPicture),
        ("image/png", vec![0; (16 << 20) + 1], 413, ErrorCode::TooLarge),
    ] {
        let (got, error) = refusal(verify(media_type, body).await).await;
        assert_eq!((got, error.code), (status, code), "{media_type}: {}", error.message);
    }
}

#[tokio::test]
async fn a_thumbnail_of_a_class_is_drawn_once() {
    let server = Server::held(&[]).await;
    let model = &server.scheduler.models()[0];
    let student =
        model.plans.iter().map(|preset| &preset.plan).filter(|plan| !plan.needs_teacher());
    // Passes for one; a second drawing would wait for ever.
    server.gate.allow(student.map(|plan| plan.passes(model.scales()).len()).max().unwrap());
    let path = "/api/classes/1/thumbnail";
    let named = format!("{path}?model={}", model.name);
    let (first, second, third) =
        tokio::join!(server.get(path), server.get(path), server.get(&named));
    let tag = first.headers()[header::ETAG].clone();
    for response in [first, second, third] {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/jpeg");
        assert!(image::load_from_memory(&response.bytes().await.unwrap()).is_ok());
    }
    let again = server.request(Method::GET, path).header(header::IF_NONE_MATCH, tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    assert_eq!(server.scheduler.recent(10, None).await.unwrap().results.len(), 0);
    for (path, status) in [
        ("/api/classes/999999/thumbnail", 422),
        ("/api/classes/1/thumbnail?model=other", 422),
        ("/api/classes/one/thumbnail", 404),
        ("/api/classes/-1/thumbnail", 404),
        ("/api/classes/1/thumbnail?size=9", 400),
    ] {
        assert_eq!(server.get(path).await.status(), status, "{path}");
    }
}
