//! Every way to be refused, with status and code.

use std::{num::NonZeroU32, time::Duration};

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use var_dd_protocol::{ErrorBody, ErrorCode, MAX_SEED};

use crate::server::{Client, Server, nonsense, refusal, wish, wish_with};

#[tokio::test]
async fn a_wish_out_of_bounds_is_told_which_bound() {
    let server = Server::adjusted(&[], |_, model| model.has_teacher = false).await;
    let teacher = json!({"kind": "teacher", "cfg": 2.0, "top_k": 0, "top_p": 0.0});
    let backwards = json!({"kind": "few_step", "t_list": [0, 2, 1], "loss_split_t": 1});
    for (fields, status, code) in [
        (json!({"class": 8}), 422, ErrorCode::ClassOutOfRange),
        (json!({"count": 0}), 422, ErrorCode::CountOutOfRange),
        (json!({"count": 9}), 422, ErrorCode::CountOutOfRange),
        (json!({"seed": MAX_SEED + 1}), 422, ErrorCode::SeedOutOfRange),
        (json!({"model": "none"}), 422, ErrorCode::UnknownModel),
        (json!({"plan": teacher}), 422, ErrorCode::NoTeacher),
        (json!({"plan": backwards}), 422, ErrorCode::InvalidPlan),
        (json!({"deadline_ms": 0}), 422, ErrorCode::DeadlineOutOfRange),
        (json!({"deadline_ms": 86_400_001}), 422, ErrorCode::DeadlineOutOfRange),
        (json!({"plan": ["few_step", [0], 1]}), 400, ErrorCode::MalformedBody),
        (json!({"class": -1}), 400, ErrorCode::MalformedBody),
        (json!({"colour": "red"}), 400, ErrorCode::MalformedBody),
    ] {
        let (got, error) = refusal(server.post(&wish_with(fields.clone())).await).await;
        assert_eq!((got, error.code), (status, code), "{fields}: {}", error.message);
    }
    let (status, error) = refusal(server.post(&nonsense()).await).await;
    assert_eq!((status, error.code), (400, ErrorCode::MalformedBody));
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_large_is_refused() {
    let server = Server::start(&[]).await;
    let post = |kind: &'static str, body: String| {
        let request =
            server.request(Method::POST, "/api/jobs").header(header::CONTENT_TYPE, kind).body(body);
        async { refusal(request.send().await.unwrap()).await }
    };
    for (kind, body) in [
        ("application/json", "{".to_owned()),
        ("application/json", String::new()),
        ("application/json", "\u{feff}{}".to_owned()),
        ("application/json", "[".repeat(60_000)),
        ("text/plain", wish().to_string()),
        ("application/x-www-form-urlencoded", wish().to_string()),
    ] {
        let (status, error) = post(kind, body).await;
        assert_eq!((status, error.code), (400, ErrorCode::MalformedBody), "{kind}");
    }
    let (status, error) = post("application/json", " ".repeat(1 << 20)).await;
    assert_eq!((status, error.code), (413, ErrorCode::TooLarge));
    for (coding, expected) in [("gzip", 400), ("identity", 202)] {
        let request = server.request(Method::POST, "/api/jobs").json(&wish());
        let response = request.header(header::CONTENT_ENCODING, coding).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{coding}");
        let said = response.text().await.unwrap();
        assert!(expected == 202 || said.contains("gzip"), "{said}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
    let server = Server::start(&[]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: \
         application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096));
    for _ in 0..100 {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 413");
}

#[tokio::test]
async fn who_sends_too_slowly_is_not_waited_for() {
    let server = Server::adjusted(&[], |config, _| {
        config.http.timeouts.request = Duration::from_millis(300);
    })
    .await;
    // A head that never ends: the connection does.
    let mut head = TcpStream::connect(server.address).await.unwrap();
    head.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.unwrap();
    let mut answer = Vec::new();
    head.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A body that never ends: an answer says so.
    let mut body = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /api/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: \
         50\r\n\r\n{{",
        server.address
    );
    body.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    body.read_exact(&mut answer).await.unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 408");
}

#[tokio::test]
async fn paths_and_methods_that_are_none_are_refused_in_json() {
    let server = Server::start(&[]).await;
    for (method, path, status, code) in [
        (Method::GET, "/api", 404, ErrorCode::NotFound),
        (Method::GET, "/api/nothing", 404, ErrorCode::NotFound),
        (Method::GET, "/api/results/xyz", 404, ErrorCode::NotFound),
        (Method::GET, "/api/results/00000000000000000000000000000000", 404, ErrorCode::NotFound),
        (
            Method::GET,
            "/api/results/00000000000000000000000000000000/frames/0",
            404,
            ErrorCode::NotFound,
        ),
        (
            Method::GET,
            "/api/results/00000000000000000000000000000000/frames/x",
            404,
            ErrorCode::NotFound,
        ),
        (
            Method::GET,
            "/api/results/00000000000000000000000000000000/pictures/0.png",
            404,
            ErrorCode::NotFound,
        ),
        (
            Method::GET,
            "/api/results/00000000000000000000000000000000/pictures/0.jpg",
            404,
            ErrorCode::NotFound,
        ),
        (Method::GET, "/api/results?limit=many", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/results?limit=0", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/results?limit=101", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/results?limit=4294967295", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/results?before=never", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/results?colour=red", 400, ErrorCode::MalformedBody),
        (Method::GET, "/api/jobs", 405, ErrorCode::MethodNotAllowed),
        (Method::PUT, "/api/jobs", 405, ErrorCode::MethodNotAllowed),
        (
            Method::PATCH,
            "/api/results/00000000000000000000000000000000",
            405,
            ErrorCode::MethodNotAllowed,
        ),
        (Method::POST, "/livez", 405, ErrorCode::MethodNotAllowed),
        (Method::POST, "/", 405, ErrorCode::MethodNotAllowed),
        (Method::GET, "/api/ws", 400, ErrorCode::MalformedBody),
        (Method::GET, "/missing.js", 404, ErrorCode::NotFound),
    ] {
        let response = server.request(method.clone(), path).send().await.unwrap();
        let allow = response.headers().get(header::ALLOW).cloned();
        let (got, error) = refusal(response).await;
        assert_eq!((got, error.code), (status, code), "{method} {path}: {}", error.message);
        assert_eq!(allow.is_some(), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn an_array_is_no_request() {
    let server = Server::start(&[]).await;
    let plan = wish()["plan"].clone();
    for body in [json!([null, 0, plan, 7, 1, false]), json!([]), json!("class"), json!(null)] {
        let (status, error) = refusal(server.post(&body).await).await;
        assert_eq!((status, error.code), (400, ErrorCode::MalformedBody), "{body}");
    }
}

#[tokio::test]
async fn a_request_under_a_key_is_served_once() {
    let server = Server::start(&[]).await;
    let post = |key: &str, body: serde_json::Value| {
        let request = server.request(Method::POST, "/api/jobs").header("Idempotency-Key", key);
        let request = request.json(&body);
        async { request.send().await.unwrap() }
    };
    let first = post("0b6c9d3e", wish()).await;
    assert_eq!(first.status(), 202);
    let location = first.headers()[header::LOCATION].clone();
    let first: serde_json::Value = first.json().await.unwrap();
    for key in ["0b6c9d3e", "\"0b6c9d3e\""] {
        let again = post(key, wish()).await;
        assert_eq!((again.status().as_u16(), &again.headers()[header::LOCATION]), (202, &location));
        assert_eq!(again.json::<serde_json::Value>().await.unwrap(), first);
    }
    let (status, error) = refusal(post("0b6c9d3e", wish_with(json!({"class": 2}))).await).await;
    assert_eq!((status, error.code), (422, ErrorCode::KeyReused));
    for key in ["", " ", "two words", &"k".repeat(256)] {
        let (status, error) = refusal(post(key, wish()).await).await;
        assert_eq!((status, error.code), (400, ErrorCode::MalformedBody), "{key:?}");
    }
    // A request that was refused has used no key up.
    assert_eq!(post("other", wish_with(json!({"class": 99}))).await.status(), 422);
    assert_eq!(post("other", wish()).await.status(), 202);
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let server = Server::held(&["--queue-limit=1", "--max-batch=1"]).await;
    let mut jobs = Vec::new();
    let (status, error) = loop {
        let response = server.post(&wish()).await;
        if response.status() != 202 {
            break refusal(response).await;
        }
        jobs.push(response);
        assert!(jobs.len() < 10, "the queue of one takes {}", jobs.len());
    };
    assert_eq!((status, error.code), (429, ErrorCode::QueueFull));
    assert!(error.retry_after_s.is_some());
    server.stop().await;
}

#[tokio::test]
async fn one_address_that_floods_the_queue_leaves_places_for_others() {
    let flags = ["--queue-limit=8", "--max-batch=1", "--trusted-proxy=127.0.0.1"];
    let server = Server::held(&flags).await;
    let post = async |address: &str| {
        let request = server.request(Method::POST, "/api/jobs").header("x-forwarded-for", address);
        request.json(&wish()).send().await.unwrap()
    };
    let mut taken = 0;
    let (status, error) = loop {
        let response = post("192.0.2.1").await;
        if response.status() != 202 {
            break refusal(response).await;
        }
        taken += 1;
        assert!(taken < 20, "the queue of eight takes {taken}");
    };
    // Three quarters, and what is on the device.
    assert!(taken >= 6, "alone it has only {taken}");
    assert_eq!((status, error.code), (429, ErrorCode::QueueFull));
    assert!(error.message.contains("6 jobs of this address wait"), "{}", error.message);
    assert!(error.retry_after_s.is_some());
    assert_eq!(post("192.0.2.2").await.status(), 202);
    server.stop().await;
}

#[tokio::test]
async fn too_many_jobs_of_one_address_must_wait() {
    let server = Server::start(&["--jobs-per-minute=2"]).await;
    for _ in 0..2 {
        assert_eq!(server.post(&wish()).await.status(), 202);
    }
    let (status, error) = refusal(server.post(&wish()).await).await;
    assert_eq!((status, error.code), (429, ErrorCode::RateLimited));
    assert!(error.retry_after_s.is_some_and(|seconds| seconds <= 60), "{error:?}");
    // The WebSocket is no way around.
    let mut client = Client::greeted(&server).await;
    client
        .say(&var_dd_protocol::ClientMessage::Generate {
            tag: 1,
            request: crate::server::request(0),
        })
        .await;
    assert_eq!(client.error().await.code, ErrorCode::RateLimited);
}

#[tokio::test]
async fn too_many_requests_and_connections_of_one_address_are_refused() {
    let server = Server::start(&["--requests-per-second=1"]).await;
    let mut codes = Vec::new();
    for _ in 0..8 {
        let response = server.get("/livez").await;
        if response.status() == 429 {
            codes.push(refusal(response).await.1.code);
        }
    }
    assert!(codes.contains(&ErrorCode::RateLimited), "{codes:?}");

    let server = Server::start(&["--connections-per-client=2"]).await;
    let _first = Client::greeted(&server).await;
    let _second = Client::greeted(&server).await;
    // The refusal comes at once, before a request: what reads only after it asked may stumble.
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    let error: ErrorBody = serde_json::from_str(body).unwrap();
    assert_eq!(error.code, ErrorCode::TooManyConnections);
}

#[tokio::test]
async fn only_the_owner_cancels_and_deletes() {
    let server = Server::held(&[]).await;
    let (job, token) = server.submitted(wish()).await;
    let path = format!("/api/results/{job}");
    let cancel = format!("{path}/cancel");
    let with = |method: Method, path: &str, value: Option<String>| {
        let request = server.request(method, path);
        let request = match value {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        };
        async { request.send().await.unwrap() }
    };
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    for (method, path) in [(Method::DELETE, &path), (Method::POST, &cancel)] {
        for (value, status) in [
            (None, 401),
            (Some("Basic eDp5".into()), 401),
            (Some("Bearer".into()), 401),
            (bearer("wrong"), 403),
            (bearer(&"0".repeat(token.0.len())), 403),
        ] {
            let response = with(method.clone(), path, value.clone()).await;
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
            let (got, error) = refusal(response).await;
            assert_eq!(
                (got, error.code),
                (status, ErrorCode::NotOwner),
                "{method} {path} {value:?}"
            );
        }
    }
    let (status, error) = refusal(with(Method::DELETE, &path, bearer(&token.0)).await).await;
    assert_eq!((status, error.code), (409, ErrorCode::Conflict), "not while it waits");
    assert_eq!(with(Method::POST, &cancel, bearer(&token.0)).await.status(), 204);
    server.gate.open();
    let mut viewer = server.scheduler.watch(&job, None).await.unwrap();
    while viewer.next().await.is_some() {}
    let (status, error) = refusal(with(Method::POST, &cancel, bearer(&token.0)).await).await;
    assert_eq!((status, error.code), (409, ErrorCode::Conflict), "not after its end");
    assert_eq!(with(Method::DELETE, &path, bearer(&token.0)).await.status(), 204);
    let (status, error) = refusal(server.get(&path).await).await;
    assert_eq!((status, error.code), (404, ErrorCode::NotFound));
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let server = Server::start(&["--allow-origin=https://friend.example"]).await;
    let own = format!("http://{}", server.address);
    let post = |origin: &str| {
        server
            .request(Method::POST, "/api/jobs")
            .header(header::ORIGIN, origin)
            .json(&wish())
            .send()
    };
    for (origin, status) in [
        (own.as_str(), 202),
        ("https://friend.example", 202),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        assert_eq!(post(origin).await.unwrap().status(), status, "{origin}");
        assert_eq!(
            Client::of_origin(&server, Some(origin)).await.is_ok(),
            status == 202,
            "{origin}"
        );
    }
    let rebound = server.request(Method::GET, "/api/info").header(header::HOST, "evil.example");
    let (status, error) = refusal(rebound.send().await.unwrap()).await;
    assert_eq!((status, error.code), (403, ErrorCode::OriginRefused));
}

#[tokio::test]
async fn a_server_that_stops_takes_no_jobs_and_is_not_ready() {
    let server = Server::start(&[]).await;
    assert_eq!(server.get("/readyz").await.status(), 200);
    server.scheduler.shutdown().await;
    let (status, error) = refusal(server.post(&wish()).await).await;
    assert_eq!((status, error.code), (503, ErrorCode::ShuttingDown));
    let (status, error) = refusal(server.get("/readyz").await).await;
    assert_eq!((status, error.code), (503, ErrorCode::ShuttingDown));
    assert_eq!(server.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn a_server_that_cannot_write_is_not_ready() {
    let server = Server::start(&[]).await;
    let data = server.directory.path().join("data");
    std::fs::rename(&data, server.directory.path().join("away")).unwrap();
    let (status, error) = refusal(server.get("/readyz").await).await;
    assert_eq!((status, error.code), (503, ErrorCode::StorageFailed));
}

#[tokio::test]
async fn refusals_have_the_security_headers_too() {
    let server = Server::start(&[]).await;
    for path in ["/", "/api/info", "/api/nothing", "/livez", "/r/nothing"] {
        let response = server.get(path).await;
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let policy = header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{path}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
        for name in ["referrer-policy", "permissions-policy", "cache-control"] {
            assert!(header(name).is_some(), "{path}: {name}");
        }
        // Browsers heed it on secure origins alone, and complain about it elsewhere.
        let policy = "cross-origin-opener-policy";
        assert_eq!(header(policy).as_deref(), Some("same-origin"), "{path}");
        let elsewhere = server.request(Method::GET, path).header("Host", "10.1.2.3");
        let elsewhere = elsewhere.send().await.unwrap();
        assert_eq!(elsewhere.headers().get(policy), None, "{path}");
    }
}

#[tokio::test]
async fn a_flood_of_messages_is_cut_off() {
    let server = Server::adjusted(&[], |config, _| {
        config.http.session.messages_per_second = NonZeroU32::MIN;
        config.http.session.strikes = 3;
    })
    .await;
    let mut client = Client::greeted(&server).await;
    for _ in 0..20 {
        client.send("{}".into()).await;
    }
    let mut codes = Vec::new();
    let closed = loop {
        match client.hear().await {
            crate::server::Heard::Closed(code) => break code,
            crate::server::Heard::Message(message) => {
                codes.push(serde_json::to_value(message).unwrap())
            }
            other => panic!("heard {other:?}"),
        }
    };
    let limited = |message: &&Value| message["error"]["code"] == "rate_limited";
    assert_eq!(codes.iter().filter(limited).count(), 4, "{codes:?}");
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    assert!(matches!(closed, Some(CloseCode::Policy) | None), "{closed:?}");
}
