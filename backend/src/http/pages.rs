//! The page: files that `cargo xtask build` made, and the address of every result.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use var_dd_protocol::{ErrorBody, ErrorCode, JobId};

use super::{
    Site,
    body::{Caching, answer},
    error::ApiError,
    open_graph,
    security::Authority,
};

/// The line of `index.html` that gives way to tags.
const PLACE_OF_TAGS: &str = "<!-- open-graph -->";

/// Where the files of the page are.
#[derive(Clone, Debug)]
pub enum Page {
    /// In the program.
    Embedded,
    /// In a directory, read anew for every request.
    Directory(PathBuf),
}

#[cfg(not(debug_assertions))]
#[derive(rust_embed::Embed)]
#[folder = "$CARGO_MANIFEST_DIR/../frontend/dist"]
#[allow_missing = true]
struct Files;

impl Default for Page {
    /// Released programs carry the page; others read it from where it is built, so that a new one
    /// shows at once.
    fn default() -> Self {
        if cfg!(debug_assertions) {
            Page::Directory(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../frontend/dist")))
        } else {
            Page::Embedded
        }
    }
}

impl Page {
    /// The bytes of a file; `name` is relative and uses `/`.
    fn read(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !name.split('/').all(plain) {
            return None;
        }
        match self {
            #[cfg(not(debug_assertions))]
            Page::Embedded => Files::get(name).map(|file| file.data),
            #[cfg(debug_assertions)]
            Page::Embedded => None,
            Page::Directory(directory) => std::fs::read(directory.join(name)).ok().map(Cow::Owned),
        }
    }

    /// Whether there is a page.
    pub fn is_built(&self) -> bool {
        self.read("index.html").is_some()
    }

    fn index(&self) -> Result<String, ApiError> {
        let bytes = self.read("index.html").ok_or_else(|| {
            let message =
                "the page is not built; run `cargo xtask build` (or `cargo xtask serve`, which \
                 does it)";
            ApiError::new(ErrorCode::NotFound, message)
        })?;
        String::from_utf8(bytes.into_owned())
            .map_err(|_| ApiError::new(ErrorCode::Internal, "index.html of the page is not UTF-8"))
    }
}

fn media_type(name: &str) -> &'static str {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    match ending.unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// Whether a client reads a content coding: named (or `*`) and not with weight 0.
fn reads(request: &HttpRequest, coding: &str) -> bool {
    let lines = request.headers().get_all(header::ACCEPT_ENCODING);
    let items: Vec<(String, bool)> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(|text| text.parse::<f32>().ok());
            (name.trim().to_ascii_lowercase(), weight.is_none_or(|weight| weight > 0.0))
        })
        .collect();
    let of = |name: &str| items.iter().find(|(item, _)| item == name).map(|&(_, wanted)| wanted);
    of(coding).or_else(|| of("*")).unwrap_or(false)
}

/// A file of the page, compressed if the client reads that. `None` if there is no such file.
fn file(request: &HttpRequest, page: &Page, name: &str) -> Option<HttpResponse> {
    // Compressed files are what their originals are, sent differently; they have no address of
    // their own.
    if name.ends_with(".br") || name.ends_with(".gz") {
        return None;
    }
    let plain = page.read(name)?;
    // Files in this folder have a hash of their bytes in their names.
    let caching = if name.starts_with("assets/") { Caching::Immutable } else { Caching::Ask };
    let packed = [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(coding, _)| reads(request, coding))
        .find_map(|(coding, ending)| Some((coding, page.read(&format!("{name}.{ending}"))?)));
    let (coding, bytes) = match packed {
        Some((coding, bytes)) => (Some(coding), bytes),
        None => (None, plain),
    };
    let bytes = match bytes {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => web::Bytes::from(bytes),
    };
    let mut response = answer(request, media_type(name), caching, bytes);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    Some(response)
}

/// Everything that is no endpoint: a file of the page, or the page itself, whose router knows the
/// rest.
pub(super) async fn page(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    let name = path.trim_start_matches('/');
    if path == "/api" || path.starts_with("/api/") {
        return Err(ApiError::no_such_path(path));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed(request.method().as_str(), path, "GET, HEAD"));
    }
    if let Some(response) = file(&request, &site.config.page, name) {
        return Ok(response);
    }
    // A path with an ending asks for a file, not for a place in the page.
    if name.rsplit('/').next().is_some_and(|last| last.contains('.')) {
        return Err(ApiError::no_such_path(path));
    }
    shell(&request, &site.config.page, "", StatusCode::OK)
}

/// The page of a result, with tags for those who preview links. Unknown results have the page too,
/// as 404.
#[utoipa::path(
    get,
    path = "/r/{id}",
    tag = "page",
    params(("id" = JobId, Path, description = "Name of the result")),
    responses(
        (status = 200, description = "The page, with Open Graph tags of the result", body = String, content_type = "text/html"),
        (status = 403, description = "Host refused", body = ErrorBody),
        (status = 404, description = "The page; there is no such result (any more)", body = String, content_type = "text/html"),
        (status = 429, description = "Too many requests or connections", body = ErrorBody),
    )
)]
pub(super) async fn result(
    request: HttpRequest,
    id: web::Path<String>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let page = &site.config.page;
    let unknown = || shell(&request, page, "", StatusCode::NOT_FOUND);
    let Ok(id) = id.parse::<JobId>() else {
        return unknown();
    };
    match site.scheduler.view(&id).await {
        Ok(view) => {
            let base = request
                .extensions()
                .get::<Authority>()
                .map(|host| site.gate.base_url(host))
                .unwrap_or_default();
            shell(&request, page, &open_graph::tags(&view, &base), StatusCode::OK)
        }
        Err(ErrorBody { code: ErrorCode::NotFound, .. }) => unknown(),
        Err(error) => Err(error.into()),
    }
}

fn shell(
    request: &HttpRequest,
    page: &Page,
    tags: &str,
    status: StatusCode,
) -> Result<HttpResponse, ApiError> {
    // Without tags of its own the page is a file like others, compressed beforehand.
    if tags.is_empty()
        && let Some(mut response) = file(request, page, "index.html")
    {
        if status != StatusCode::OK {
            *response.status_mut() = status;
        }
        return Ok(response);
    }
    let index = page.index()?;
    let html = if tags.is_empty() {
        index
    } else {
        // One description is enough, and the result's is the better one.
        let general: String = index
            .lines()
            .filter(|line| !line.trim_start().starts_with("<meta name=\"description\""))
            .flat_map(|line| [line, "\n"])
            .collect();
        general.replacen(PLACE_OF_TAGS, tags, 1)
    };
    let mut response = answer(request, media_type("index.html"), Caching::Ask, html);
    if status != StatusCode::OK {
        *response.status_mut() = status;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn compression_is_used_only_where_it_is_read() {
        for (accepted, coding, expected) in [
            ("gzip, deflate, br, zstd", "br", true),
            ("gzip", "br", false),
            ("br;q=0, gzip", "br", false),
            ("*", "br", true),
            ("*;q=0, gzip;q=0.5", "gzip", true),
            ("BR ; q=0.1", "br", true),
            ("", "gzip", false),
        ] {
            let request = TestRequest::default()
                .insert_header((header::ACCEPT_ENCODING, accepted))
                .to_http_request();
            assert_eq!(reads(&request, coding), expected, "{accepted:?} {coding}");
        }
    }

    #[test]
    fn names_lead_nowhere_outside_the_page() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("dist");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(directory.path().join("secret.txt"), "secret").unwrap();
        std::fs::write(inside.join("a.txt"), "page").unwrap();
        let page = Page::Directory(inside);
        assert!(page.read("a.txt").is_some());
        for name in [
            "../secret.txt",
            "/etc/passwd",
            "x/../../secret.txt",
            "..",
            ".",
            "",
            "a.txt/",
            "%2e%2e/secret.txt",
        ] {
            assert!(page.read(name).is_none(), "{name}");
        }
    }
}
