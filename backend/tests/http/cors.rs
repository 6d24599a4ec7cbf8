//! Pages of other origins that were allowed, and of those that were not.

use reqwest::{Method, Response, header};
use var_dd_protocol::ErrorCode;

use crate::server::{Server, refusal, wish};

const FRIEND: &str = "https://friend.example";

async fn preflight(server: &Server, path: &str, origin: &str, method: &str) -> Response {
    server
        .request(Method::OPTIONS, path)
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type,authorization")
        .send()
        .await
        .unwrap()
}

fn header_of(response: &Response, name: header::HeaderName) -> Option<String> {
    let values: Vec<_> =
        response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_do_what_the_interface_offers() {
    let server = Server::start(&["--allow-origin=https://friend.example"]).await;
    for (path, methods) in [
        ("/api/jobs", "POST"),
        ("/api/results", "GET, HEAD"),
        ("/api/results/00000000000000000000000000000000", "GET, HEAD, DELETE"),
        ("/api/results/00000000000000000000000000000000/cancel", "POST"),
    ] {
        let response = preflight(&server, path, FRIEND, "POST").await;
        assert_eq!(response.status(), 204, "{path}");
        assert_eq!(
            header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(),
            Some(FRIEND)
        );
        assert_eq!(
            header_of(&response, header::ACCESS_CONTROL_ALLOW_METHODS).as_deref(),
            Some(methods)
        );
        let headers = header_of(&response, header::ACCESS_CONTROL_ALLOW_HEADERS).unwrap();
        for name in ["content-type", "authorization", "idempotency-key"] {
            assert!(headers.contains(name), "{headers}");
        }
    }
    // What is answered can be read, refusals included.
    for (method, path, status) in [
        (Method::GET, "/api/info", 200),
        (Method::GET, "/api/nothing", 404),
        (Method::POST, "/api/jobs", 400),
        (Method::PUT, "/api/jobs", 405),
    ] {
        let request = server.request(method, path).header(header::ORIGIN, FRIEND);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(),
            Some(FRIEND),
            "{path}"
        );
        assert!(header_of(&response, header::ACCESS_CONTROL_EXPOSE_HEADERS).is_some(), "{path}");
        assert!(header_of(&response, header::VARY).unwrap().contains("Origin"), "{path}");
    }
    let request = server.request(Method::POST, "/api/jobs").header(header::ORIGIN, FRIEND);
    assert_eq!(request.json(&wish()).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn no_other_page_is_let_in() {
    let server = Server::start(&["--allow-origin=https://friend.example"]).await;
    for origin in ["https://evil.example", "http://friend.example", "null"] {
        let response = preflight(&server, "/api/jobs", origin, "POST").await;
        assert_eq!(header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), None, "{origin}");
        let (status, error) = refusal(response).await;
        assert_eq!((status, error.code), (403, ErrorCode::OriginRefused), "{origin}");
        let request = server.request(Method::GET, "/api/info").header(header::ORIGIN, origin);
        let response = request.send().await.unwrap();
        assert_eq!(header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), None, "{origin}");
        // A cache that holds this answer must not give it to the friend.
        assert!(header_of(&response, header::VARY).unwrap().contains("Origin"));
    }
    for path in ["/", "/metrics", "/livez"] {
        let request = server.request(Method::GET, path).header(header::ORIGIN, FRIEND);
        let response = request.send().await.unwrap();
        assert_eq!(header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), None, "{path}");
    }
    let plain = server.request(Method::OPTIONS, "/api/jobs").send().await.unwrap();
    assert_eq!(refusal(plain).await.0, 405, "no preflight");
}

#[tokio::test]
async fn a_server_that_allows_no_other_origin_says_nothing_of_it() {
    let server = Server::start(&[]).await;
    let response = preflight(&server, "/api/jobs", FRIEND, "POST").await;
    assert_eq!(header_of(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
    assert!(matches!(response.status().as_u16(), 403 | 405));
}
