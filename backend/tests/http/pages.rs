//! The page and the addresses of results.

use reqwest::{Method, header};
use serde_json::json;

use crate::server::{HOSTILE_CLASS, Server, wish, wish_with};
use var_dd::generator::fake;
use var_dd_protocol::{Comparison, JobView};

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
    for path in ["/", "/compare", "/compare?class=3"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let html = response.text().await.unwrap();
        for part in [
            "<title>VAR-DD playground</title>",
            "<meta name=\"description\" content=\"Pick a class",
            "src=\"./assets/app-1a2b.js\"",
            &format!("<meta property=\"og:image\" content=\"{}\">", server.url("/card.jpg")),
        ] {
            assert!(html.contains(part), "{path}: {part} is missing in\n{html}");
        }
        let head = server.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_leads_to_the_place_without_it() {
    let server = Server::start(&[]).await;
    for (path, place) in [
        ("/compare/", "../compare"),
        ("/grid/?across=seed:1-2", "../grid?across=seed:1-2"),
        ("/r/0123/", "../0123"),
    ] {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let response = client.build().unwrap().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 308, "{path}");
        assert_eq!(response.headers()[header::LOCATION], place, "{path}");
    }
    assert_eq!(server.get("/compare/").await.status(), 200);
    assert_eq!(server.get("/nope/").await.status(), 404);
}

#[tokio::test]
async fn where_there_is_nothing_the_page_says_so_with_the_right_status() {
    let server = Server::start(&[]).await;
    for (path, root) in [("/nope", "./"), ("/somewhere/else", "../"), ("/c/nonsense", "../")] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let html = response.text().await.unwrap();
        let home = format!("<a href=\"{root}\">");
        for part in ["<title>Nothing here", &format!("src=\"{root}assets/app-1a2b.js\""), &home] {
            assert!(html.contains(part), "{path}: {part} is missing in\n{html}");
        }
    }
}

#[tokio::test]
async fn answers_are_sent_compressed_to_those_who_read_that() {
    let server = Server::start(&[]).await;
    for path in ["/api/openapi.json", "/api/info", "/"] {
        let plain = server.get(path).await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING), "{path}");
        let tag = plain.headers()[header::ETAG].clone();
        let plain = plain.bytes().await.unwrap();
        for coding in ["br", "gzip"] {
            let asked = server.request(Method::GET, path).header(header::ACCEPT_ENCODING, coding);
            let packed = asked.send().await.unwrap();
            assert_eq!(packed.headers()[header::CONTENT_ENCODING], coding, "{path}");
            assert_eq!(packed.headers()[header::VARY], "Accept-Encoding", "{path}");
            assert!(packed.bytes().await.unwrap().len() < plain.len(), "{path}");
        }
        let known = server
            .request(Method::GET, path)
            .header(header::ACCEPT_ENCODING, "br")
            .header(header::IF_NONE_MATCH, tag);
        assert_eq!(known.send().await.unwrap().status(), 304, "{path}");
    }
}

#[tokio::test]
async fn a_link_to_a_result_tells_what_it_shows() {
    for (flags, base) in [
        (&["--public-url=https://draw.example"][..], Some("https://draw.example")),
        (&["--public-url=https://draw.example/play/"], Some("https://draw.example/play")),
        (&[], None),
    ] {
        let server = Server::start(flags).await;
        let base = base.map_or_else(|| server.url(""), str::to_owned);
        let (view, _) = server.finished(wish_with(json!({"class": 2, "count": 3}))).await;
        let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
        for part in [
            format!("<meta property=\"og:image\" content=\"{base}/r/{}/card.jpg\">", view.id),
            format!("<meta property=\"og:url\" content=\"{base}/r/{}\">", view.id),
            "<meta property=\"og:title\" content=\"class 2, 3 pictures\">".to_owned(),
            "<meta name=\"twitter:card\" content=\"summary_large_image\">".to_owned(),
            "seed 7".to_owned(),
            "<title>class 2, 3 pictures".to_owned(),
            "src=\"../assets/app-1a2b.js\"".to_owned(),
        ] {
            assert!(html.contains(&part), "{part} is missing in\n{html}");
        }
        assert!(!html.contains("open-graph"), "{html}");
        let one = server.get(&format!("/r/{}?picture=2", view.id)).await.text().await.unwrap();
        for part in ["class 2, picture 2 of 3", "/card.jpg?picture=2"] {
            assert!(one.contains(part), "{part} is missing in\n{one}");
        }
        for odd in ["0", "4", "x", "", "99999999999999999999"] {
            let path = format!("/r/{}?picture={odd}", view.id);
            let html = server.get(&path).await.text().await.unwrap();
            assert!(html.contains("class 2, 3 pictures"), "{odd}");
        }
    }
}

#[tokio::test]
async fn a_card_is_a_large_picture_of_the_result() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"count": 2}))).await;
    let comparison = comparison();
    for path in [
        format!("/r/{}/card.jpg", view.id),
        format!("/r/{}/card.jpg?picture=2", view.id),
        "/card.jpg".to_owned(),
        format!("/{comparison}/card.jpg"),
    ] {
        let response = server.get(&path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/jpeg", "{path}");
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.len() <= 300_000, "{path}: {} bytes", bytes.len());
        let card = image::load_from_memory(&bytes).unwrap();
        assert_eq!((card.width(), card.height()), (1200, 630), "{path}");
    }
    let missing = format!("/r/{}/card.jpg", "0".repeat(32));
    for path in [missing.as_str(), "/r/nonsense/card.jpg", "/c/nonsense/card.jpg"] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn a_card_shows_the_picture_that_was_drawn() {
    let server = Server::start(&[]).await;
    let card = async |view: &JobView| {
        let bytes = server.get(&format!("/r/{}/card.jpg", view.id)).await.bytes().await.unwrap();
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    };
    let (view, _) = server.finished(wish()).await;
    let bytes = server.get(&view.pictures[0]).await.bytes().await.unwrap();
    let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
    let shown = card(&view).await;
    // The middles of both, which scaling leaves alone but for rounding and the encoding.
    let middle = |picture: &image::RgbImage, x: u32, y: u32| picture.get_pixel(x, y).0;
    let own = middle(&picture, picture.width() / 2, picture.height() / 2);
    let of_card = middle(&shown, 315, 315);
    let distance: i32 =
        own.iter().zip(of_card).map(|(a, b)| (i32::from(*a) - i32::from(b)).abs()).sum();
    assert!(distance < 60, "{own:?} and {of_card:?}");
}

#[tokio::test]
async fn without_scripts_a_result_shows_its_picture_its_scales_and_its_settings() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"class": 2}))).await;
    let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
    let (_, without) = html.split_once("<noscript>").unwrap();
    for path in view.pictures.iter().chain(view.frames.iter().map(|frame| &frame.url)) {
        let place = format!("src=\"..{path}\"");
        assert!(without.contains(&place), "{place} is missing in\n{without}");
        assert_eq!(server.get(path).await.status(), 200);
    }
    for part in ["<h1>class 2</h1>", "<dt>seed</dt><dd>7</dd>", "<dt>model</dt><dd>stand-in</dd>"] {
        assert!(without.contains(part), "{part} is missing in\n{without}");
    }
}

/// A comparison that the stand-in can draw.
fn comparison() -> Comparison {
    Comparison::new(
        "stand-in",
        2,
        "class 2",
        7,
        vec![fake::few_step(&[0]), fake::few_step(&[0, 1])],
    )
}

#[tokio::test]
async fn a_comparison_has_an_address_that_tells_what_it_shows() {
    let server = Server::start(&[]).await;
    let comparison = comparison();
    let response = server.get(&format!("/{comparison}")).await;
    assert_eq!(response.status(), 200);
    let html = response.text().await.unwrap();
    for part in [
        format!(
            "<meta property=\"og:image\" content=\"{}/card.jpg\">",
            server.url(&format!("/{comparison}"))
        ),
        "class 2: ".to_owned(),
        "2 ways to draw one class 2 from seed 7".to_owned(),
        "src=\"../../../../../assets/app-1a2b.js\"".to_owned(),
        format!("<img class=\"card\" src=\"../../../../../{comparison}/card.jpg\""),
    ] {
        assert!(html.contains(&part), "{part} is missing in\n{html}");
    }
    let plans = comparison.plans.clone();
    for (model, class) in [("another", 2), ("stand-in", 9_999)] {
        let other = Comparison::new(model, class, "", 7, plans.clone());
        assert_eq!(server.get(&format!("/{other}")).await.status(), 404, "{other}");
    }
}

/// The query of a grid that the stand-in can draw.
const GRID: &str = "across=seed:+7-9&down=plan:+1+step,+2+steps&class=2";

#[tokio::test]
async fn a_grid_has_an_address_that_tells_what_it_shows() {
    let server = Server::start(&[]).await;
    let html = server.get(&format!("/grid?{GRID}")).await.text().await.unwrap();
    let card = server.url(&format!("/grid/card.jpg?{GRID}")).replace('&', "&amp;");
    for part in [
        "<title>class 2: seed and plan".to_owned(),
        "<meta property=\"og:title\" content=\"class 2: seed and plan\">".to_owned(),
        format!("<meta property=\"og:image\" content=\"{card}\">"),
        "6 pictures: seed 7, seed 8, seed 9 across, 1 step, 2 steps down; stand-in.".to_owned(),
        "src=\"./assets/app-1a2b.js\"".to_owned(),
        "<h1>class 2: seed and plan</h1>".to_owned(),
    ] {
        assert!(html.contains(&part), "{part} is missing in\n{html}");
    }
    // Nobody's words but those of a model come into a card.
    let words = "across=class:words+of+a+stranger&down=seed:1";
    for query in ["", "across=seed:1", "across=seed:1&down=plan:none", words] {
        let response = server.get(&format!("/grid?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        let html = response.text().await.unwrap();
        assert!(html.contains("<title>VAR-DD playground<"), "{html}");
        assert!(!html.contains("stranger"), "{html}");
        let card = server.get(&format!("/grid/card.jpg?{query}")).await;
        let (status, error) = crate::server::refusal(card).await;
        assert!(status == 404 && error.message.contains("across"), "{query}: {}", error.message);
    }
    let class = format!("across=seed:1-2&down=plan:1+step&class={HOSTILE_CLASS}&x=\"><b>");
    let html = server.get(&format!("/grid?{class}")).await.text().await.unwrap();
    assert!(!html.contains("<script>alert") && !html.contains("\"><b>"), "{html}");
}

#[tokio::test]
async fn the_card_of_a_grid_shows_those_of_its_pictures_that_are_results() {
    let server = Server::start(&[]).await;
    let card = async |query: &str| {
        let response = server.get(&format!("/grid/card.jpg?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.len() <= 300_000, "{query}: {} bytes", bytes.len());
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    };
    let empty = card(GRID).await;
    assert_eq!(empty.dimensions(), (1200, 630));
    let (view, _) = server.finished(wish_with(json!({"class": 2, "seed": 8}))).await;
    assert_eq!(view.request.plan, server.scheduler.models()[0].plans[0].plan, "the first row");
    assert!(card(GRID).await != empty, "its picture is not there");
    let elsewhere = GRID.replace("class=2", "class=3");
    card(&elsewhere).await;
    card("across=seed:+1-12&down=class:+0,1,2,3,4,5,6,7").await;
}

/// The query of a walk over the pad that the stand-in can draw.
const WALK: &str = "corners=0-5_2-7_3-6_4-8&at=40-60&pins=10-10_90-20&pictures=96";

#[tokio::test]
async fn a_walk_has_an_address_that_tells_what_it_shows() {
    let server = Server::start(&[]).await;
    let html = server.get(&format!("/explore?{WALK}&utm_source=x")).await.text().await.unwrap();
    let query = WALK.replace('&', "&amp;");
    for part in [
        "<title>Between class 0, class 2, class 3 and class 4".to_owned(),
        format!("content=\"{}?{query}\"", server.url("/explore")),
        format!("content=\"{}?{query}\"", server.url("/explore/card.jpg")),
        "A closed walk of 96 pictures between four".to_owned(),
        format!("<img class=\"card\" src=\"./explore/card.jpg?{query}\""),
        "src=\"./assets/app-1a2b.js\"".to_owned(),
    ] {
        assert!(html.contains(&part), "{part} is missing in\n{html}");
    }
    let place = server.get("/explore?corners=0-5_2-6_3-7_4-8").await.text().await.unwrap();
    assert!(place.contains("A picture between four others"), "{place}");
    for query in ["", "at=40-60", "corners=0-5_2-6_3-7_99-8", "corners=x\"><b>"] {
        let response = server.get(&format!("/explore?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        let html = response.text().await.unwrap();
        assert!(html.contains("<title>VAR-DD playground<") && !html.contains("\"><b>"), "{html}");
        let card = server.get(&format!("/explore/card.jpg?{query}")).await;
        let (status, error) = crate::server::refusal(card).await;
        assert!(status == 404 && error.message.contains("corners"), "{query}: {}", error.message);
    }
    let hostile = format!("corners=0-5_2-6_3-7_{HOSTILE_CLASS}-8");
    let html = server.get(&format!("/explore?{hostile}")).await.text().await.unwrap();
    assert!(!html.contains("<script>alert"), "{html}");
}

#[tokio::test]
async fn the_card_of_a_walk_shows_its_corners_as_far_as_they_were_drawn() {
    let server = Server::start(&[]).await;
    let card = async || {
        let response = server.get(&format!("/explore/card.jpg?{WALK}")).await;
        assert_eq!(response.status(), 200);
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.len() <= 300_000, "{} bytes", bytes.len());
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    };
    let empty = card().await;
    assert_eq!(empty.dimensions(), (1200, 630));
    server.finished(wish_with(json!({"class": 2, "seed": 7}))).await;
    assert!(card().await != empty, "its corner is not there");
}

#[tokio::test]
async fn a_link_to_the_playground_tells_what_it_asks_for() {
    let server = Server::start(&[]).await;
    let query = "class=class-2&plan=2-steps&seed=5";
    let html = server.get(&format!("/?{query}&utm_source=mail")).await.text().await.unwrap();
    let asked = "class=class-2&amp;seed=5&amp;plan=2-steps";
    for part in [
        "<title>class 2 · VAR-DD playground</title>".to_owned(),
        "<meta property=\"og:title\" content=\"class 2\">".to_owned(),
        "content=\"To be drawn by 2 steps, stand-in · seed 5. Watch it come".to_owned(),
        format!("<meta property=\"og:url\" content=\"{}?{asked}\">", server.url("/")),
        format!("<meta property=\"og:image\" content=\"{}?{asked}\">", server.url("/card.jpg")),
        "<meta property=\"og:image:width\" content=\"1200\">".to_owned(),
        "src=\"./assets/app-1a2b.js\"".to_owned(),
    ] {
        assert!(html.contains(&part), "{part} is missing in\n{html}");
    }
    for query in
        ["class=words+of+a+stranger", "class=2&plan=stranger", "class=2&seed=stranger", "seed=5"]
    {
        let response = server.get(&format!("/?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        let html = response.text().await.unwrap();
        assert!(html.contains("<title>VAR-DD playground<"), "{query}: {html}");
        assert!(!html.contains("stranger"), "{html}");
    }
    let hostile = format!("class={HOSTILE_CLASS}&seed=\"><b>&x=\"><b>");
    let html = server.get(&format!("/?{hostile}")).await.text().await.unwrap();
    assert!(!html.contains("\"><b>"), "{html}");
    let html = server.get(&format!("/?class={HOSTILE_CLASS}")).await.text().await.unwrap();
    assert!(html.contains("og:title") && !html.contains("<script>alert"), "{html}");
}

#[tokio::test]
async fn the_card_of_a_link_to_the_playground_shows_what_is_there_and_draws_nothing() {
    let server = Server::start(&[]).await;
    let card = async |query: &str| {
        let response = server.get(&format!("/card.jpg?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.len() <= 300_000, "{query}: {} bytes", bytes.len());
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    };
    let plain = card("").await;
    assert_eq!(card("class=unheard-of").await, plain);
    let asked = "class=2&plan=1-step&seed=8";
    let empty = card(asked).await;
    assert_eq!(empty.dimensions(), (1200, 630));
    assert!(empty != plain, "it is the one of the playground");
    let drawn = server.get("/api/results").await.text().await.unwrap();
    assert!(!drawn.contains("\"id\""), "something was drawn: {drawn}");
    server.get("/api/classes/2/thumbnail").await;
    let class = card(asked).await;
    assert!(class != empty, "what the class looks like is not in it");
    server.finished(wish_with(json!({"class": 2, "seed": 8}))).await;
    let result = card(asked).await;
    assert!(result != class, "the result is not in it");
    assert_eq!(card("class=2&plan=1-step&seed=9").await.dimensions(), (1200, 630));
    assert!(card("class=2&plan=2-steps&seed=8").await != result, "another plan");
}

#[tokio::test]
async fn a_public_address_with_a_path_works_whether_the_proxy_passes_the_path_on_or_not() {
    let server = Server::start(&["--public-url=https://draw.example/play"]).await;
    let (view, _) = server.finished(wish()).await;
    for path in [
        "/".to_owned(),
        "/api/info".to_owned(),
        "/assets/app-1a2b.js".to_owned(),
        format!("/r/{}", view.id),
        format!("/api/results/{}", view.id),
        view.pictures[0].clone(),
        format!("/{}", comparison()),
        format!("/grid?{GRID}"),
        format!("/grid/card.jpg?{GRID}"),
        format!("/explore?{WALK}"),
        format!("/explore/card.jpg?{WALK}"),
    ] {
        let (bare, prefixed) = (server.get(&path).await, server.get(&format!("/play{path}")).await);
        assert_eq!((bare.status().as_u16(), prefixed.status().as_u16()), (200, 200), "{path}");
        let is_page =
            bare.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html");
        let (bare, prefixed) = (bare.bytes().await.unwrap(), prefixed.bytes().await.unwrap());
        assert!(is_page || bare == prefixed, "{path}");
    }
    for path in ["/playground", "/play/nope", "/play/play", "/play/play/api/info"] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
    let found = server.get("/play?class=2").await;
    assert_eq!(found.url().as_str(), server.url("/play/?class=2"));
    assert_eq!(found.status(), 200);
}

#[tokio::test]
async fn a_hostile_class_name_does_not_leave_its_tag() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(wish_with(json!({"class": HOSTILE_CLASS}))).await;
    let html = server.get(&format!("/r/{}", view.id)).await.text().await.unwrap();
    assert!(html.contains("og:title") && !html.contains("<script>alert"), "{html}");
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
        assert!(html.contains("<title>Nothing here") && !html.contains("<script>"), "{html}");
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
