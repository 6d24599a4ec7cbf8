//! The connection to the server: a WebSocket that connects again by itself, and plain HTTP where a
//! proxy does not let WebSockets through.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use futures_channel::{
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};
use futures_util::{FutureExt, SinkExt, StreamExt, select_biased};
use gloo_events::EventListener;
use gloo_net::websocket::{Message, futures::WebSocket};
use gloo_timers::future::TimeoutFuture;
use var_dd_protocol::{
    ClientMessage, ErrorBody, ErrorCode, Frame, GenerateRequest, JobId, OwnerToken, ServerMessage,
};
use wasm_bindgen_futures::spawn_local;
use yew::Callback;

use super::now_ms;
use crate::state::{
    conversation::Conversation,
    job::Picture,
    previews::Previews,
    pulse::{Next, Pulse},
    store::{Action, Connection},
};

/// Longest wait for the greeting of the server.
const GREETING_MS: u32 = 15_000;

/// Waits between attempts to connect again: doubled from the first to the last.
const FIRST_RETRY_MS: u32 = 300;
const LAST_RETRY_MS: u32 = 5_000;

/// Attempts without a greeting after which plain HTTP is tried.
const FAILURES: u32 = 3;

/// Between two questions over plain HTTP, and until a WebSocket is tried again.
const POLL_MS: u32 = 700;
const PLAIN_HTTP_MS: f64 = 30_000.0;

/// What is wrong where plain HTTP gets through and WebSockets do not.
const PROXY_ADVICE: &str = "Pictures come only once they are finished: a proxy between this page \
    and the server does not let WebSockets through. It must pass on the headers Host, Upgrade and \
    Connection.";

/// A connection to the server that mends itself.
#[derive(Clone)]
pub(crate) struct Server {
    say: UnboundedSender<ClientMessage>,
    last_tag: Rc<Cell<u32>>,
    previews: Rc<RefCell<Previews<Outcome>>>,
}

/// What comes of a preview.
pub(crate) type Outcome = Result<Picture, ErrorBody>;

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.last_tag, &other.last_tag)
    }
}

impl Server {
    /// Connects. What happens goes to `dispatch`, the secrets of own jobs to `keep`.
    pub(crate) fn connect(dispatch: Callback<Action>, keep: Callback<(JobId, OwnerToken)>) -> Self {
        let (say, said) = mpsc::unbounded();
        let previews = Rc::<RefCell<Previews<Outcome>>>::default();
        let conversation = Conversation::new(client_key());
        let line = Line { said, dispatch, keep, conversation, previews: previews.clone() };
        spawn_local(line.run());
        Self { say, last_tag: Rc::default(), previews }
    }

    /// Asks for a job; returns the tag of the request, which the answer carries.
    pub(crate) fn generate(&self, request: GenerateRequest) -> u32 {
        let tag = self.next_tag();
        self.send(ClientMessage::Generate { tag, request });
        tag
    }

    /// Asks for a finished picture that is kept nowhere. `None` without a WebSocket. The answer is
    /// cancelled when the connection is lost, and when a newer preview took this one's place.
    pub(crate) fn preview(&self, request: GenerateRequest) -> Option<oneshot::Receiver<Outcome>> {
        let tag = self.next_tag();
        let answer = self.previews.borrow_mut().ask(tag)?;
        self.send(ClientMessage::Preview { tag, request });
        Some(answer)
    }

    fn next_tag(&self) -> u32 {
        let tag = self.last_tag.get() + 1;
        self.last_tag.set(tag);
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
    previews: Rc<RefCell<Previews<Outcome>>>,
}

impl Line {
    async fn run(mut self) {
        let (mut signs, _listeners) = watch_browser();
        let mut retry_ms = FIRST_RETRY_MS;
        let mut failures = 0;
        loop {
            let mut greeted = false;
            let ending = self.converse(&mut signs, &mut greeted).await;
            self.previews.borrow_mut().lost();
            let unanswered = self.conversation.lost();
            self.reject_unanswered(unanswered);
            if let Ending::Refused(message) = ending {
                let unanswered = self.conversation.give_up();
                self.reject_unanswered(unanswered);
                self.dispatch.emit(Action::Connection(Connection::Refused(message)));
                return;
            }
            failures = if greeted { 0 } else { failures + 1 };
            if failures >= FAILURES && self.ask_over_http(&mut signs).await {
                continue;
            }
            self.dispatch.emit(Action::Connection(Connection::Lost));
            if greeted {
                retry_ms = FIRST_RETRY_MS;
            }
            wait(retry_ms, &mut signs).await;
            retry_ms = (retry_ms * 2).min(LAST_RETRY_MS);
        }
    }

    /// One WebSocket from its greeting to its end.
    async fn converse(
        &mut self,
        signs: &mut UnboundedReceiver<Sign>,
        greeted: &mut bool,
    ) -> Ending {
        let Some(socket) = socket_url().and_then(|url| WebSocket::open(&url).ok()) else {
            return Ending::Lost;
        };
        let (mut sink, stream) = socket.split();
        let mut stream = stream.fuse();
        let mut patience = TimeoutFuture::new(GREETING_MS).fuse();
        let mut pulse = Pulse::new(now_ms());
        let mut to_send = vec![self.conversation.connected()];
        loop {
            for message in std::mem::take(&mut to_send) {
                match message {
                    ClientMessage::Ping if *greeted => pulse.pinged(now_ms()),
                    ClientMessage::Generate { .. } if *greeted => pulse.asked(now_ms()),
                    _ => {}
                }
                let Ok(text) = serde_json::to_string(&message) else { continue };
                let mut sent = sink.send(Message::Text(text)).fuse();
                select_biased! {
                    sent = sent => if sent.is_err() { return Ending::Lost },
                    () = patience => if !*greeted { return Ending::Lost },
                }
            }
            // Until it is greeted, the other side has the longer patience for that.
            let rest_ms = match pulse.next(now_ms()) {
                _ if !*greeted => f64::from(GREETING_MS),
                Next::Wait(ms) => ms,
                Next::Ping => {
                    to_send.push(ClientMessage::Ping);
                    continue;
                }
                Next::GiveUp => return Ending::Lost,
            };
            let mut rest = TimeoutFuture::new(rest_ms.ceil() as u32).fuse();
            select_biased! {
                heard = stream.next() => {
                    pulse.heard(now_ms());
                    match heard {
                        Some(Ok(Message::Text(text))) => {
                            let Ok(message) = serde_json::from_str::<ServerMessage>(&text) else { continue };
                            to_send = self.conversation.hear(&message);
                            if !self.conversation.is_asking() {
                                pulse.answered();
                            }
                            *greeted |= matches!(message, ServerMessage::Hello { .. });
                            if let Some(ending) = self.hear(message) {
                                return ending;
                            }
                        }
                        Some(Ok(Message::Bytes(bytes))) => self.frame(&bytes),
                        Some(Err(_)) | None => return Ending::Lost,
                    }
                },
                message = self.said.next() => match message {
                    Some(message) => to_send.extend(self.conversation.say(message)),
                    None => return Ending::Lost,
                },
                sign = signs.next() => match sign {
                    Some(Sign::Offline) => return Ending::Lost,
                    _ => pulse.doubt(),
                },
                () = patience => if !*greeted { return Ending::Lost },
                () = rest => {}
            }
        }
    }

    /// Does without a WebSocket for a while, if the server answers to plain HTTP; false if it does
    /// not.
    async fn ask_over_http(&mut self, signs: &mut UnboundedReceiver<Sign>) -> bool {
        match super::info().await {
            Ok(info) => self.dispatch.emit(Action::Info(Ok(Rc::new(info)))),
            Err(error) => {
                // What a server that answers has to say helps more than that it does not talk.
                if error.code != ErrorCode::Internal {
                    self.dispatch.emit(Action::Notice(Some(error.message)));
                }
                return false;
            }
        }
        self.dispatch.emit(Action::Connection(Connection::PlainHttp(PROXY_ADVICE.to_owned())));
        let unanswered = self.conversation.give_up();
        self.reject_unanswered(unanswered);
        let until = now_ms() + PLAIN_HTTP_MS;
        let mut to_ask = self.conversation.without_socket();
        while now_ms() < until || !to_ask.is_empty() || !self.conversation.watched().is_empty() {
            for message in std::mem::take(&mut to_ask) {
                self.ask(message).await;
            }
            for job in self.conversation.watched() {
                match super::view(job.as_str()).await {
                    Ok(view) => {
                        if view.state.is_final() {
                            self.conversation.ended(&job);
                        }
                        self.dispatch.emit(Action::View(Rc::new(view)));
                    }
                    Err(error) if error.code == ErrorCode::NotFound => {
                        self.conversation.ended(&job);
                        self.dispatch.emit(Action::Missing { job, error });
                    }
                    Err(_) => return false,
                }
            }
            let mut pause = TimeoutFuture::new(POLL_MS).fuse();
            select_biased! {
                message = self.said.next() => match message {
                    Some(message) => {
                        self.conversation.say(message);
                        to_ask = self.conversation.without_socket();
                    }
                    None => return false,
                },
                sign = signs.next() => if sign == Some(Sign::Offline) { return false },
                () = pause => {}
            }
        }
        true
    }

    /// Asks over plain HTTP what is otherwise said on the WebSocket.
    async fn ask(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Generate { tag, request } => {
                let key = self.conversation.key_of(tag);
                match super::submit(&request, key.as_deref()).await {
                    Ok(super::Submitted { job, owner_token, request }) => {
                        self.keep.emit((job.clone(), owner_token));
                        self.conversation.follow(job.clone());
                        self.dispatch.emit(Action::Accepted { tag, job, request });
                    }
                    Err(error) => self.reject(tag, error),
                }
            }
            ClientMessage::Cancel { job, owner_token } => {
                if let Err(error) = super::cancel(&job, &owner_token).await {
                    self.dispatch.emit(Action::Notice(Some(error.message)));
                }
            }
            // Followed jobs are looked at anyway; the rest is about the WebSocket.
            _ => {}
        }
    }

    /// Tells of requests whose answer will never come.
    fn reject_unanswered(&self, tags: Vec<u32>) {
        for tag in tags {
            let message = "the connection was lost before the server answered; generate again";
            self.reject(tag, ErrorBody::new(ErrorCode::Internal, message));
        }
    }

    fn reject(&self, tag: u32, error: ErrorBody) {
        self.dispatch.emit(Action::Rejected { tag, error });
    }

    fn hear(&self, message: ServerMessage) -> Option<Ending> {
        let action = match message {
            ServerMessage::Hello { .. } => {
                self.previews.borrow_mut().opened();
                Action::Connection(Connection::Open)
            }
            ServerMessage::Accepted { tag, job, owner_token, request } => {
                self.keep.emit((job.clone(), owner_token));
                Action::Accepted { tag, job, request }
            }
            ServerMessage::Rejected { tag, error } => {
                if self.previews.borrow_mut().refused(tag, Err(error.clone())) {
                    return None;
                }
                Action::Rejected { tag, error }
            }
            ServerMessage::Event { job, seq, event } => Action::Event { job, seq, event },
            ServerMessage::Error { job: None, error }
                if error.code == ErrorCode::ProtocolVersion =>
            {
                return Some(Ending::Refused(error.message));
            }
            ServerMessage::Error { job: Some(job), error } if error.code == ErrorCode::NotFound => {
                Action::Missing { job, error }
            }
            ServerMessage::Error { job: None, error } if error.code == ErrorCode::RateLimited => {
                self.previews.borrow_mut().unheard();
                Action::Notice(Some(error.message))
            }
            ServerMessage::Error { error, .. } => Action::Notice(Some(error.message)),
            ServerMessage::Pong => return None,
        };
        self.dispatch.emit(action);
        None
    }

    fn frame(&mut self, bytes: &[u8]) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        let picture = held_picture(frame.picture, frame.header.media_type.as_str());
        let mut previews = self.previews.borrow_mut();
        if let Some(tag) = previews.tag_of(&frame.job) {
            return previews.come(tag, picture.ok_or_else(super::no_room));
        }
        drop(previews);
        self.conversation.seen(&frame.job, frame.seq);
        if let Some(picture) = picture {
            let Frame { job, seq, header, .. } = frame;
            self.dispatch.emit(Action::Frame { job, seq, header, picture, now_ms: now_ms() });
        }
    }
}

/// Puts an encoded picture into the memory of the browser.
pub(super) fn held_picture(bytes: &[u8], media_type: &str) -> Option<Picture> {
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes));
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(media_type);
    held_blob(&web_sys::Blob::new_with_u8_array_sequence_and_options(&parts, &options).ok()?)
}

/// A picture that is in the memory of the browser already.
pub(super) fn held_blob(blob: &web_sys::Blob) -> Option<Picture> {
    let url = web_sys::Url::create_object_url_with_blob(blob).ok()?;
    // An address that the browser does not know needs no release.
    let release = |url: &str| drop(web_sys::Url::revoke_object_url(url));
    Some(Picture::held(url, release))
}

/// Random characters that nobody can guess; none where the browser has none to give.
fn client_key() -> Option<String> {
    let mut random = [0; 32];
    web_sys::window()?.crypto().ok()?.get_random_values_with_u8_array(&mut random).ok()?;
    // Four bits each.
    Some(random.iter().map(|byte| char::from(b'a' + byte % 16)).collect())
}

fn socket_url() -> Option<String> {
    let location = web_sys::window()?.location();
    let scheme = if location.protocol().ok()? == "https:" { "wss" } else { "ws" };
    Some(format!("{scheme}://{}{}", location.host().ok()?, super::path("api/ws")))
}

/// What the browser tells of the network and of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    Online,
    Offline,
    /// The page can be seen again; it may have slept.
    Awake,
}

/// Tells what the browser tells.
fn watch_browser() -> (UnboundedReceiver<Sign>, Vec<EventListener>) {
    let (tell, told) = mpsc::unbounded();
    let listen = |target: web_sys::EventTarget, event: &'static str, sign: Sign| {
        let tell = tell.clone();
        EventListener::new(&target, event, move |_| drop(tell.unbounded_send(sign)))
    };
    let Some(window) = web_sys::window() else { return (told, Vec::new()) };
    let document = window.document();
    let mut listeners = vec![
        listen(window.clone().into(), "online", Sign::Online),
        listen(window.clone().into(), "offline", Sign::Offline),
        listen(window.into(), "pageshow", Sign::Awake),
    ];
    listeners
        .extend(document.map(|document| listen(document.into(), "visibilitychange", Sign::Awake)));
    (told, listeners)
}

/// Waits for a time, or until the browser is online again.
async fn wait(ms: u32, signs: &mut UnboundedReceiver<Sign>) {
    let mut time = TimeoutFuture::new(ms).fuse();
    loop {
        select_biased! {
            sign = signs.next() => if matches!(sign, Some(Sign::Online)) { return },
            () = time => return,
        }
    }
}
