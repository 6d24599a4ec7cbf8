//! The WebSocket: carries a [`Session`]'s conversation, and the events of the jobs it watches.

use std::{collections::VecDeque, io, net::IpAddr, pin::Pin};

use actix_web::{HttpRequest, HttpResponse, rt, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::StreamMap;
use var_dd_protocol::{ErrorBody, ErrorCode, GenerateRequest, JobId, OwnerToken, ServerMessage};

use super::{
    Site,
    error::ApiError,
    limits::Permit,
    session::{Session, Step, refuse},
};
use crate::scheduler::{Unwatched, Viewer, ViewerEvent};

/// Opens a WebSocket: `ClientMessage` and `ServerMessage` as JSON text, pictures as binary frames.
#[utoipa::path(
    get,
    path = "/api/ws",
    tag = "jobs",
    responses(
        (status = 101, description = "Say hello"),
        (status = 400, description = "Not a WebSocket handshake", body = ErrorBody),
        (status = 403, description = "Host or origin refused", body = ErrorBody),
        (status = 429, description = "Too many requests or connections", body = ErrorBody),
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
    let permit = site.limits.socket(client)?;
    let (response, socket, messages) = actix_ws::handle(&request, payload).map_err(|error| {
        let message = format!("this address takes WebSocket handshakes: {error}");
        ApiError::new(ErrorCode::MalformedBody, message)
    })?;
    let most = site.config.message_bytes;
    let messages =
        messages.max_frame_size(most).aggregate_continuations().max_continuation_size(most);
    let conversation = Conversation {
        session: Session::new(site.config.session),
        window: Window::new(site.config.unconfirmed_bytes),
        viewers: StreamMap::new(),
        client,
        socket,
        site,
        _permit: permit,
    };
    rt::spawn(conversation.run(messages));
    Ok(response)
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

struct Conversation {
    site: web::Data<Site>,
    client: IpAddr,
    socket: actix_ws::Session,
    session: Session,
    viewers: StreamMap<JobId, Events>,
    window: Window,
    _permit: Permit,
}

impl Conversation {
    async fn run(mut self, messages: AggregatedMessageStream) {
        self.site.metrics.socket_opened();
        let ending = self.converse(messages).await;
        self.viewers.clear();
        if let Err(Ending::Close(code, description)) = ending {
            tracing::debug!(?code, description, "WebSocket closed");
            let reason = CloseReason { code, description: Some(description) };
            let patience = self.site.config.patience.ping;
            // Somebody who does not read is not waited for longer than this.
            let _ = timeout(patience, self.socket.close(Some(reason))).await;
        }
        self.site.metrics.socket_closed();
    }

    async fn converse(&mut self, mut messages: AggregatedMessageStream) -> Result<(), Ending> {
        let patience = self.site.config.patience;
        let mut stopping = self.site.stopping.clone();
        let mut ping = interval(patience.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let greeting = sleep(patience.hello);
        tokio::pin!(greeting);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = messages.next() => {
                    heard = Instant::now();
                    let message = message.ok_or(Ending::Gone)?;
                    self.heard(message).await?;
                }
                Some((job, event)) = self.viewers.next(), if self.window.has_room() => {
                    self.tell(job, event).await?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > patience.silence {
                        let description = format!("no sign of life for {} s", patience.silence.as_secs());
                        return Err(Ending::Close(CloseCode::Policy, description));
                    }
                    let number = self.window.sent(0);
                    self.send(actix_ws::Message::Ping(number)).await?;
                }
                () = &mut greeting, if !self.session.greeted() => {
                    return Err(Ending::Close(CloseCode::Policy, "no hello".into()));
                }
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(Ending::Close(CloseCode::Restart, "the server is stopping".into()));
                }
            }
        }
    }

    /// Serves one message of the client.
    async fn heard(
        &mut self,
        message: Result<AggregatedMessage, ProtocolError>,
    ) -> Result<(), Ending> {
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.broken(error).await,
        };
        self.site.metrics.message_received();
        // Answers to pings are asked for; everything else is counted.
        if let AggregatedMessage::Pong(number) = &message
            && self.window.confirmed(number)
        {
            return Ok(());
        }
        if let Some(steps) = self.session.limit() {
            return self.take(steps).await;
        }
        match message {
            AggregatedMessage::Text(text) => {
                let steps = self.session.text(&text);
                self.take(steps).await
            }
            AggregatedMessage::Binary(bytes) => {
                let steps = self.session.binary(bytes.len());
                self.take(steps).await
            }
            AggregatedMessage::Ping(bytes) => self.send(actix_ws::Message::Pong(bytes)).await,
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(_) => Err(Ending::Close(CloseCode::Normal, String::new())),
        }
    }

    /// Says what was wrong with bytes that are not the protocol's, then ends.
    async fn broken(&mut self, error: ProtocolError) -> Result<(), Ending> {
        let most = self.site.config.message_bytes;
        let too_large = || {
            let message = format!("the message is over the limit of {most} bytes");
            (CloseCode::Size, ErrorBody::new(ErrorCode::TooLarge, message))
        };
        let malformed =
            |code, message| (code, ErrorBody::new(ErrorCode::MalformedMessage, message));
        let (code, error) = match error {
            ProtocolError::Overflow => too_large(),
            ProtocolError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                malformed(CloseCode::Invalid, "a text message that is not UTF-8".to_owned())
            }
            // The aggregating stream has no other error of this kind than a size over the limit.
            ProtocolError::Io(error)
                if error.kind() == io::ErrorKind::Other
                    && error.get_ref().is_some_and(|cause| cause.to_string().contains("size")) =>
            {
                too_large()
            }
            ProtocolError::Io(_) => return Err(Ending::Gone),
            error => malformed(CloseCode::Protocol, format!("not a WebSocket frame: {error}")),
        };
        let description = error.message.clone();
        self.take(vec![refuse(None, error)]).await?;
        Err(Ending::Close(code, description))
    }

    async fn take(&mut self, steps: Vec<Step>) -> Result<(), Ending> {
        for step in steps {
            match step {
                Step::Send(message) => self.say(&message).await?,
                Step::Submit { tag, request } => self.submit(tag, request).await?,
                Step::Cancel { job, owner_token } => self.cancel(job, &owner_token).await?,
                Step::Watch { job, after } => self.watch(job, after).await?,
                Step::Unwatch(job) => {
                    self.viewers.remove(&job);
                }
                Step::Close(code, description) => return Err(Ending::Close(code, description)),
            }
        }
        Ok(())
    }

    async fn submit(&mut self, tag: u32, request: GenerateRequest) -> Result<(), Ending> {
        let accepted = match self.site.limits.job(self.client) {
            Ok(()) => self.site.scheduler.submit(request, Unwatched::Expires).await,
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
                self.send(actix_ws::Message::Binary(bytes)).await?;
                self.send(actix_ws::Message::Ping(number)).await
            }
            None => {
                self.session.ended(&job);
                Ok(())
            }
        }
    }

    async fn say(&mut self, message: &ServerMessage) -> Result<(), Ending> {
        match serde_json::to_string(message) {
            Ok(text) => self.send(actix_ws::Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a message cannot be written");
                Err(Ending::Close(CloseCode::Error, "internal error".into()))
            }
        }
    }

    /// Waits while the other side is slow; gives it up after the longest silence.
    async fn send(&mut self, message: actix_ws::Message) -> Result<(), Ending> {
        use actix_ws::Message;
        let bytes = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            _ => 0,
        };
        let sent = futures_util::SinkExt::send(&mut self.socket, message);
        match timeout(self.site.config.patience.silence, sent).await {
            Ok(Ok(())) => {
                self.site.metrics.message_sent(bytes);
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
