//! The only file that talks to the server.

use std::{cell::Cell, rc::Rc};

use futures_channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures_util::{FutureExt, SinkExt, StreamExt, select_biased};
use gloo_events::EventListener;
use gloo_net::{
    http::{Request, RequestBuilder, Response},
    websocket::{Message, futures::WebSocket},
};
use gloo_timers::future::TimeoutFuture;
use serde::de::DeserializeOwned;
use var_dd_protocol::{
    ClientMessage, ErrorBody, ErrorCode, Frame, GenerateRequest, JobId, JobView, OwnerToken,
    ResultPage, ServerInfo, ServerMessage,
};
use wasm_bindgen_futures::spawn_local;
use yew::Callback;

use crate::state::{
    conversation::Conversation,
    job::Picture,
    store::{Action, Connection},
};

/// Recent results on the page.
const RECENT: usize = 12;

/// Longest wait for the greeting of the server.
const GREETING_MS: u32 = 15_000;

/// Waits between attempts to connect again: doubled from the first to the last.
const FIRST_RETRY_MS: u32 = 300;
const LAST_RETRY_MS: u32 = 5_000;

/// A WebSocket to the server that connects again by itself.
#[derive(Clone)]
pub(crate) struct Server {
    say: UnboundedSender<ClientMessage>,
    last_tag: Rc<Cell<u32>>,
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.last_tag, &other.last_tag)
    }
}

impl Server {
    /// Connects. What happens goes to `dispatch`, the secrets of own jobs to `keep`.
    pub(crate) fn connect(dispatch: Callback<Action>, keep: Callback<(JobId, OwnerToken)>) -> Self {
        let (say, said) = mpsc::unbounded();
        spawn_local(Line { said, dispatch, keep, conversation: Conversation::default() }.run());
        Self { say, last_tag: Rc::default() }
    }

    /// Asks for a job; returns the tag of the request, which the answer carries.
    pub(crate) fn generate(&self, request: GenerateRequest) -> u32 {
        let tag = self.last_tag.get() + 1;
        self.last_tag.set(tag);
        self.send(ClientMessage::Generate { tag, request });
        tag
    }

    /// Follows a job from its first event.
    pub(crate) fn watch(&self, job: JobId) {
        self.send(ClientMessage::Watch { job, after: None });
    }

    /// Stops a job.
    pub(crate) fn cancel(&self, job: JobId, owner_token: OwnerToken) {
        self.send(ClientMessage::Cancel { job, owner_token });
    }

    fn send(&self, message: ClientMessage) {
        // The other end lives as long as the page.
        let _ = self.say.unbounded_send(message);
    }
}

/// How a connection ended.
enum Ending {
    Lost,
    Refused(String),
}

struct Line {
    said: UnboundedReceiver<ClientMessage>,
    dispatch: Callback<Action>,
    keep: Callback<(JobId, OwnerToken)>,
    conversation: Conversation,
}

impl Line {
    async fn run(mut self) {
        let (mut network, _listeners) = watch_network();
        let mut retry_ms = FIRST_RETRY_MS;
        loop {
            let mut greeted = false;
            let ending = self.converse(&mut network, &mut greeted).await;
            for tag in self.conversation.lost() {
                let message = "the connection was lost before the server answered; generate again";
                let error = ErrorBody::new(ErrorCode::Internal, message);
                self.dispatch.emit(Action::Rejected { tag, error });
            }
            if let Ending::Refused(message) = ending {
                self.dispatch.emit(Action::Connection(Connection::Refused(message)));
                return;
            }
            self.dispatch.emit(Action::Connection(Connection::Lost));
            if greeted {
                retry_ms = FIRST_RETRY_MS;
            }
            wait(retry_ms, &mut network).await;
            retry_ms = (retry_ms * 2).min(LAST_RETRY_MS);
        }
    }

    /// One connection from its greeting to its end.
    async fn converse(
        &mut self,
        network: &mut UnboundedReceiver<bool>,
        greeted: &mut bool,
    ) -> Ending {
        let Some(socket) = socket_url().and_then(|url| WebSocket::open(&url).ok()) else {
            return Ending::Lost;
        };
        let (mut sink, stream) = socket.split();
        let mut stream = stream.fuse();
        let mut patience = TimeoutFuture::new(GREETING_MS).fuse();
        let mut to_send = vec![Conversation::connected()];
        loop {
            for message in std::mem::take(&mut to_send) {
                let Ok(text) = serde_json::to_string(&message) else { continue };
                let mut sent = sink.send(Message::Text(text)).fuse();
                select_biased! {
                    sent = sent => if sent.is_err() { return Ending::Lost },
                    () = patience => if !*greeted { return Ending::Lost },
                }
            }
            select_biased! {
                heard = stream.next() => match heard {
                    Some(Ok(Message::Text(text))) => {
                        let Ok(message) = serde_json::from_str::<ServerMessage>(&text) else { continue };
                        to_send = self.conversation.hear(&message);
                        *greeted |= matches!(message, ServerMessage::Hello { .. });
                        if let Some(ending) = self.hear(message) {
                            return ending;
                        }
                    }
                    Some(Ok(Message::Bytes(bytes))) => self.frame(&bytes),
                    Some(Err(_)) | None => return Ending::Lost,
                },
                message = self.said.next() => match message {
                    Some(message) => to_send.extend(self.conversation.say(message)),
                    None => return Ending::Lost,
                },
                online = network.next() => if online == Some(false) { return Ending::Lost },
                () = patience => if !*greeted { return Ending::Lost },
            }
        }
    }

    fn hear(&self, message: ServerMessage) -> Option<Ending> {
        let action = match message {
            ServerMessage::Hello { .. } => Action::Connection(Connection::Open),
            ServerMessage::Accepted { tag, job, owner_token, request } => {
                self.keep.emit((job.clone(), owner_token));
                Action::Accepted { tag, job, request }
            }
            ServerMessage::Rejected { tag, error } => Action::Rejected { tag, error },
            ServerMessage::Event { job, seq, event } => Action::Event { job, seq, event },
            ServerMessage::Error { job: None, error }
                if error.code == ErrorCode::ProtocolVersion =>
            {
                return Some(Ending::Refused(error.message));
            }
            ServerMessage::Error { job: Some(job), error } if error.code == ErrorCode::NotFound => {
                Action::Missing { job, error }
            }
            ServerMessage::Error { error, .. } => Action::Notice(Some(error.message)),
        };
        self.dispatch.emit(action);
        None
    }

    fn frame(&mut self, bytes: &[u8]) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        self.conversation.seen(&frame.job, frame.seq);
        if let Some(picture) = held_picture(frame.picture, frame.header.media_type.as_str()) {
            let Frame { job, seq, header, .. } = frame;
            self.dispatch.emit(Action::Frame { job, seq, header, picture, now_ms: now_ms() });
        }
    }
}

/// Milliseconds since the document began.
pub(crate) fn now_ms() -> f64 {
    web_sys::window()
        .and_then(|window| window.performance())
        .map_or(0.0, |performance| performance.now())
}

/// Puts an encoded picture into the memory of the browser.
fn held_picture(bytes: &[u8], media_type: &str) -> Option<Picture> {
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes));
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(media_type);
    let blob = web_sys::Blob::new_with_u8_array_sequence_and_options(&parts, &options).ok()?;
    let url = web_sys::Url::create_object_url_with_blob(&blob).ok()?;
    // An address that the browser does not know needs no release.
    let release = |url: &str| drop(web_sys::Url::revoke_object_url(url));
    Some(Picture::held(url, release))
}

fn socket_url() -> Option<String> {
    let location = web_sys::window()?.location();
    let scheme = if location.protocol().ok()? == "https:" { "wss" } else { "ws" };
    Some(format!("{scheme}://{}/api/ws", location.host().ok()?))
}

/// Tells when the browser goes online (`true`) and offline.
fn watch_network() -> (UnboundedReceiver<bool>, Vec<EventListener>) {
    let (tell, told) = mpsc::unbounded();
    let listen = |event: &'static str, online: bool| {
        let tell = tell.clone();
        let window = web_sys::window()?;
        Some(EventListener::new(&window, event, move |_| {
            let _ = tell.unbounded_send(online);
        }))
    };
    let listeners =
        [listen("online", true), listen("offline", false)].into_iter().flatten().collect();
    (told, listeners)
}

/// Waits for a time, or until the browser is online again.
async fn wait(ms: u32, network: &mut UnboundedReceiver<bool>) {
    let mut time = TimeoutFuture::new(ms).fuse();
    loop {
        select_biased! {
            online = network.next() => if online == Some(true) { return },
            () = time => return,
        }
    }
}

/// What the server offers.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn info() -> Result<ServerInfo, ErrorBody> {
    get("/api/info").await
}

/// A job or result as a whole.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn view(job: &str) -> Result<JobView, ErrorBody> {
    get(&format!("/api/results/{job}")).await
}

/// The newest results.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn recent() -> Result<Vec<JobView>, ErrorBody> {
    let page: ResultPage = get(&format!("/api/results?limit={RECENT}")).await?;
    Ok(page.results)
}

/// Deletes a result of one's own.
///
/// # Errors
/// What the server says, or that it does not answer.
pub(crate) async fn delete(job: &JobId, owner_token: &OwnerToken) -> Result<(), ErrorBody> {
    let request = Request::delete(&format!("/api/results/{job}"));
    answer(request.header("Authorization", &format!("Bearer {}", owner_token.0))).await.map(drop)
}

/// Where a finished picture is downloaded.
pub(crate) fn download_path(job: &JobId, picture: usize, with_parameters: bool) -> String {
    let parameters = if with_parameters { "" } else { "&parameters=no" };
    format!("/api/results/{job}/pictures/{picture}.png?download=1{parameters}")
}

async fn get<T: DeserializeOwned>(path: &str) -> Result<T, ErrorBody> {
    let response = answer(Request::get(path)).await?;
    response.json().await.map_err(|error| {
        ErrorBody::new(
            ErrorCode::Internal,
            format!("the answer of the server cannot be read: {error}"),
        )
    })
}

async fn answer(request: RequestBuilder) -> Result<Response, ErrorBody> {
    let response = request.send().await.map_err(|_| {
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
