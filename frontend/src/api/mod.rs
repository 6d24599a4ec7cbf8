//! All that talks to the server, and the addresses on it: [`Server`] is the connection, the
//! functions here are single questions over HTTP.

mod line;

use gloo_net::http::{Request, RequestBuilder, Response};
use gloo_timers::future::TimeoutFuture;
use serde::{Deserialize, de::DeserializeOwned};
use var_dd_protocol::{
    ENLARGED_SIDE, ENLARGED_TIMES, ErrorBody, ErrorCode, GenerateRequest, JobId, JobView,
    OwnerToken, ResultPage, ServerInfo, TokenReport, TokenizedPicture, Verification, WalkRequest,
};

pub(crate) use line::{Outcome, Server};

use crate::state::job::Picture;

/// Results in one page of the list.
const RECENT: usize = 12;

/// Longest wait for an answer over HTTP.
const ANSWER_MS: u32 = 15_000;

/// What lies between a request for a job that nobody answered and the next.
const ASK_AGAIN_MS: u32 = 1_000;

/// Longest wait while a file goes to the server, as from a phone.
const UPLOAD_MS: u32 = 60_000;

/// What a picture of one's own may be sent as.
pub(crate) const ENCODED_TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];

/// Longest wait for a walk: a little longer than the server takes for one.
const WALK_MS: u32 = 130_000;

/// Milliseconds since the document began.
pub(crate) fn now_ms() -> f64 {
    web_sys::window()
        .and_then(|window| window.performance())
        .map_or(0.0, |performance| performance.now())
}

/// The path under which the page lies, with a slash at its end: `/`, or what a proxy puts before
/// it. The start script knows it from its own address.
pub(crate) fn root() -> String {
    let document = web_sys::window().and_then(|window| window.document());
    let element = document.and_then(|document| document.document_element());
    let root = element.and_then(|element| element.get_attribute("data-root"));
    root.filter(|root| root.starts_with('/') && root.ends_with('/')).unwrap_or_else(|| "/".into())
}

/// The path of something on the server, which is given without a slash at its beginning.
pub(crate) fn path(of: &str) -> String {
    root() + of
}

/// Whether the address is the playground's own.
pub(crate) fn is_at_playground() -> bool {
    let here = web_sys::window().and_then(|window| window.location().pathname().ok());
    here.is_some_and(|here| here == root())
}

/// The whole address of a result, for sending it to others; with the picture of several that is
/// meant, by its index.
pub(crate) fn link(job: &JobId, picture: Option<usize>) -> String {
    let picture = picture.map(|index| format!("?picture={}", index + 1)).unwrap_or_default();
    address(&format!("r/{job}{picture}"))
}

/// The whole address of something on the server, for sending it to others.
pub(crate) fn address(of: &str) -> String {
    let origin = web_sys::window().and_then(|window| window.location().origin().ok());
    origin.unwrap_or_default() + &path(of)
}

/// A place in the page with a query, without a slash at its beginning.
pub(crate) fn page(place: &str, query: &[(String, String)]) -> String {
    let pairs = query.iter().map(|(name, value)| {
        format!("{name}={}", String::from(js_sys::encode_uri_component(value)))
    });
    format!("{place}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// The finished picture of a result, by its index.
pub(crate) fn picture_path(job: &JobId, picture: usize) -> String {
    path(&format!("api/results/{job}/pictures/{picture}.png"))
}

/// What a class of a model looks like, small.
pub(crate) fn thumbnail_path(model: &str, class: usize) -> String {
    let model = js_sys::encode_uri_component(model);
    path(&format!("api/classes/{class}/thumbnail?model={model}"))
}

/// How large a file's pictures are to be: so many times as they were drawn, with pixels as squares
/// or smooth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileSize {
    pub(crate) times: u32,
    pub(crate) crisp: bool,
}

impl FileSize {
    /// Pictures as they were drawn.
    pub(crate) const AS_DRAWN: Self = Self { times: 1, crisp: true };

    /// What is offered of pictures of a side: as they were drawn, and larger up to what the server
    /// makes.
    pub(crate) fn times_of(side: u32) -> impl Iterator<Item = u32> {
        let doubled = std::iter::successors(Some(1), |times| Some(times * 2));
        doubled
            .take_while(|times| *times <= ENLARGED_TIMES)
            .filter(move |times| *times == 1 || side * times <= ENLARGED_SIDE)
    }

    fn query(self) -> String {
        match (self.times, self.crisp) {
            (1, _) => String::new(),
            (times, true) => format!("&scale={times}"),
            (times, false) => format!("&scale={times}&pixels=smooth"),
        }
    }
}

/// Where a finished picture is downloaded.
pub(crate) fn download_path(
    job: &JobId,
    picture: usize,
    with_parameters: bool,
    size: FileSize,
) -> String {
    let parameters = if with_parameters { "" } else { "&parameters=no" };
    format!("{}?download=1{parameters}{}", picture_path(job, picture), size.query())
}

/// Where a result is had as one file: `kind` as the server names it. An animation shows every scale
/// as long as the others: a fast machine draws them sooner than an eye follows.
pub(crate) fn export_path(job: &JobId, kind: &str, picture: usize, size: FileSize) -> String {
    let size = size.query();
    path(&format!("api/results/{job}/export?as={kind}&pace=even&picture={picture}{size}"))
}

/// Where the QR code of a result's link is.
pub(crate) fn qr_path(job: &JobId) -> String {
    path(&format!("api/results/{job}/qr.svg"))
}

/// What the server offers.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn info() -> Result<ServerInfo, ErrorBody> {
    get("api/info").await
}

/// A job or result as a whole.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn view(job: &str) -> Result<JobView, ErrorBody> {
    get(&format!("api/results/{job}")).await.map(placed)
}

/// The newest results, or those that follow `next` of an earlier page.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn recent(next: Option<&str>) -> Result<ResultPage, ErrorBody> {
    let before = next.map(|next| format!("&before={next}")).unwrap_or_default();
    let page: ResultPage = get(&format!("api/results?limit={RECENT}{before}")).await?;
    let results = page.results.into_iter().map(placed).collect();
    Ok(ResultPage { results, ..page })
}

/// A view with the paths of its pictures as this page reaches them.
fn placed(mut view: JobView) -> JobView {
    let place = |url: &mut String| *url = path(url.trim_start_matches('/'));
    view.pictures.iter_mut().for_each(place);
    view.frames.iter_mut().for_each(|frame| place(&mut frame.url));
    view
}

/// A job that was accepted over plain HTTP.
#[derive(Deserialize)]
struct Submitted {
    job: JobId,
    owner_token: OwnerToken,
    request: GenerateRequest,
}

/// Asks for a job; once more where no answer comes and a key makes sure that it stays one job.
///
/// # Errors
/// What the server says, or that it does not answer.
async fn submit(request: &GenerateRequest, key: Option<&str>) -> Result<Submitted, ErrorBody> {
    let post = || {
        let post = Request::post(&path("api/jobs")).abort_signal(patience().as_ref());
        let post = match key {
            Some(key) => post.header("Idempotency-Key", key),
            None => post,
        };
        post.json(request).map_err(|error| unreadable(&error))
    };
    let mut answer = post()?.send().await;
    if answer.is_err() && key.is_some() {
        TimeoutFuture::new(ASK_AGAIN_MS).await;
        answer = post()?.send().await;
    }
    read(checked(answer).await?).await
}

/// The bytes of a finished picture.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn picture_bytes(job: &JobId, picture: usize) -> Result<Vec<u8>, ErrorBody> {
    let of = download_path(job, picture, true, FileSize::AS_DRAWN);
    let response = answer(Request::get(&of)).await?;
    response.binary().await.map_err(|error| unreadable(&error))
}

/// Every token of a picture of a result.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn tokens(job: &JobId, picture: usize) -> Result<TokenReport, ErrorBody> {
    get(&format!("api/results/{job}/tokens?picture={picture}")).await
}

/// The finished picture of a request, which is kept nowhere.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn preview(request: &GenerateRequest) -> Result<Picture, ErrorBody> {
    held(posted_preview(request).await?).await
}

/// The finished picture of a request as it is sent.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn preview_bytes(request: &GenerateRequest) -> Result<Vec<u8>, ErrorBody> {
    let response = posted_preview(request).await?;
    response.binary().await.map_err(|error| unreadable(&error))
}

async fn posted_preview(request: &GenerateRequest) -> Result<Response, ErrorBody> {
    let post = Request::post(&path("api/preview")).abort_signal(patience().as_ref());
    let post = post.json(request).map_err(|error| unreadable(&error))?;
    checked(post.send().await).await
}

/// The bytes of a preview in the memory of the browser.
///
/// # Errors
/// When that has no room.
pub(crate) fn picture_of(preview: &[u8]) -> Result<Picture, ErrorBody> {
    line::held_picture(preview, "image/jpeg").ok_or_else(no_room)
}

/// A file of one's own as it is, for showing it here; nothing if the browser has no room for it.
pub(crate) fn picture_of_file(file: &web_sys::File) -> Option<Picture> {
    line::held_blob(file)
}

fn no_room() -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, "this browser has no room for another picture")
}

/// The picture of an answer.
async fn held(response: Response) -> Result<Picture, ErrorBody> {
    let media_type = response.headers().get("content-type").unwrap_or_default();
    let bytes = response.binary().await.map_err(|error| unreadable(&error))?;
    line::held_picture(&bytes, &media_type).ok_or_else(no_room)
}

/// A walk as an animated file in the memory of the browser.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn walk(walk: &WalkRequest) -> Result<Picture, ErrorBody> {
    let patience = web_sys::AbortSignal::timeout_with_u32(WALK_MS);
    let post = Request::post(&path("api/loop")).abort_signal(Some(&patience));
    let post = post.json(walk).map_err(|error| unreadable(&error))?;
    held(checked(post.send().await).await?).await
}

/// A picture of one's own as tokens of a model, by its file; nothing of it is kept.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn encode(
    model: &str,
    file: &web_sys::File,
) -> Result<TokenizedPicture, ErrorBody> {
    let model = String::from(js_sys::encode_uri_component(model));
    post_file(&format!("api/encode?model={model}"), file).await
}

/// A downloaded picture held against its own request, drawn again; nothing of it is kept.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn verify(file: &web_sys::File) -> Result<Verification, ErrorBody> {
    post_file("api/verify", file).await
}

async fn post_file<T: DeserializeOwned>(of: &str, file: &web_sys::File) -> Result<T, ErrorBody> {
    let post = Request::post(&path(of))
        .abort_signal(Some(&web_sys::AbortSignal::timeout_with_u32(UPLOAD_MS)))
        .header("Content-Type", &file.type_());
    let post = post.body(file.clone()).map_err(|error| unreadable(&error))?;
    read(checked(post.send().await).await?).await
}

/// Stops a job of one's own.
///
/// # Errors
/// What the server says, or that it does not answer.
async fn cancel(job: &JobId, owner_token: &OwnerToken) -> Result<(), ErrorBody> {
    let request = Request::post(&path(&format!("api/results/{job}/cancel")));
    answer(authorised(request, owner_token)).await.map(drop)
}

/// Deletes a result of one's own.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn delete(job: &JobId, owner_token: &OwnerToken) -> Result<(), ErrorBody> {
    let request = Request::delete(&path(&format!("api/results/{job}")));
    answer(authorised(request, owner_token)).await.map(drop)
}

/// Deletes a result of one's own while the page is being left: nobody waits for the answer.
pub(crate) fn delete_on_leaving(job: &JobId, owner_token: &OwnerToken) {
    let Some(window) = web_sys::window() else { return };
    let Ok(headers) = web_sys::Headers::new() else { return };
    // A name and a value of plain letters.
    let _ = headers.set("Authorization", &format!("Bearer {}", owner_token.0));
    let request = web_sys::RequestInit::new();
    request.set_method("DELETE");
    request.set_headers(&headers);
    // The request outlives the document.
    let _ = js_sys::Reflect::set(&request, &"keepalive".into(), &true.into());
    drop(window.fetch_with_str_and_init(&path(&format!("api/results/{job}")), &request));
}

fn authorised(request: RequestBuilder, owner_token: &OwnerToken) -> RequestBuilder {
    request.header("Authorization", &format!("Bearer {}", owner_token.0))
}

/// Ends a request that nobody answers.
fn patience() -> Option<web_sys::AbortSignal> {
    Some(web_sys::AbortSignal::timeout_with_u32(ANSWER_MS))
}

async fn get<T: DeserializeOwned>(of: &str) -> Result<T, ErrorBody> {
    read(answer(Request::get(&path(of))).await?).await
}

async fn answer(request: RequestBuilder) -> Result<Response, ErrorBody> {
    checked(request.abort_signal(patience().as_ref()).send().await).await
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ErrorBody> {
    response.json().await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &gloo_net::Error) -> ErrorBody {
    let message = format!("the answer of the server cannot be read: {error}");
    ErrorBody::new(ErrorCode::Internal, message)
}

async fn checked(response: Result<Response, gloo_net::Error>) -> Result<Response, ErrorBody> {
    let response = response.map_err(|_| {
        ErrorBody::new(ErrorCode::Internal, "the server does not answer; try again in a moment")
    })?;
    if response.ok() {
        return Ok(response);
    }
    let status = response.status();
    Err(response.json().await.unwrap_or_else(|_| {
        ErrorBody::new(ErrorCode::Internal, format!("the server answered with status {status}"))
    }))
}
