//! The WebSocket: carries a [`Session`]'s conversation, and the events of the jobs it watches.

use std::{
    collections::VecDeque,
    future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use actix_http::ws::OpCode;
use actix_web::{HttpRequest, HttpResponse, rt, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::StreamMap;
use var_dd_protocol::{
    ErrorBody, ErrorCode, Frame, FrameHeader, GenerateRequest, JobId, OwnerToken, ServerMessage,
};

use super::{
    Connection, Site,
    error::ApiError,
    session::{Action, Session, refuse},
    shares::{Holder, Permit},
    websocket::{self, CloseCode, Message, ReceiveError, Receiver, Sender},
};
use crate::jobs::{Asking, Client, Unwatched, Viewer, ViewerEvent};

/// How long somebody may go on sending who was told to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// Opens a WebSocket: `ClientMessage` and `ServerMessage` (among the schemas of this document) as
/// JSON text, pictures as binary frames.
#[utoipa::path(
    get,
    path = "/api/ws",
    tag = "jobs",
    responses(
        (status = 101, description = "Say hello"),
        (status = 400, description = "Not a WebSocket handshake", body = ErrorBody),
        (status = 426, description = "Another version of WebSockets than 13", body = ErrorBody),
        (status = 503, description = "Shutting down", body = ErrorBody),
    )
)]
pub(super) async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    if *site.stopping.borrow() {
        let error =
            ErrorBody::new(ErrorCode::ShuttingDown, "the server is stopping; try again soon");
        return Err(error.retry_after(5).into());
    }
    let client = site.client(&request);
    let accepted = websocket::accept(&request, payload, site.config.hello_bytes);
    let failed = |error: &ApiError| site.failed_handshakes.tell(request.headers(), error);
    let (response, sender, receiver) = accepted.inspect_err(failed)?;
    let place = Arc::new(Place { since: std::time::Instant::now(), evicted: Notify::new() });
    let permit = site.limits.socket(client, place.clone())?;
    if let Some(connection) = request.conn_data::<Arc<Connection>>() {
        connection.became_websocket();
    }
    let conversation = Conversation {
        session: Session::new(site.config.session),
        window: Window::new(site.config.unconfirmed_bytes),
        viewers: StreamMap::new(),
        previews: Vec::new(),
        client,
        conversation: site.conversations.fetch_add(1, Ordering::Relaxed),
        sender,
        site,
        place,
        _permit: permit,
    };
    rt::spawn(conversation.run(receiver));
    Ok(response)
}

/// A place among the WebSockets, which another client may need more.
#[derive(Debug)]
struct Place {
    since: std::time::Instant,
    evicted: Notify,
}

impl Holder for Place {
    fn need(&self) -> (bool, std::time::Instant) {
        (true, self.since)
    }

    fn evict(&self) {
        self.evicted.notify_one();
    }
}

/// Why a conversation ends.
enum Ending {
    /// The other side is gone.
    Gone,
    /// It is told this.
    Close(CloseCode, String),
}

/// The events of one job; the last item is `None`.
type Events = Pin<Box<dyn Stream<Item = Option<ViewerEvent>>>>;

fn events(viewer: Viewer) -> Events {
    Box::pin(stream::unfold(Some(viewer), |viewer| async {
        let mut viewer = viewer?;
        let event = viewer.next().await;
        let rest = event.is_some().then_some(viewer);
        Some((event, rest))
    }))
}

/// Previews of a connection that are on their way at most: the device draws one while the other
/// waits, so that it never rests between them.
const PREVIEWS: usize = 2;

/// The outcome of the first preview that has one, which is taken out.
async fn shown(previews: &mut Vec<Preview>) -> (u32, Result<(FrameHeader, Bytes), ErrorBody>) {
    future::poll_fn(|context| {
        // A preview is asked for when it is first polled, so every one is.
        let ready = previews.iter_mut().enumerate().find_map(|(at, preview)| {
            match preview.as_mut().poll(context) {
                Poll::Ready(outcome) => Some((at, outcome)),
                Poll::Pending => None,
            }
        });
        match ready {
            Some((at, outcome)) => {
                drop(previews.remove(at));
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    })
    .await
}

struct Conversation {
    site: web::Data<Site>,
    client: IpAddr,
    /// Tells apart the conversations of an address; never 0.
    conversation: u64,
    sender: Sender,
    session: Session,
    viewers: StreamMap<JobId, Events>,
    /// The previews on their way, oldest first; dropping one takes it back, unless the device has
    /// it.
    previews: Vec<Preview>,
    window: Window,
    place: Arc<Place>,
    _permit: Permit,
}

/// A preview on its way, with the tag of its message.
type Preview = Pin<Box<dyn Future<Output = (u32, Result<(FrameHeader, Bytes), ErrorBody>)>>>;

impl Conversation {
    async fn run(mut self, mut receiver: Receiver) {
        self.site.metrics.socket_opened();
        let ending = self.converse(&mut receiver).await;
        let Self { site, sender, .. } = self;
        if let Err(Ending::Close(code, description)) = ending {
            tracing::debug!(?code, description, "WebSocket closed");
            // Somebody who does not read is not waited for longer than this.
            let _ = timeout(site.config.timeouts.write, sender.close(code, &description)).await;
            receiver.drain(DRAIN).await;
        }
        site.metrics.socket_closed();
    }

    async fn converse(&mut self, receiver: &mut Receiver) -> Result<(), Ending> {
        let timeouts = self.site.config.timeouts;
        let mut stopping = self.site.stopping.clone();
        let place = self.place.clone();
        let mut ping = interval(timeouts.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let greeting = sleep(timeouts.hello);
        tokio::pin!(greeting);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = receiver.next(timeouts.request) => {
                    heard = Instant::now();
                    match message {
                        Ok(message) => self.heard(message).await?,
                        Err(error) => return self.broken(error, receiver.limit()).await,
                    }
                    if self.session.greeted() {
                        receiver.set_limit(self.site.config.message_bytes);
                    }
                }
                Some((job, event)) = self.viewers.next(), if self.window.has_room() => {
                    self.tell(job, event).await?;
                }
                (tag, outcome) = shown(&mut self.previews), if self.window.has_room() => {
                    self.show(tag, outcome).await?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > timeouts.silence {
                        let description = format!("no sign of life for {} s", timeouts.silence.as_secs());
                        return Err(Ending::Close(CloseCode::Policy, description));
                    }
                    let number = self.window.sent(0);
                    self.send(OpCode::Ping, &number).await?;
                }
                () = &mut greeting, if !self.session.greeted() => {
                    return Err(Ending::Close(CloseCode::Policy, "no hello".into()));
                }
                () = place.evicted.notified() => {
                    let description = "too many connections; this one makes room for others";
                    return Err(Ending::Close(CloseCode::Again, description.into()));
                }
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(Ending::Close(CloseCode::Restart, "the server is stopping".into()));
                }
            }
        }
    }

    /// Serves one message of the client.
    async fn heard(&mut self, message: Message) -> Result<(), Ending> {
        self.site.metrics.message_received();
        // Answers to pings are asked for; everything else is counted.
        if let Message::Pong(number) = &message
            && self.window.confirmed(number)
        {
            return Ok(());
        }
        if let Message::Close(code) = message {
            let code = code.map_or(CloseCode::Normal, CloseCode::from);
            return Err(Ending::Close(code, String::new()));
        }
        if let Some(steps) = self.session.limit() {
            return self.take(steps).await;
        }
        match message {
            Message::Text(text) => {
                let steps = self.session.text(&text);
                self.take(steps).await
            }
            Message::Binary(bytes) => {
                let steps = self.session.binary(bytes.len());
                self.take(steps).await
            }
            Message::Ping(bytes) => self.send(OpCode::Pong, &bytes).await,
            Message::Pong(_) | Message::Close(_) => Ok(()),
        }
    }

    /// Says what was wrong with bytes that are not the protocol's, then ends.
    async fn broken(&mut self, error: ReceiveError, most: usize) -> Result<(), Ending> {
        let (code, error) = match error {
            ReceiveError::Gone => return Err(Ending::Gone),
            ReceiveError::TooSlow => {
                let message = "a message that began did not end in time";
                (CloseCode::Policy, ErrorBody::new(ErrorCode::Timeout, message))
            }
            ReceiveError::Violation(violation) if violation.code == CloseCode::Size => {
                let message = format!("the message is over the limit of {most} bytes");
                (CloseCode::Size, ErrorBody::new(ErrorCode::TooLarge, message))
            }
            ReceiveError::Violation(violation) => {
                (violation.code, ErrorBody::new(ErrorCode::MalformedMessage, violation.reason))
            }
        };
        let description = error.message.clone();
        self.take(vec![refuse(None, error)]).await?;
        Err(Ending::Close(code, description))
    }

    async fn take(&mut self, steps: Vec<Action>) -> Result<(), Ending> {
        for step in steps {
            match step {
                Action::Send(message) => self.say(&message).await?,
                Action::Submit { tag, request } => self.submit(tag, request).await?,
                Action::Preview { tag, request } => self.preview(tag, request),
                Action::Cancel { job, owner_token } => self.cancel(job, &owner_token).await?,
                Action::Watch { job, after } => self.watch(job, after).await?,
                Action::Unwatch(job) => {
                    self.viewers.remove(&job);
                }
                Action::Close(code, description) => return Err(Ending::Close(code, description)),
            }
        }
        Ok(())
    }

    async fn submit(&mut self, tag: u32, request: GenerateRequest) -> Result<(), Ending> {
        let accepted = match self.site.limits.job(self.client) {
            Ok(()) => {
                let asking = Asking {
                    unwatched: Unwatched::Expires,
                    client: Client { address: Some(self.client), conversation: self.conversation },
                    key: self.session.key_of(tag),
                };
                self.site.scheduler.submit_as(request, asking).await
            }
            Err(error) => Err(error),
        };
        match accepted {
            Ok(accepted) => {
                let job = accepted.job.clone();
                // Watched before it is told of: a connection that breaks just here leaves no
                // unwatched job.
                let viewer = self.site.scheduler.watch(&job, None).await;
                self.say(&ServerMessage::Accepted {
                    tag,
                    job: accepted.job,
                    owner_token: accepted.owner_token,
                    request: accepted.request,
                })
                .await?;
                match viewer {
                    Ok(viewer) => {
                        self.session.accepted(job.clone());
                        self.viewers.insert(job, events(viewer));
                        Ok(())
                    }
                    Err(error) => self.fail(job, error).await,
                }
            }
            Err(error) => self.say(&ServerMessage::Rejected { tag, error }).await,
        }
    }

    /// Begins a preview, in place of the last one if there is no room for another.
    fn preview(&mut self, tag: u32, request: GenerateRequest) {
        let site = self.site.clone();
        self.previews.truncate(PREVIEWS - 1);
        self.previews.push(Box::pin(async move { (tag, site.scheduler.preview(request).await) }));
    }

    /// Answers a preview.
    async fn show(
        &mut self,
        tag: u32,
        outcome: Result<(FrameHeader, Bytes), ErrorBody>,
    ) -> Result<(), Ending> {
        match outcome {
            Ok((header, picture)) => {
                let frame = Frame { job: JobId::of_preview(tag), seq: 0, header, picture };
                let bytes = web::Bytes::from(frame.encode());
                let number = self.window.sent(bytes.len());
                self.send(OpCode::Binary, &bytes).await?;
                self.send(OpCode::Ping, &number).await
            }
            Err(error) => self.say(&ServerMessage::Rejected { tag, error }).await,
        }
    }

    async fn cancel(&mut self, job: JobId, owner_token: &OwnerToken) -> Result<(), Ending> {
        match self.site.scheduler.cancel(&job, owner_token).await {
            Ok(()) => Ok(()),
            Err(error) => self.fail(job, error).await,
        }
    }

    async fn watch(&mut self, job: JobId, after: Option<u64>) -> Result<(), Ending> {
        match self.site.scheduler.watch(&job, after).await {
            Ok(viewer) => {
                self.session.watching(job.clone());
                self.viewers.insert(job, events(viewer));
                Ok(())
            }
            Err(error) => self.fail(job, error).await,
        }
    }

    async fn fail(&mut self, job: JobId, error: ErrorBody) -> Result<(), Ending> {
        self.say(&ServerMessage::Error { job: Some(job), error }).await
    }

    /// Passes on what happened to a watched job.
    async fn tell(&mut self, job: JobId, event: Option<ViewerEvent>) -> Result<(), Ending> {
        match event {
            Some(ViewerEvent::Control { seq, event }) => {
                self.say(&ServerMessage::Event { job, seq, event }).await
            }
            Some(ViewerEvent::Frame { bytes, .. }) => {
                let number = self.window.sent(bytes.len());
                self.send(OpCode::Binary, &bytes).await?;
                self.send(OpCode::Ping, &number).await
            }
            Some(ViewerEvent::Lost { error, .. }) => self.fail(job, error).await,
            None => {
                self.session.ended(&job);
                Ok(())
            }
        }
    }

    async fn say(&mut self, message: &ServerMessage) -> Result<(), Ending> {
        match serde_json::to_string(message) {
            Ok(text) => self.send(OpCode::Text, text.as_bytes()).await,
            Err(error) => {
                tracing::error!(%error, "a message cannot be written");
                Err(Ending::Close(CloseCode::Error, "internal error".into()))
            }
        }
    }

    /// Waits while the other side is slow; gives it up after the longest silence.
    async fn send(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), Ending> {
        let sent = self.sender.send(opcode, payload);
        match timeout(self.site.config.timeouts.silence, sent).await {
            Ok(Ok(())) => {
                self.site.metrics.message_sent(payload.len());
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Ending::Gone),
        }
    }
}

/// Pictures on the way that the client has not confirmed.
///
/// Buffers between here and a client hold megabytes, in which pictures grow old. So every picture
/// is followed by a numbered ping, whose answer says that all before it arrived; beyond a number of
/// unconfirmed bytes nothing is taken from the viewers, which then drop intermediate frames.
struct Window {
    most: usize,
    bytes: usize,
    number: u64,
    pings: VecDeque<(u64, usize)>,
}

impl Window {
    fn new(most: usize) -> Self {
        Self { most, bytes: 0, number: 0, pings: VecDeque::new() }
    }

    fn has_room(&self) -> bool {
        self.bytes < self.most
    }

    /// Counts bytes on their way; the payload of the ping that follows them.
    fn sent(&mut self, bytes: usize) -> web::Bytes {
        self.number += 1;
        self.bytes += bytes;
        self.pings.push_back((self.number, bytes));
        web::Bytes::copy_from_slice(&self.number.to_be_bytes())
    }

    /// An answer to a ping; false if none was waiting for it.
    fn confirmed(&mut self, payload: &[u8]) -> bool {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return false;
        };
        let mut any = false;
        while let Some(&(sent, bytes)) = self.pings.front()
            && sent <= number
            && number <= self.number
        {
            self.pings.pop_front();
            self.bytes -= bytes;
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_confirms_nothing_gets_no_more_pictures() {
        let mut window = Window::new(100);
        let first = window.sent(60);
        assert!(window.has_room());
        let second = window.sent(60);
        assert!(!window.has_room());
        assert!(window.confirmed(&first));
        assert!(window.has_room());
        assert!(!window.confirmed(&first), "once");
        window.sent(0);
        assert!(window.confirmed(&second));
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn an_answer_to_no_ping_confirms_nothing() {
        let mut window = Window::new(100);
        window.sent(200);
        assert!(!window.confirmed(b""));
        assert!(!window.confirmed(&99u64.to_be_bytes()));
        assert!(!window.has_room());
        let _ = window.sent(1);
        assert!(window.confirmed(&2u64.to_be_bytes()), "a later answer confirms what went before");
        assert!(window.has_room());
    }
}
