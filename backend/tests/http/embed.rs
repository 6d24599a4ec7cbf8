//! Results on other sites.

use reqwest::{Method, header};
use serde_json::{Value, json};
use var_dd_protocol::JobView;

use crate::server::{HOSTILE_CLASS, Server, refusal, wish, wish_with};

/// Attributes of the tags of a name in a page, as a parser sees them.
fn tags(html: &str, name: &str) -> Vec<String> {
    let open = format!("<{name}");
    html.split(&open)
        .skip(1)
        .filter(|rest| rest.starts_with([' ', '>']))
        .map(|rest| rest.split_once('>').map_or(rest, |(inside, _)| inside).to_owned())
        .collect()
}

fn policy(response: &reqwest::Response) -> String {
    response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn any_site_may_frame_the_player_and_nothing_else() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    let player = server.get(&format!("/embed/{}", view.id)).await;
    assert_eq!(player.status(), 200);
    assert!(!player.headers().contains_key(header::X_FRAME_OPTIONS));
    let allowed = policy(&player);
    assert!(allowed.contains("frame-ancestors *") && !allowed.contains("script-src"), "{allowed}");
    assert!(allowed.contains("default-src 'none'"), "{allowed}");
    for path in [
        "/".to_owned(),
        "/compare".to_owned(),
        format!("/r/{}", view.id),
        format!("/api/results/{}", view.id),
        format!("/api/results/{}/qr.svg", view.id),
        "/embed/".to_owned(),
        "/nope".to_owned(),
    ] {
        let response = server.get(&path).await;
        assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert!(policy(&response).contains("frame-ancestors 'none'"), "{path}");
    }
}

#[tokio::test]
async fn the_player_has_every_scale_and_the_picture_and_no_script() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let html = server.get(&format!("/embed/{}?picture=2", view.id)).await.text().await.unwrap();
    let images = tags(&html, "img");
    assert_eq!(images.len(), view.patch_nums.len(), "{html}");
    let finished = images.last().unwrap();
    assert!(finished.contains(&format!("src=\"..{}\"", view.pictures[1])), "{finished}");
    assert_eq!(tags(&html, "input").len(), images.len());
    assert!(tags(&html, "script").is_empty() && !html.contains(" style="), "{html}");
    let link = tags(&html, "a");
    assert!(link[0].contains(&server.url(&format!("/r/{}?picture=2", view.id))), "{link:?}");
    for image in images {
        let path = image.split('"').nth(1).unwrap().trim_start_matches("..").to_owned();
        assert_eq!(server.get(&path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_player_without_a_picture_says_so() {
    let server = Server::held(&[]).await;
    let (job, _) = server.submitted(wish()).await;
    let waiting = server.get(&format!("/embed/{job}")).await;
    assert_eq!(waiting.status(), 200);
    assert!(waiting.text().await.unwrap().contains("no finished picture yet"));
    for id in ["0".repeat(32), "nonsense".to_owned(), "%3Cscript%3E".to_owned()] {
        let response = server.get(&format!("/embed/{id}")).await;
        assert_eq!(response.status(), 404, "{id}");
        assert!(policy(&response).contains("frame-ancestors *"), "{id}");
        let html = response.text().await.unwrap();
        assert!(html.contains("no picture (any more)") && !html.contains("<script"), "{html}");
    }
    let missing = format!("/api/oembed?url={}", server.url(&format!("/r/{job}")));
    assert_eq!(server.get(&missing).await.status(), 404, "not finished");
    server.gate.open();
}

#[tokio::test]
async fn a_link_leads_to_its_oembed_and_that_to_the_player() {
    for (flags, base) in [(&[][..], None), (&["--public-url=https://draw.example/play"], Some(()))]
    {
        let server = Server::start(flags).await;
        let base = base.map_or_else(|| server.url(""), |()| "https://draw.example/play".to_owned());
        let (view, _) = server.finished(wish_with(json!({"class": HOSTILE_CLASS}))).await;
        let page = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
        let discovery = tags(&page, "link")
            .into_iter()
            .find(|link| link.contains("application/json+oembed"))
            .expect("a link for discovery");
        let address = discovery.split("href=\"").nth(1).unwrap().split('"').next().unwrap();
        let address = address.replace("&amp;", "&");
        let path = address.strip_prefix(&base).unwrap();
        let answer: Value = server.get(path).await.json().await.unwrap();
        assert_eq!((&answer["version"], &answer["type"]), (&json!("1.0"), &json!("rich")));
        assert_eq!(answer["thumbnail_url"], format!("{base}/r/{}/card.jpg", view.id));
        let html = answer["html"].as_str().unwrap();
        let frame = &tags(html, "iframe")[0];
        assert!(frame.contains(&format!("src=\"{base}/embed/{}\"", view.id)), "{frame}");
        assert!(!html.contains("<script"), "{html}");
        let (width, height) = (answer["width"].as_u64(), answer["height"].as_u64());
        assert!(frame.contains(&format!("width=\"{}\"", width.unwrap())), "{frame}");
        assert!(height > width);
        let small: Value = server.get(&format!("{path}&maxwidth=200")).await.json().await.unwrap();
        assert_eq!(small["width"], 200);
    }
}

#[tokio::test]
async fn comparisons_and_grids_are_links_with_a_card() {
    for (flags, base) in [(&[][..], None), (&["--public-url=https://draw.example/play"], Some(()))]
    {
        let server = Server::start(flags).await;
        let base = base.map_or_else(|| server.url(""), |()| "https://draw.example/play".to_owned());
        let comparison = "c/stand-in/2-class-2/7/student=0;split=1/student=0,1;split=1";
        let grid = "grid?across=seed:7-9&down=class:1,2";
        for (link, card, title) in [
            (comparison, format!("{comparison}/card.jpg"), "against"),
            (grid, grid.replace('?', "/card.jpg?"), "seed and class"),
        ] {
            let page = server.get(&format!("/{link}")).await.text().await.unwrap();
            let discovery = tags(&page, "link")
                .into_iter()
                .find(|link| link.contains("application/json+oembed"))
                .expect("a link for discovery");
            let address = discovery.split("href=\"").nth(1).unwrap().split('"').next().unwrap();
            let address = address.replace("&amp;", "&");
            let answer = server.get(address.strip_prefix(&base).unwrap()).await;
            let answer: Value = answer.json().await.unwrap();
            assert_eq!((&answer["version"], &answer["type"]), (&json!("1.0"), &json!("link")));
            assert!(answer["title"].as_str().unwrap().contains(title), "{answer}");
            assert!(answer["html"].is_null(), "{answer}");
            let thumbnail = answer["thumbnail_url"].as_str().unwrap();
            assert_eq!(thumbnail, format!("{base}/{card}"));
            let path = thumbnail.strip_prefix(&base).unwrap();
            assert_eq!(server.get(path).await.status(), 200, "{path}");
        }
    }
}

#[tokio::test]
async fn oembed_refuses_what_it_does_not_know() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish()).await;
    let url = server.url(&format!("/r/{}", view.id));
    for (query, status) in [
        (format!("url={url}&format=xml"), 501),
        (format!("url={url}&maxwidth=-1"), 400),
        ("format=json".to_owned(), 400),
        ("url=https://evil.example/r/0".to_owned(), 404),
        (format!("url=https://evil.example/r/{}", view.id), 404),
        (format!("url={}", server.url("/")), 404),
        (format!("url={}", server.url("/grid?across=seed:1")), 404),
        (format!("url={}", server.url("/c/nonsense")), 404),
        (format!("url={}", server.url(&format!("/r/{}", "0".repeat(32)))), 404),
        (format!("url={}", "x".repeat(4000)), 404),
    ] {
        let (got, error) = refusal(server.get(&format!("/api/oembed?{query}")).await).await;
        assert_eq!(got, status, "{query}: {}", error.message);
        assert!(error.message.len() < 400, "{}", error.message);
    }
}

#[tokio::test]
async fn a_result_has_a_qr_code_of_its_link() {
    let server = Server::start(&["--public-url=https://draw.example"]).await;
    let (view, _): (JobView, _) = server.finished(wish()).await;
    let path = format!("/api/results/{}/qr.svg", view.id);
    let response = server.get(&path).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/svg+xml");
    let tag = response.headers()[header::ETAG].clone();
    let svg = response.text().await.unwrap();
    // 55 characters need version 4 (33 modules) at this level of correction, and 8 of white.
    assert!(svg.starts_with("<svg ") && svg.contains("viewBox=\"0 0 41 41\""), "{svg}");
    let again = server.request(Method::GET, &path).header(header::IF_NONE_MATCH, tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    let missing = server.get(&format!("/api/results/{}/qr.svg", "0".repeat(32))).await;
    assert_eq!(missing.status(), 404);
}
