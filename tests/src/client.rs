//! A viewer at the other end of the WebSocket.

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};
use var_dd_protocol::{
    ClientMessage, Frame, FrameHeader, GenerateRequest, JobEvent, JobId, JobState, OwnerToken,
    PROTOCOL_VERSION, Plan, ServerMessage,
};

use crate::program::{PATIENCE, Program};

/// What an event was.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A control message.
    Control(JobEvent),
    /// A picture: header and encoded picture.
    Frame(FrameHeader, Vec<u8>),
}

/// One event of a job as a viewer receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The job.
    pub job: JobId,
    /// Its number.
    pub seq: u64,
    /// What happened.
    pub what: What,
    /// The message as it came over the wire.
    pub wire: Vec<u8>,
}

impl Event {
    /// The final state that the event brings, if it does.
    pub fn final_state(&self) -> Option<JobState> {
        match &self.what {
            What::Control(event) => event.state().filter(|state| state.is_final()),
            What::Frame(..) => None,
        }
    }
}

/// A message of the server.
#[derive(Debug)]
enum Received {
    Message(ServerMessage),
    Event(Event),
}

/// A job that the server accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its name.
    pub job: JobId,
    /// The owner's secret.
    pub owner_token: OwnerToken,
    /// The request, model and seed filled in.
    pub request: GenerateRequest,
}

/// A connection that has said hello.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Events that arrived while something else was awaited.
    waiting: Vec<Event>,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(program: &Program) -> Result<Self> {
        Self::connect_from(program, None).await
    }

    /// Connects as a page of `origin` would.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect_from(program: &Program, origin: Option<&str>) -> Result<Self> {
        Self::connect_to(program.address(), origin).await
    }

    /// Connects to the server at an address, as `127.0.0.1:8080`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect_to(address: &str, origin: Option<&str>) -> Result<Self> {
        let mut request = format!("ws://{address}/api/ws").into_client_request()?;
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", HeaderValue::from_str(origin)?);
        }
        let (socket, _) = timeout(PATIENCE, connect_async(request)).await??;
        let mut client = Self { socket, waiting: Vec::new() };
        client.send(&ClientMessage::Hello { version: PROTOCOL_VERSION, client_key: None }).await?;
        match client.receive().await? {
            Received::Message(ServerMessage::Hello { version }) => {
                ensure!(version == PROTOCOL_VERSION)
            }
            other => bail!("the server answered hello with {other:?}"),
        }
        Ok(client)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.send_text(&serde_json::to_string(message)?).await
    }

    /// Sends a text, message or not.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        Ok(timeout(PATIENCE, self.socket.send(Message::text(text))).await??)
    }

    /// Asks for a job; the connection then watches it.
    ///
    /// # Errors
    /// When the server rejects it.
    pub async fn generate(&mut self, request: GenerateRequest) -> Result<Accepted> {
        self.send(&ClientMessage::Generate { tag: 1, request }).await?;
        match self.message().await? {
            ServerMessage::Accepted { job, owner_token, request, .. } => {
                Ok(Accepted { job, owner_token, request })
            }
            ServerMessage::Rejected { error, .. } => Err(error.into()),
            other => bail!("the server answered generate with {other:?}"),
        }
    }

    /// The next message that is no event of a job.
    ///
    /// # Errors
    /// When none comes.
    pub async fn message(&mut self) -> Result<ServerMessage> {
        loop {
            match self.receive().await? {
                Received::Message(message) => return Ok(message),
                Received::Event(event) => self.waiting.push(event),
            }
        }
    }

    /// Watches a job after an event, or from its first.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn watch(&mut self, job: &JobId, after: Option<u64>) -> Result<()> {
        self.send(&ClientMessage::Watch { job: job.clone(), after }).await
    }

    /// The next event of a job.
    ///
    /// # Errors
    /// When none comes.
    pub async fn event(&mut self, job: &JobId) -> Result<Event> {
        if let Some(at) = self.waiting.iter().position(|event| event.job == *job) {
            return Ok(self.waiting.remove(at));
        }
        loop {
            match self.receive().await? {
                Received::Event(event) if event.job == *job => return Ok(event),
                Received::Event(event) => self.waiting.push(event),
                Received::Message(message) => {
                    bail!("the server said {message:?} instead of an event")
                }
            }
        }
    }

    /// All events of a job up to its end.
    ///
    /// # Errors
    /// When the end does not come.
    pub async fn events(&mut self, job: &JobId) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            let event = self.event(job).await?;
            let is_final = event.final_state().is_some();
            events.push(event);
            if is_final {
                return Ok(events);
            }
        }
    }

    async fn receive(&mut self) -> Result<Received> {
        loop {
            let message =
                timeout(PATIENCE, self.socket.next()).await.context("the server says nothing")?;
            match message.context("the server closed the connection")?? {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text)
                        .with_context(|| format!("not a message: {text}"))?;
                    return Ok(match message {
                        ServerMessage::Event { job, seq, event } => Received::Event(Event {
                            job,
                            seq,
                            what: What::Control(event),
                            wire: text.as_bytes().to_vec(),
                        }),
                        message => Received::Message(message),
                    });
                }
                Message::Binary(bytes) => {
                    let frame = Frame::decode(&bytes)?;
                    return Ok(Received::Event(Event {
                        job: frame.job.clone(),
                        seq: frame.seq,
                        what: What::Frame(frame.header.clone(), frame.picture.to_vec()),
                        wire: bytes.to_vec(),
                    }));
                }
                Message::Close(reason) => bail!("the server closed the connection: {reason:?}"),
                _ => {} // Pings are answered by the library.
            }
        }
    }
}

/// A request for one picture of class 2 with a seed.
pub fn request(plan: Plan, seed: u64) -> GenerateRequest {
    GenerateRequest {
        model: None,
        class: 2,
        plan,
        seed: Some(seed),
        count: 1,
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    }
}

/// Frames of one picture among events: (pass, scale, encoded picture), in order.
pub fn frames(events: &[Event], picture: u32) -> Vec<(u32, u32, &[u8])> {
    events
        .iter()
        .filter_map(|event| match &event.what {
            What::Frame(header, bytes) if header.picture == picture => {
                Some((header.pass, header.scale, bytes.as_slice()))
            }
            _ => None,
        })
        .collect()
}

/// The last frame of a picture: the finished PNG.
///
/// # Errors
/// When no frame is marked as the last.
pub fn finished_picture(events: &[Event], picture: u32) -> Result<&[u8]> {
    let last = events.iter().find_map(|event| match &event.what {
        What::Frame(header, bytes) if header.picture == picture && header.last => {
            Some(bytes.as_slice())
        }
        _ => None,
    });
    last.with_context(|| format!("picture {picture} has no last frame"))
}
