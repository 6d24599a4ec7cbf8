//! The page and the addresses of results.

use reqwest::{Method, header};
use serde_json::json;

use crate::server::{HOSTILE_CLASS, Server, wish, wish_with};

#[tokio::test]
async fn assets_are_sent_compressed_to_those_who_read_that_and_kept_for_good() {
    let server = Server::start(&[]).await;
    for (accepted, coding, text) in [
        ("gzip, deflate, br", Some("br"), "brotli script"),
        ("gzip", Some("gzip"), "gzip script"),
        ("identity", None, "plain script"),
        ("br;q=0", None, "plain script"),
    ] {
        let response = server
            .request(Method::GET, "/assets/app-1a2b.js")
            .header(header::ACCEPT_ENCODING, accepted)
            .send()
            .await
            .unwrap();
        let headers = response.headers().clone();
        assert_eq!(
            headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap()),
            coding
        );
        assert_eq!(headers[header::VARY], "Accept-Encoding");
        assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(response.text().await.unwrap(), text, "{accepted}");
    }
    for path in [
        "/assets/app-1a2b.js.br",
        "/assets/missing.js",
        "/..%2f..%2fsecret.txt",
        "/%2e%2e/secret.txt",
    ] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
    let icon = server.get("/icon.svg").await;
    assert_eq!(icon.headers()[header::CONTENT_TYPE], "image/svg+xml");
    assert_eq!(icon.headers()[header::CACHE_CONTROL], "no-cache");
}

#[tokio::test]
async fn places_in_the_page_are_the_page() {
    let server = Server::start(&[]).await;
    for path in ["/", "/about", "/compare", "/compare?class=3", "/somewhere/else"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.text().await.unwrap().contains("<title>page</title>"), "{path}");
        let head = server.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn a_link_to_a_result_tells_what_it_shows() {
    let server = Server::start(&["--public-url=https://draw.example"]).await;
    let (view, _) = server.finished(wish_with(json!({"class": 2}))).await;
    let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
    let image = format!(
        "<meta property=\"og:image\" content=\"https://draw.example{}\">",
        view.pictures[0]
    );
    for part in [
        image.as_str(),
        "<meta property=\"og:title\" content=\"class 2\">",
        "seed 7",
        "<title>page</title>",
    ] {
        assert!(html.contains(part), "{part} is missing in\n{html}");
    }
    assert!(!html.contains("open-graph") && !html.contains("content=\"general\""), "{html}");

    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
    assert!(html.contains(&format!("content=\"{}\"", server.url(&view.pictures[0]))), "{html}");
}

#[tokio::test]
async fn a_hostile_class_name_does_not_leave_its_tag() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"class": HOSTILE_CLASS}))).await;
    let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
    assert!(html.contains("og:title") && !html.contains("<script"), "{html}");
    let download = server.get(&format!("{}?download", view.pictures[0])).await;
    let disposition = download.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"script-alert-1-script_seed-7_1-step.png\"");
}

#[tokio::test]
async fn a_link_without_a_result_is_the_page_and_not_found() {
    let server = Server::start(&[]).await;
    for path in ["/r/00000000000000000000000000000000", "/r/nonsense", "/r/%22%3E%3Cscript%3E"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert!(
            response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html")
        );
        let html = response.text().await.unwrap();
        assert!(html.contains("<title>page</title>") && !html.contains("<script"), "{html}");
    }
}

#[tokio::test]
async fn a_page_that_is_not_built_says_how_to_build_it() {
    let server = Server::adjusted(&[], |config, _| {
        config.http.page = var_dd::http::Page::Directory("/nowhere".into());
    })
    .await;
    let response = server.get("/").await;
    assert_eq!(response.status(), 404);
    assert!(response.text().await.unwrap().contains("cargo xtask build"));
}
