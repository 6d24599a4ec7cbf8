//! Cards: the picture of 1200 × 630 that other sites show of a link.

mod canvas;
mod draw;

use actix_web::{HttpRequest, HttpResponse, web};
use image::DynamicImage;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, JobId, JobState, JobView, ModelInfo, Plan,
};

use super::{
    Site,
    body::{Caching, answer},
    caption,
    error::ApiError,
    link::{self, Asked, Chosen, GridQuery},
};
use draw::{Column, Several, Single, Table, Tile};

/// Most tiles in the strip of a card.
const TILES: usize = 10;

/// Recent results among which the pictures of a card are looked for.
const RECENT: u32 = 100;

/// Size of a card in pixels.
pub(super) const SIZE: (u32, u32) = (draw::WIDTH, draw::HEIGHT);

/// The card of a result.
#[utoipa::path(
    get,
    path = "/r/{id}/card.jpg",
    tag = "page",
    params(("id" = JobId, Path, description = "Name of the result"), Chosen),
    responses(
        (
            status = 200,
            description = "1200 × 630, at most 300 KB",
            body = Vec<u8>,
            content_type = "image/jpeg"
        ),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "No such result (any more)", body = ErrorBody),
    )
)]
pub(super) async fn of_result(
    request: HttpRequest,
    id: web::Path<JobId>,
    chosen: web::Query<Chosen>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let view = site.scheduler.view(&id).await?;
    let caching = if view.state.is_final() { Caching::Immutable } else { Caching::Never };
    let title = writable(caption::title(&view, chosen.index(&view)), view.request.class);
    let lines = caption::lines(&view);
    let card = single(&site, &view, chosen.index(&view), title, lines).await?;
    send(&request, caching, move || draw::single(&card)).await
}

/// The card of the playground itself: what it shows to begin with, or the class that a link asks
/// for, with its picture if that is among the recent results. Nothing is drawn for it.
#[utoipa::path(
    get,
    path = "/card.jpg",
    tag = "page",
    params(
        ("class" = Option<String>, Query, description = "As in a link to the playground, where \
            plan, steps, split, cfg, top-k, top-p, seed and model may stand, too"),
    ),
    responses(
        (
            status = 200,
            description = "1200 × 630, at most 300 KB",
            body = Vec<u8>,
            content_type = "image/jpeg"
        ),
        (status = 304, description = "As the client has it"),
    )
)]
pub(super) async fn of_playground(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    if let Some(asked) = link::asked(&site, request.query_string()) {
        let card = of_asked(&site, &asked).await?;
        return send(&request, Caching::Ask, move || draw::single(&card)).await;
    }
    let title = "Watch a picture come into focus".to_owned();
    let lines = vec!["Scale by scale, in one or two network passes".to_owned()];
    let view = match site.scheduler.example() {
        // It may just have been deleted.
        Some(example) => site.scheduler.view(&example).await.ok(),
        None => None,
    };
    let card = match &view {
        Some(view) => single(&site, view, None, title, lines).await?,
        None => {
            let strip = site.scheduler.models().first().map(empty_strip).unwrap_or_default();
            Single { pictures: Vec::new(), title, lines, strip }
        }
    };
    send(&request, Caching::Ask, move || draw::single(&card)).await
}

/// The card of what a link asks for: the result of that request if it is among the recent ones,
/// else what the class looks like if that was drawn before, else empty token maps.
async fn of_asked(site: &Site, asked: &Asked) -> Result<Single, ErrorBody> {
    let title = writable(asked.class_name(), asked.class);
    if let (Some(plan), Some(seed)) = (&asked.plan, asked.seed) {
        let wanted = request_for(&asked.model.name, asked.class, seed, plan);
        if let Some(view) = Lately::of(site).await?.view(&wanted) {
            return single(site, view, Some(0), title, caption::lines(view)).await;
        }
    }
    Ok(Single {
        pictures: thumbnail(site, &asked.model, asked.class).into_iter().collect(),
        title,
        lines: caption::of_asked(asked),
        strip: empty_strip(&asked.model),
    })
}

/// The card of a comparison, with the pictures that were drawn for it, as far as they are among
/// the recent results.
#[utoipa::path(
    get,
    path = "/c/{address}/card.jpg",
    tag = "page",
    params(("address" = String, Path, description = "As in the address of the comparison")),
    responses(
        (
            status = 200,
            description = "1200 × 630, at most 300 KB",
            body = Vec<u8>,
            content_type = "image/jpeg"
        ),
        (status = 304, description = "As the client has it"),
        (
            status = 404,
            description = "This is no comparison that can be drawn here",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn of_comparison(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let address = request.uri().path().trim_end_matches("/card.jpg");
    let Some((comparison, model)) = link::compared(&site, address) else {
        return Err(ApiError::no_such_path(request.path()));
    };
    let lately = Lately::of(&site).await?;
    let mut columns = Vec::new();
    for plan in &comparison.plans {
        let wanted = request_for(&comparison.model, comparison.class, comparison.seed, plan);
        let picture = lately.picture(&wanted).await;
        let took = lately.view(&wanted).and_then(|view| view.timings).map(|timings| {
            format!("drawn in {}", caption::duration(timings.last_frame_ms - timings.queue_ms))
        });
        let tokens = model.patch_nums.last().copied().unwrap_or(1);
        columns.push(Column {
            name: caption::plan_name(plan, &model),
            detail: took.unwrap_or_default(),
            tile: Tile { tokens, picture },
        });
    }
    let card = Several {
        title: writable(caption::class_name(&comparison, &model), comparison.class),
        line: format!("{} plans · seed {} · {}", columns.len(), comparison.seed, model.name),
        columns,
    };
    send(&request, Caching::Ask, move || draw::several(&card)).await
}

/// The card of a grid: what changes in words, with the pictures of its requests that are among the
/// recent results. A grid itself is kept by the browser that has it drawn.
#[utoipa::path(
    get,
    path = "/grid/card.jpg",
    tag = "page",
    params(GridQuery),
    responses(
        (
            status = 200,
            description = "1200 × 630, at most 300 KB",
            body = Vec<u8>,
            content_type = "image/jpeg"
        ),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "This is no grid that can be drawn here", body = ErrorBody),
    )
)]
pub(super) async fn of_grid(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let Some((grid, model)) = link::gridded(&site, request.query_string()) else {
        let message = "the address names no grid that can be drawn here; it needs across and down, \
            as in /grid?across=seed:1-4&down=plan:1 step,2 steps";
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    let lately = Lately::of(&site).await?;
    let tokens = model.patch_nums.last().copied().unwrap_or(1);
    let mut tiles = Vec::new();
    for cell in &grid.cells {
        tiles.push(Tile { tokens, picture: lately.picture(cell).await });
    }
    let labels = |values: &[var_dd_protocol::GridValue]| {
        values.iter().map(|value| value.label.clone()).collect()
    };
    let first = grid.cells.first().map_or(0, |cell| cell.class);
    let card = Table {
        title: writable(grid.title(&model), first),
        line: format!("{} · {}", caption::pictures(grid.cells.len()), model.name),
        across: labels(&grid.across),
        down: labels(&grid.down),
        tiles,
    };
    send(&request, Caching::Ask, move || draw::table(&card)).await
}

/// The card of a place of the pad, or of a walk over it: the four corners, by their own pictures
/// if those are among the recent results, else by what their classes look like.
#[utoipa::path(
    get,
    path = "/explore/card.jpg",
    tag = "page",
    params(
        ("corners" = String, Query, description = "Four corners, row by row, each the number of a \
            class and a seed: `0-11_1-22_2-33_3-44`"),
        ("model" = Option<String>, Query, description = "Name of a model; the server's first one \
            if absent"),
        ("pins" = Option<String>, Query, description = "Places of a walk, as in a link to the pad, \
            where at and pictures may stand, too: `10-90_50-20`"),
    ),
    responses(
        (
            status = 200,
            description = "1200 × 630, at most 300 KB",
            body = Vec<u8>,
            content_type = "image/jpeg"
        ),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "This is no pad that can be drawn here", body = ErrorBody),
    )
)]
pub(super) async fn of_walk(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let Some(walked) = link::walked(&site, request.query_string()) else {
        let message = "the address names no pad that can be drawn here; it needs four corners, \
            each the number of a class and a seed, as in /explore?corners=0-11_1-22_2-33_3-44";
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    let model = &walked.model;
    let lately = Lately::of(&site).await?;
    let one_step = model.plans.iter().find(|preset| !preset.plan.needs_teacher());
    let tokens = model.patch_nums.last().copied().unwrap_or(1);
    let mut columns = Vec::new();
    for (end, name) in walked.corners.iter().zip(walked.names()) {
        let class = end.class as u32;
        let drawn = match one_step {
            Some(preset) => {
                lately.picture(&request_for(&model.name, class, end.seed, &preset.plan)).await
            }
            None => None,
        };
        let picture = drawn.or_else(|| thumbnail(&site, model, class));
        columns.push(Column {
            name: writable(name, class),
            detail: format!("seed {}", end.seed),
            tile: Tile { tokens, picture },
        });
    }
    let title = if walked.pictures.is_some() { "A walk between four" } else { "Between four" };
    let card = Several {
        title: format!("{title} pictures"),
        line: match walked.pictures {
            Some(count) => format!("{} · {}", caption::pictures(count), model.name),
            None => model.name.clone(),
        },
        columns,
    };
    send(&request, Caching::Ask, move || draw::several(&card)).await
}

/// What a class looks like, if it was drawn before.
fn thumbnail(site: &Site, model: &ModelInfo, class: u32) -> Option<DynamicImage> {
    image::load_from_memory(&site.thumbnails.of(model, class)?).ok()
}

/// The recent results, among which a card finds its pictures: nothing is drawn for it.
struct Lately<'a> {
    site: &'a Site,
    results: Vec<JobView>,
}

impl<'a> Lately<'a> {
    async fn of(site: &'a Site) -> Result<Self, ErrorBody> {
        Ok(Self { site, results: site.scheduler.recent(RECENT, None).await?.results })
    }

    /// The newest result whose first picture is that of a request.
    fn view(&self, wanted: &GenerateRequest) -> Option<&JobView> {
        self.results.iter().find(|view| {
            let request = &view.request;
            view.state == JobState::Finished
                && request.model == wanted.model
                && request.class == wanted.class
                && request.seed == wanted.seed
                && request.plan == wanted.plan
                && request.explore.is_none()
        })
    }

    /// The picture of a request, if there is one that can be read.
    async fn picture(&self, wanted: &GenerateRequest) -> Option<DynamicImage> {
        picture(self.site, self.view(wanted)?, 0).await
    }
}

/// What draws one picture.
fn request_for(model: &str, class: u32, seed: u64, plan: &Plan) -> GenerateRequest {
    GenerateRequest {
        model: Some(model.to_owned()),
        seed: Some(seed),
        ..GenerateRequest::new(class, plan.clone())
    }
}

/// A title, or the number of the class where the font of the card lacks letters of its name.
fn writable(title: String, class: u32) -> String {
    if draw::can_write(&title) { title } else { format!("Class {class}") }
}

/// A card of a result, with the words that are given.
async fn single(
    site: &Site,
    view: &JobView,
    chosen: Option<usize>,
    title: String,
    lines: Vec<String>,
) -> Result<Single, ErrorBody> {
    let shown = match chosen {
        Some(index) => index..index + 1,
        None => 0..view.pictures.len().min(4),
    };
    let mut pictures = Vec::new();
    for index in shown.clone() {
        pictures.extend(picture(site, view, index as u32).await);
    }
    let mut strip = Vec::new();
    let scales = view.patch_nums.len();
    for number in 0..scales.min(TILES) {
        // Spread over all scales, the last one among them.
        let scale = if scales <= TILES { number } else { number * (scales - 1) / (TILES - 1) };
        strip.push(Tile {
            tokens: view.patch_nums[scale],
            picture: frame(site, view, shown.start as u32, scale as u32).await,
        });
    }
    Ok(Single { pictures, title, lines, strip })
}

fn empty_strip(model: &ModelInfo) -> Vec<Tile> {
    let tokens = model.patch_nums.iter().take(TILES);
    tokens.map(|&tokens| Tile { tokens, picture: None }).collect()
}

/// A finished picture; nothing if there is none, or none that can be read.
async fn picture(site: &Site, view: &JobView, index: u32) -> Option<DynamicImage> {
    let bytes = site.scheduler.picture(&view.id, index).await.ok()?;
    image::load_from_memory(&bytes).ok()
}

/// The last frame of a scale.
async fn frame(site: &Site, view: &JobView, picture: u32, scale: u32) -> Option<DynamicImage> {
    let frames = view.frames.iter().filter(|frame| frame.header.picture == picture);
    let frame =
        frames.filter(|frame| frame.header.scale == scale).max_by_key(|frame| frame.header.pass)?;
    let (_, bytes) = site.scheduler.frame(&view.id, frame.seq).await.ok()?;
    image::load_from_memory(&bytes).ok()
}

/// Draws a card beside the threads that answer requests, and sends it.
async fn send(
    request: &HttpRequest,
    caching: Caching,
    drawn: impl FnOnce() -> image::RgbImage + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    let bytes = web::block(move || draw::encoded(&drawn())).await.ok().flatten();
    let bytes = bytes.ok_or_else(|| {
        ApiError::new(ErrorCode::Internal, "the card of this link cannot be drawn")
    })?;
    Ok(answer(request, "image/jpeg", caching, bytes))
}
