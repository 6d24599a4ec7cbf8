//! Jobs over real WebSockets, as the page asks for them, and when their frames came.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, task::JoinSet, time};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use var_dd_protocol::{
    ClientMessage, Frame, GenerateRequest, JobEvent, JobId, PROTOCOL_VERSION, ServerMessage,
};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Connections that a client takes in turn: the server lets each have some twenty messages a
/// second.
const CONNECTIONS_PER_CLIENT: usize = 4;

/// How jobs come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arrivals {
    /// So many clients, each of which asks for a job when its last one has ended.
    Closed(u32),
    /// So many jobs a second, evenly, whether or not earlier ones have ended.
    Open(f64),
}

/// One job as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) job: JobId,
    /// When it was wanted; before it was asked for, where the load generator was late.
    pub(super) wanted: Instant,
    pub(super) ended: Instant,
    pub(super) first_ms: f64,
    pub(super) last_ms: f64,
    /// Of each frame: milliseconds from the job's acceptance to the frame, encoded, by the
    /// server's clock; and when it was here, in milliseconds since 1970.
    pub(super) frames: Vec<(f64, f64)>,
}

/// A server and the jobs that are asked of it.
pub(super) struct Load {
    address: String,
    idle: Mutex<VecDeque<Connection>>,
    request: GenerateRequest,
}

impl Load {
    /// Jobs like `request` at a server.
    pub(super) fn new(address: String, request: GenerateRequest) -> Arc<Self> {
        Arc::new(Self { address, idle: Mutex::default(), request })
    }

    /// Runs `jobs` jobs, seeds from `first_seed` on.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(super) async fn run(
        self: &Arc<Self>,
        arrivals: Arrivals,
        jobs: u32,
        first_seed: u64,
    ) -> anyhow::Result<Vec<Outcome>> {
        let clients = match arrivals {
            Arrivals::Closed(clients) => clients.max(1),
            Arrivals::Open(_) => 2,
        };
        self.connect(clients as usize * CONNECTIONS_PER_CLIENT).await?;
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        match arrivals {
            Arrivals::Closed(clients) => {
                for client in 0..clients {
                    let load = self.clone();
                    tasks.spawn(async move {
                        let mut outcomes = Vec::new();
                        for job in (client..jobs).step_by(clients as usize) {
                            let seed = first_seed + u64::from(job);
                            outcomes.push(load.job(Instant::now(), seed).await?);
                        }
                        Ok(outcomes)
                    });
                }
            }
            Arrivals::Open(rate) => {
                for job in 0..jobs {
                    let load = self.clone();
                    let wanted = begun + Duration::from_secs_f64(f64::from(job) / rate);
                    tasks.spawn(async move {
                        time::sleep_until(wanted.into()).await;
                        Ok(vec![load.job(wanted, first_seed + u64::from(job)).await?])
                    });
                }
            }
        }
        let mut outcomes = Vec::with_capacity(jobs as usize);
        while let Some(done) = tasks.join_next().await {
            let done: anyhow::Result<_> = done.context("a client of the load generator failed")?;
            outcomes.extend(done?);
        }
        Ok(outcomes)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens connections until so many stand ready.
    async fn connect(&self, wanted: usize) -> anyhow::Result<()> {
        while self.idle().len() < wanted {
            let connection = Connection::open(&self.address).await?;
            self.idle().push_back(connection);
        }
        Ok(())
    }

    async fn job(&self, wanted: Instant, seed: u64) -> anyhow::Result<Outcome> {
        let ready = self.idle().pop_front();
        let mut connection = match ready {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        let request = GenerateRequest { seed: Some(seed), ..self.request.clone() };
        let outcome = time::timeout(PATIENCE, connection.job(wanted, request))
            .await
            .with_context(|| format!("a job took more than {} s", PATIENCE.as_secs()))??;
        self.idle().push_back(connection);
        Ok(outcome)
    }
}

/// A WebSocket that has said hello and watches at most one job at a time.
struct Connection(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let (socket, _) = connect_async(format!("ws://{address}/api/ws"))
            .await
            .with_context(|| format!("cannot open a WebSocket at {address}"))?;
        let mut connection = Self(socket);
        connection
            .send(&ClientMessage::Hello { version: PROTOCOL_VERSION, client_key: None })
            .await?;
        match connection.receive().await? {
            Received::Message(ServerMessage::Hello { .. }) => Ok(connection),
            other => bail!("the server answered hello with {other:?}"),
        }
    }

    async fn send(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(serde_json::to_string(message)?)).await?)
    }

    /// The next message that is not the connection's own housekeeping.
    async fn receive(&mut self) -> anyhow::Result<Received> {
        loop {
            let message = self.0.next().await.context("the server closed the connection")??;
            match message {
                Message::Text(text) => return Ok(Received::Message(serde_json::from_str(&text)?)),
                Message::Binary(bytes) => {
                    let here_ms = unix_ms();
                    let Frame { header, job, .. } = Frame::decode(&bytes)?;
                    return Ok(Received::Frame { job, at_ms: header.at_ms, here_ms });
                }
                _ => {}
            }
        }
    }

    async fn job(&mut self, wanted: Instant, request: GenerateRequest) -> anyhow::Result<Outcome> {
        self.send(&ClientMessage::Generate { tag: 0, request }).await?;
        let elapsed_ms = || wanted.elapsed().as_secs_f64() * 1e3;
        let mut ours = None;
        let mut frames = Vec::new();
        let (mut first_ms, mut last_ms) = (0.0, 0.0);
        loop {
            match self.receive().await? {
                Received::Message(ServerMessage::Accepted { job, .. }) => ours = Some(job),
                Received::Frame { job, at_ms, here_ms } if ours.as_ref() == Some(&job) => {
                    last_ms = elapsed_ms();
                    if frames.is_empty() {
                        first_ms = last_ms;
                    }
                    frames.push((at_ms, here_ms));
                }
                Received::Message(ServerMessage::Event { job, event, .. })
                    if ours.as_ref() == Some(&job) =>
                {
                    match event {
                        JobEvent::Finished { .. } => {
                            ensure!(!frames.is_empty(), "the job {job} ended without a frame");
                            // Answers to pings of the last frames leave now.
                            self.0.flush().await?;
                            let ended = Instant::now();
                            return Ok(Outcome { job, wanted, ended, first_ms, last_ms, frames });
                        }
                        JobEvent::Failed { error } => bail!("the job {job} failed: {error}"),
                        JobEvent::Cancelled | JobEvent::Expired => {
                            bail!("the job {job} was not drawn: {event:?}")
                        }
                        _ => {}
                    }
                }
                Received::Message(ServerMessage::Rejected { error, .. })
                | Received::Message(ServerMessage::Error { error, .. }) => {
                    bail!("the server refused a job: {error}")
                }
                Received::Message(_) | Received::Frame { .. } => {}
            }
        }
    }
}

#[derive(Debug)]
enum Received {
    Message(ServerMessage),
    Frame { job: JobId, at_ms: f64, here_ms: f64 },
}

fn unix_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1e3
}
