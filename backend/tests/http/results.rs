//! Results, their pictures and what may be kept of them.

use reqwest::{Method, header};
use serde_json::{Value, json};
use var_dd_protocol::{JobState, MediaType, ResultPage, ServerInfo};

use crate::server::{Server, wish, wish_with};

#[tokio::test]
async fn a_job_by_post_can_be_followed_to_its_pictures() {
    let server = Server::start(&[]).await;
    let response = server.post(&wish_with(json!({"count": 2}))).await;
    assert_eq!(response.status(), 202);
    let location = response.headers()[header::LOCATION].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(location, format!("/api/results/{}", body["job"].as_str().unwrap()));
    assert_eq!(body["url"], format!("/r/{}", body["job"].as_str().unwrap()));
    assert_eq!(body["request"]["model"], "stand-in");
    let job = body["job"].as_str().unwrap().parse().unwrap();
    let mut viewer = server.scheduler.watch(&job, None).await.unwrap();
    while viewer.next().await.is_some() {}

    let view: var_dd_protocol::JobView = server.get(&location).await.json().await.unwrap();
    assert_eq!(view.state, JobState::Finished);
    assert_eq!(view.pictures.len(), 2);
    for frame in &view.frames {
        let response = server.get(&frame.url).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], frame.header.media_type.as_str());
        let bytes = response.bytes().await.unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().width(), frame.header.width);
        if frame.header.last {
            assert_eq!(frame.header.media_type, MediaType::Png);
            let picture = server.get(&view.pictures[frame.header.picture as usize]).await;
            assert_eq!(picture.bytes().await.unwrap(), bytes, "the picture is its last frame");
        }
    }
}

#[tokio::test]
async fn pictures_are_kept_for_good_and_asked_about_for_free() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    for path in [&view.pictures[0], &view.frames[0].url] {
        let response = server.get(path).await;
        assert_eq!(
            response.headers()[header::CACHE_CONTROL],
            "public, max-age=31536000, immutable"
        );
        let tag = response.headers()[header::ETAG].clone();
        let length = response.headers()[header::CONTENT_LENGTH].clone();
        let body = response.bytes().await.unwrap();
        let again = server
            .request(Method::GET, path)
            .header(header::IF_NONE_MATCH, &tag)
            .send()
            .await
            .unwrap();
        assert_eq!((again.status().as_u16(), again.bytes().await.unwrap().len()), (304, 0));
        let other = server
            .request(Method::GET, path)
            .header(header::IF_NONE_MATCH, "\"x\"")
            .send()
            .await
            .unwrap();
        assert_eq!(other.bytes().await.unwrap(), body);
        let head = server.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(
            (head.status().as_u16(), &head.headers()[header::CONTENT_LENGTH]),
            (200, &length)
        );
        assert_eq!(head.headers()[header::ETAG], tag);
        assert!(head.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_still_changes_is_not_kept() {
    let server = Server::held(&[]).await;
    let (job, _) = server.submitted(wish()).await;
    let path = format!("/api/results/{job}");
    let response = server.get(&path).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert!(!response.headers().contains_key(header::ETAG));
    server.gate.open();
    let mut viewer = server.scheduler.watch(&job, None).await.unwrap();
    while viewer.next().await.is_some() {}
    assert_eq!(server.get(&path).await.headers()[header::CACHE_CONTROL], "no-cache");
}

#[tokio::test]
async fn a_download_has_a_name_and_its_parameters_unless_declined() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    let picture = &view.pictures[0];
    let plain = server.get(picture).await.bytes().await.unwrap();
    let response = server.get(&format!("{picture}?download")).await;
    assert_eq!(
        response.headers()[header::CONTENT_DISPOSITION],
        "attachment; filename=\"class-0_seed-7_1-step.png\""
    );
    let with_text = response.bytes().await.unwrap();
    assert_ne!(with_text, plain);
    let text = String::from_utf8_lossy(&with_text);
    assert!(text.contains("tEXtparameters\0{") && text.contains("\"seed\":7"), "{text}");
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8();
    assert_eq!(pixels(&with_text), pixels(&plain));
    let declined = server.get(&format!("{picture}?download&parameters=no")).await;
    assert!(declined.headers().contains_key(header::CONTENT_DISPOSITION));
    assert_eq!(declined.bytes().await.unwrap(), plain);
}

#[tokio::test]
async fn recent_results_come_page_by_page_newest_first() {
    let server = Server::start(&[]).await;
    let mut expected = Vec::new();
    for seed in 0..5 {
        expected.insert(0, server.finished(wish_with(json!({"seed": seed}))).await.0.id);
    }
    let mut found = Vec::new();
    let mut path = "/api/results?limit=2".to_owned();
    loop {
        let page: ResultPage = server.get(&path).await.json().await.unwrap();
        assert!(page.results.len() <= 2 && page.results.iter().all(|view| view.frames.is_empty()));
        found.extend(page.results.into_iter().map(|view| view.id));
        match page.next {
            Some(next) => path = format!("/api/results?limit=2&before={next}"),
            None => break,
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_server_says_what_it_offers_and_how_it_is() {
    let server = Server::start(&[]).await;
    let info: ServerInfo = server.get("/api/info").await.json().await.unwrap();
    assert_eq!(info.protocol, var_dd_protocol::PROTOCOL_VERSION);
    assert_eq!(info.models[0].name, "stand-in");
    assert_eq!(info.example, None);
    let example = server.scheduler.submit_example(crate::server::request(2)).await.unwrap();
    let mut viewer = server.scheduler.watch(&example, None).await.unwrap();
    while viewer.next().await.is_some() {}
    let info: ServerInfo = server.get("/api/info").await.json().await.unwrap();
    assert_eq!(info.example, Some(example));

    assert_eq!(server.get("/livez").await.text().await.unwrap(), "alive\n");
    let ready: Value = server.get("/readyz").await.json().await.unwrap();
    assert_eq!(ready["ready"], true);
    let response = server.get("/metrics").await;
    assert!(
        response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let metrics = response.text().await.unwrap();
    for part in [
        "var_dd_http_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"} 1",
        "var_dd_http_request_duration_seconds_bucket",
        "var_dd_websocket_connections 0",
        "var_dd_jobs_accepted_total 1",
        "# EOF",
    ] {
        assert!(metrics.contains(part), "{part} is missing in\n{metrics}");
    }
    assert!(
        metrics.lines().all(|line| line.starts_with('#') || line.starts_with("var_dd_")),
        "a name without prefix in\n{metrics}"
    );
    let document: Value = server.get("/api/openapi.json").await.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
}
