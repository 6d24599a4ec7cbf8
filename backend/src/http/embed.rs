//! Results on other sites: a small player to put in a frame, the answer of oEmbed that tells of it,
//! and a QR code of a link.
//!
//! The player is HTML and a style sheet. It plays the scales once, and each can be looked at; no
//! script runs in it, so a site that frames it takes no risk, and where styles do not apply the
//! finished picture is there.

use std::{fmt::Write, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use html_escape::{encode_double_quoted_attribute as attribute, encode_text};
use qrcodegen::{QrCode, QrCodeEcc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;
use utoipa::{IntoParams, ToSchema};
use var_dd_protocol::{ErrorBody, ErrorCode, JobId, JobState, JobView};

use super::{
    Site,
    body::{Caching, answer, json},
    caption, card,
    error::{ApiError, shortened},
    export,
    link::{Chosen, base, compared, gridded, picture_query, root_of},
    open_graph::NAME,
};

/// Most scales that the player shows; a model of more shows the last ones.
const SCALES: usize = 16;

/// Width of the player where nobody says, in pixels.
const WIDTH: u32 = 320;

/// Least width at which the player can be used.
const LEAST_WIDTH: u32 = 160;

/// What lies under the picture, in pixels: up to three rows of scales and two lines of text.
const BELOW: u32 = 128;

/// How long each scale is shown while the player plays, in milliseconds.
const HOLD_MS: usize = 400;

/// The style sheet of the player, and the source that the policy of the page names it by.
static STYLE: LazyLock<(String, String)> = LazyLock::new(|| {
    let mut style = "\
        :root{color-scheme:light dark}\
        body{margin:0;font:13px/1.5 system-ui,sans-serif;background:#faf8f5;color:#1d1b18}\
        main{display:grid;gap:6px;max-width:calc(100vh - 128px);min-width:150px;margin:0 auto}\
        .stage{position:relative;aspect-ratio:1}\
        .stage img{position:absolute;inset:0;width:100%;height:100%;opacity:0}\
        .stage img:last-child{opacity:1}\
        @keyframes held{from,to{opacity:1;z-index:1}}\
        fieldset{border:0;margin:0;padding:0 6px;display:flex;flex-wrap:wrap;gap:0 10px}\
        legend{position:absolute;clip-path:inset(50%)}\
        label{display:inline-flex;align-items:center;gap:3px;min-height:24px}\
        input{accent-color:#d2691e;margin:0}\
        h1,p{margin:0;padding:0 6px;font-size:13px;font-weight:400}\
        h1{font-weight:600}\
        a{color:inherit}\
        @media(prefers-color-scheme:dark){body{background:#141312;color:#ece8e1}}\
        main:has(:checked) .stage img{animation:none!important;opacity:0}"
        .to_owned();
    for scale in 1..=SCALES {
        let begins = (scale - 1) * HOLD_MS;
        // Writing to a string does not fail.
        let _ = write!(
            style,
            ".stage img:nth-child({scale}):not(:last-child)\
             {{animation:held {HOLD_MS}ms {begins}ms}}\
             main:has(#s{scale}:checked) .stage img:nth-child({scale}){{opacity:1}}"
        );
    }
    style.push_str("@media(prefers-reduced-motion:reduce){.stage img{animation:none!important}}");
    let source = format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(&style)));
    (style, source)
});

/// A result as a small player for other sites: picture, scales, a link. No script runs in it.
#[utoipa::path(
    get,
    path = "/embed/{id}",
    tag = "page",
    params(("id" = JobId, Path, description = "Name of the result"), Chosen),
    responses(
        (
            status = 200,
            description = "A page that any site may frame",
            body = String,
            content_type = "text/html"
        ),
        (status = 304, description = "As the client has it"),
        (
            status = 404,
            description = "A page that says so; there is no such result (any more)",
            body = String,
            content_type = "text/html"
        ),
    )
)]
pub(super) async fn player(
    request: HttpRequest,
    id: web::Path<String>,
    chosen: web::Query<Chosen>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let view = match id.parse::<JobId>() {
        Ok(id) => match site.scheduler.view(&id).await {
            Ok(view) => Some(view),
            Err(ErrorBody { code: ErrorCode::NotFound, .. }) => None,
            Err(error) => return Err(error.into()),
        },
        Err(_) => None,
    };
    let html = match &view {
        Some(view) => document(
            &view.class_name,
            &of_view(view, chosen.index(view), &base(&request, &site), &root_of(request.path())),
        ),
        None => document(NAME, "<p>This link has no picture (any more).</p>"),
    };
    let caching = if view.is_some() { Caching::Ask } else { Caching::Never };
    let mut response = answer(&request, "text/html; charset=utf-8", caching, html);
    if view.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let policy = format!(
        "default-src 'none'; img-src 'self'; style-src {}; base-uri 'none'; form-action 'none'; \
         frame-ancestors *",
        STYLE.1
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// A whole page around what `main` holds.
fn document(title: &str, main: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><style>{}</style></head>\
         <body><main>{main}</main></body></html>",
        encode_text(title),
        STYLE.0
    )
}

/// The player of a result: scales on the way to a picture, then the picture.
fn of_view(view: &JobView, picture: Option<usize>, base: &str, root: &str) -> String {
    let query = picture_query(picture);
    let link = format!(
        "<h1><a href=\"{}\" target=\"_blank\" rel=\"noopener\">{}</a></h1><p>{}</p>",
        attribute(&format!("{base}/r/{}{query}", view.id)),
        encode_text(&caption::title(view, picture)),
        encode_text(&caption::lines(view).join(" · "))
    );
    let index = picture.unwrap_or(0);
    let finished = view.pictures.get(index).filter(|_| view.state == JobState::Finished);
    let Some(finished) = finished else {
        return format!("<p>There is no finished picture yet.</p>{link}");
    };
    let frames = export::scales(view, index as u32);
    let frames = &frames[frames.len().saturating_sub(SCALES)..];
    let last = frames.last().map(|frame| frame.header.scale);
    let mut images = String::new();
    let mut scales = String::new();
    for (number, frame) in (1..).zip(frames) {
        let scale = frame.header.scale;
        let (path, alternative) =
            if Some(scale) == last { (finished, &*view.class_name) } else { (&frame.url, "") };
        let side = view.patch_nums.get(scale as usize).copied().unwrap_or_default();
        let _ = write!(
            images,
            "<img src=\"{}\" alt=\"{}\">",
            attribute(&format!("{root}{}", path.trim_start_matches('/'))),
            attribute(alternative)
        );
        let _ = write!(
            scales,
            "<label><input type=\"radio\" name=\"scale\" id=\"s{number}\">{side}×{side}</label>"
        );
    }
    format!(
        "<div class=\"stage\">{images}</div><fieldset><legend>Scale</legend>{scales}</fieldset>\
         {link}"
    )
}

/// What oEmbed asks with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OembedQuery {
    /// The link, as in `https://HOST/r/ID`.
    url: String,
    /// `json`, which is also the default; nothing else is spoken here.
    format: Option<String>,
    /// Most pixels across.
    maxwidth: Option<u32>,
    /// Most pixels down.
    maxheight: Option<u32>,
}

/// What other sites show of a link (oEmbed 1.0).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Oembed {
    /// `1.0`.
    version: &'static str,
    /// `rich` for a result, `link` for a comparison and a grid, which have no player.
    r#type: &'static str,
    /// What the link shows.
    title: String,
    /// Whose it is.
    provider_name: &'static str,
    /// The playground's address.
    provider_url: String,
    /// The player, if there is one.
    #[serde(flatten)]
    player: Option<Player>,
    /// The card of the link.
    thumbnail_url: String,
    /// Its width in pixels.
    thumbnail_width: u32,
    /// Its height in pixels.
    thumbnail_height: u32,
}

/// The player of a result.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Player {
    /// It in a frame.
    html: String,
    /// Width of the player in pixels.
    width: u32,
    /// Height of the player in pixels.
    height: u32,
}

/// How to show a link of a result, a comparison or a grid on another site (oEmbed 1.0).
#[utoipa::path(
    get,
    path = "/api/oembed",
    tag = "page",
    params(OembedQuery),
    responses(
        (status = 200, description = "The player as a rich embed, or a link with its card",
            body = Oembed),
        (status = 304, description = "As the client has it"),
        (status = 400, description = "No link, or not a number", body = ErrorBody),
        (status = 404, description = "No link of a finished result, a comparison or a grid here",
            body = ErrorBody),
        (status = 501, description = "Another format than JSON", body = ErrorBody),
    )
)]
pub(super) async fn oembed(
    request: HttpRequest,
    query: web::Query<OembedQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    if let Some(format) = query.format.as_deref().filter(|format| *format != "json") {
        let message = format!("format is {:?}; only json is spoken here", shortened(format));
        let body = ErrorBody::new(ErrorCode::MalformedBody, message);
        return Ok(HttpResponse::NotImplemented().json(body));
    }
    let base = base(&request, &site);
    let missing = || {
        let message = format!("{} is no link of anything drawn at {base}", shortened(&query.url));
        ApiError::new(ErrorCode::NotFound, message)
    };
    let (path, url) = within(&query.url, &base).ok_or_else(missing)?;
    let (thumbnail_width, thumbnail_height) = card::SIZE;
    let told = |r#type, title, player, thumbnail_url| Oembed {
        version: "1.0",
        r#type,
        title,
        provider_name: NAME,
        provider_url: format!("{base}/"),
        player,
        thumbnail_url,
        thumbnail_width,
        thumbnail_height,
    };
    if let Some((comparison, model)) = compared(&site, &path) {
        let title = caption::of_comparison(&comparison, &model);
        let card = format!("{base}/{comparison}/card.jpg");
        return json(&request, Caching::Ask, &told("link", title, None, card));
    }
    let asked = url.query().unwrap_or_default();
    if path.trim_end_matches('/') == "/grid"
        && let Some((grid, model)) = gridded(&site, asked)
    {
        let card = format!("{base}/grid/card.jpg?{asked}");
        let answer = told("link", grid.title(&model), None, card);
        return json(&request, Caching::Ask, &answer);
    }
    let (id, chosen) = linked(&path, &url).ok_or_else(missing)?;
    let view = site.scheduler.view(&id).await?;
    if view.state != JobState::Finished || view.pictures.is_empty() {
        return Err(missing());
    }
    let picture = chosen.index(&view);
    let title = caption::title(&view, picture);
    let shown = picture_query(picture);
    let by_height = query.maxheight.unwrap_or(u32::MAX).saturating_sub(BELOW);
    let width = WIDTH.min(query.maxwidth.unwrap_or(u32::MAX)).min(by_height).max(LEAST_WIDTH);
    let height = width + BELOW;
    let html = format!(
        "<iframe src=\"{}\" width=\"{width}\" height=\"{height}\" title=\"{}\" \
         style=\"border:0\" loading=\"lazy\"></iframe>",
        attribute(&format!("{base}/embed/{id}{shown}")),
        attribute(&title)
    );
    let card = format!("{base}/r/{id}/card.jpg{shown}");
    let answer = told("rich", title, Some(Player { html, width, height }), card);
    json(&request, Caching::Ask, &answer)
}

/// The path of a link at `base`, by whichever scheme, with the link.
fn within(text: &str, base: &str) -> Option<(String, Url)> {
    let (url, base) = (Url::parse(text).ok()?, Url::parse(base).ok()?);
    let is_web = matches!(url.scheme(), "http" | "https");
    if !is_web || url.host() != base.host() || url.port() != base.port() {
        return None;
    }
    let path = url.path().strip_prefix(base.path().trim_end_matches('/'))?.to_owned();
    Some((path, url))
}

/// The result that a link means.
fn linked(path: &str, url: &Url) -> Option<(JobId, Chosen)> {
    let id = path.strip_prefix("/r/").or_else(|| path.strip_prefix("/embed/"))?;
    let id = id.trim_end_matches('/').parse().ok()?;
    let number = url.query_pairs().find(|(name, _)| name == "picture");
    Some((id, Chosen::new(number.map(|(_, number)| number.into_owned()))))
}

/// A result's link as a QR code.
#[utoipa::path(
    get,
    path = "/api/results/{id}/qr.svg",
    tag = "results",
    params(("id" = JobId, Path, description = "Name of the result"), Chosen),
    responses(
        (
            status = 200,
            description = "Dark on white, with its quiet zone",
            body = String,
            content_type = "image/svg+xml"
        ),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "No such result (any more)", body = ErrorBody),
    )
)]
pub(super) async fn qr(
    request: HttpRequest,
    id: web::Path<JobId>,
    chosen: web::Query<Chosen>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let view = site.scheduler.view(&id).await?;
    let picture = chosen.index(&view);
    let query = picture_query(picture);
    let address = format!("{}/r/{id}{query}", base(&request, &site));
    let code = QrCode::encode_text(&address, QrCodeEcc::Medium).map_err(|error| {
        let message = format!("{} does not fit in a QR code: {error}", shortened(&address));
        ApiError::new(ErrorCode::Internal, message)
    })?;
    Ok(answer(&request, "image/svg+xml", Caching::Ask, svg(&code)))
}

/// A code as SVG, with the four modules of white around it that readers need.
fn svg(code: &QrCode) -> String {
    const QUIET: i32 = 4;
    let side = code.size() + 2 * QUIET;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|&x| code.get_module(x, y)) {
            let _ = write!(path, "M{},{}h1v1h-1z", x + QUIET, y + QUIET);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0,0h{side}v{side}h-{side}z\"/>\
         <path d=\"{path}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(text: &str, base: &str) -> Option<(JobId, Chosen)> {
        let (path, url) = within(text, base)?;
        super::linked(&path, &url)
    }

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_links_of_results_at_this_address_are_links() {
        let base = "https://draw.example/play";
        for (path, picture) in [
            (format!("https://draw.example/play/r/{ID}"), None),
            (format!("http://draw.example/play/r/{ID}/"), None),
            (format!("https://draw.example/play/embed/{ID}?picture=2#x"), Some("2")),
        ] {
            let (id, chosen) = linked(&path, base).unwrap();
            assert_eq!((id.as_str(), chosen), (ID, Chosen::new(picture.map(str::to_owned))));
        }
        for other in [
            format!("https://draw.example/r/{ID}"),
            format!("https://evil.example/play/r/{ID}"),
            format!("https://draw.example:8443/play/r/{ID}"),
            format!("javascript:https://draw.example/play/r/{ID}"),
            format!("https://draw.example/play/r/{ID}0"),
            "https://draw.example/play/compare".to_owned(),
            String::new(),
            "x".repeat(10_000),
        ] {
            assert!(linked(&other, base).is_none(), "{other}");
        }
    }

    #[test]
    fn a_code_has_every_dark_module_once_and_white_around() {
        let code = QrCode::encode_text("https://draw.example/r/x", QrCodeEcc::Medium).unwrap();
        let all = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
        let dark = all.filter(|&(x, y)| code.get_module(x, y)).count();
        let svg = svg(&code);
        assert_eq!(svg.matches("h1v1").count(), dark);
        assert!(svg.contains("M4,4h1v1h-1z") && !svg.contains("M3,"), "{svg}");
    }
}
