//! The page: files that `cargo xtask build` made, and the address of every result.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use html_escape::encode_text;
use var_dd_protocol::{ErrorBody, ErrorCode, JobId};

use super::{
    Site,
    body::{Caching, answer, coded_answer, reads},
    error::ApiError,
    link::{Chosen, GridQuery, asked, base, compared, gridded, root_of, walked},
    open_graph::{self, Extra},
};

/// The lines of `index.html` that give way to tags and to what is shown without scripts.
const PLACE_OF_TAGS: &str = "<!-- open-graph -->";
const PLACE_WITHOUT_SCRIPTS: &str = "<!-- without-scripts -->";

/// Paths of the places in the page; `/c/…`, `/grid` and `/r/…` have endpoints of their own.
const PLACES: [&str; 6] = ["/", "/compare", "/explore", "/history", "/learn", "/picture"];

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
    let mut response = coded_answer(request, media_type(name), caching, coding, bytes);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
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
    if path == "/"
        && let Some(asked) = asked(&site, request.query_string())
    {
        return shell(&request, &site, &open_graph::of_asked(&asked, &base(&request, &site)));
    }
    if path == "/explore"
        && let Some(walked) = walked(&site, request.query_string())
    {
        return shell(&request, &site, &open_graph::of_walk(&walked, &base(&request, &site)));
    }
    if PLACES.contains(&path) {
        return place(&request, &site);
    }
    if let Some(place) = path.strip_suffix('/')
        && (PLACES.contains(&place) || place == "/grid" || place.starts_with("/r/"))
    {
        return Ok(without_slash(&request, place));
    }
    // A path with an ending asks for a file, not for a place in the page.
    if name.rsplit('/').next().is_some_and(|last| last.contains('.')) {
        return Err(ApiError::no_such_path(path));
    }
    nothing_here(&request, &site)
}

/// Leads to a place whose address was written with a slash at its end. The way is relative: a proxy
/// may have the page at another path.
fn without_slash(request: &HttpRequest, place: &str) -> HttpResponse {
    let name = place.rsplit('/').next().unwrap_or_default();
    let query = request.query_string();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut response = HttpResponse::PermanentRedirect();
    response.insert_header((header::LOCATION, format!("../{name}{mark}{query}"))).finish()
}

/// The page of a result, with tags for those who preview links, and with picture, strip and
/// settings for those without scripts. Unknown results have the page too, as 404.
#[utoipa::path(
    get,
    path = "/r/{id}",
    tag = "page",
    params(("id" = JobId, Path, description = "Name of the result"), Chosen),
    responses(
        (
            status = 200,
            description = "The page, with Open Graph tags of the result",
            body = String,
            content_type = "text/html"
        ),
        (
            status = 404,
            description = "The page; there is no such result (any more)",
            body = String,
            content_type = "text/html"
        ),
    )
)]
pub(super) async fn result(
    request: HttpRequest,
    id: web::Path<String>,
    chosen: web::Query<Chosen>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let Ok(id) = id.parse::<JobId>() else {
        return nothing_here(&request, &site);
    };
    match site.scheduler.view(&id).await {
        Ok(view) => {
            let (base, root) = (base(&request, &site), root_of(request.path()));
            let picture = chosen.index(&view);
            shell(&request, &site, &open_graph::of_result(&view, &base, &root, picture))
        }
        Err(ErrorBody { code: ErrorCode::NotFound, .. }) => nothing_here(&request, &site),
        Err(error) => Err(error.into()),
    }
}

/// The page of a comparison, with tags for those who preview links.
#[utoipa::path(
    get,
    path = "/c/{address}",
    tag = "page",
    params(("address" = String, Path, description = "Model, class, seed and two to six plans: \
        `demo-64/3-snowman/42/student=0;split=5/student=0,5;split=5`")),
    responses(
        (
            status = 200,
            description = "The page, with Open Graph tags of the comparison",
            body = String,
            content_type = "text/html"
        ),
        (
            status = 404,
            description = "The page; this is no comparison that can be drawn here",
            body = String,
            content_type = "text/html"
        ),
    )
)]
pub(super) async fn comparison(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    match compared(&site, request.uri().path()) {
        Some((comparison, model)) => {
            let (base, root) = (base(&request, &site), root_of(request.path()));
            let tags = open_graph::of_comparison(&comparison, &model, &base, &root);
            shell(&request, &site, &tags)
        }
        None => nothing_here(&request, &site),
    }
}

/// The page of a grid, with tags for those who preview links. Without a grid in its address that
/// can be drawn here, the place where one is put together.
#[utoipa::path(
    get,
    path = "/grid",
    tag = "page",
    params(GridQuery),
    responses(
        (
            status = 200,
            description = "The page, with Open Graph tags of the grid if there is one",
            body = String,
            content_type = "text/html"
        ),
    )
)]
pub(super) async fn grid(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let query = request.query_string();
    match gridded(&site, query) {
        Some((grid, model)) => {
            let tags = open_graph::of_grid(&grid, &model, &base(&request, &site), query);
            shell(&request, &site, &tags)
        }
        None => place(&request, &site),
    }
}

/// The page at a place that has no tags of its own.
fn place(request: &HttpRequest, site: &Site) -> Result<HttpResponse, ApiError> {
    let example = site.scheduler.example();
    shell(request, site, &open_graph::of_playground(&base(request, site), example.is_some()))
}

/// The page where there is nothing.
fn nothing_here(request: &HttpRequest, site: &Site) -> Result<HttpResponse, ApiError> {
    let mut response = shell(request, site, &open_graph::of_nothing(&root_of(request.path())))?;
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

fn shell(request: &HttpRequest, site: &Site, extra: &Extra) -> Result<HttpResponse, ApiError> {
    let index = site.config.page.index()?;
    // Addresses in it are relative to the page.
    let placed = index.replace("=\"./", &format!("=\"{}", root_of(request.path())));
    let titled = match (placed.split_once("<title>"), placed.split_once("</title>")) {
        (Some((before, _)), Some((_, after))) => {
            format!("{before}<title>{}</title>{after}", encode_text(&extra.title))
        }
        _ => placed,
    };
    let html = titled.replacen(PLACE_OF_TAGS, &extra.tags, 1).replacen(
        PLACE_WITHOUT_SCRIPTS,
        &extra.without_scripts,
        1,
    );
    Ok(answer(request, media_type("index.html"), Caching::Ask, html))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[actix_web::test]
    async fn what_is_compressed_already_is_sent_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        // What stands for a compressed file could itself be compressed.
        let packed = b"much the same ".repeat(100);
        std::fs::write(directory.path().join("a.js"), "script").unwrap();
        std::fs::write(directory.path().join("a.js.br"), &packed).unwrap();
        let page = Page::Directory(directory.path().into());
        let request = TestRequest::default().insert_header(("Accept-Encoding", "gzip, br"));
        let response = file(&request.to_http_request(), &page, "a.js").unwrap();
        assert_eq!(response.headers().get(header::CONTENT_ENCODING).unwrap(), "br");
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        assert!(body == packed, "{} bytes", body.len());
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
