//! TCP connections below HTTP: each has so much time for the head of a request, for what it
//! sends, for taking what it is sent and for saying nothing; and addresses share them fairly.
//!
//! The HTTP library times the first head of a connection only. Here every connection knows what
//! it is at, told by the bytes that pass and by the guard before the handlers, and one task looks
//! at all of them twice a second and shuts down those whose time is over. A socket that is shut
//! down wakes whatever waits for it.

use std::{
    io,
    net::{IpAddr, Shutdown},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    rt::net::TcpStream,
    web::Bytes,
};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use var_dd_protocol::ErrorBody;

use super::{
    LimitsConfig, Timeouts,
    error::refusal_on_the_wire,
    security::client_of,
    shares::{Holder, Permit, Shares},
};

/// How often connections are looked at.
const SWEEP: Duration = Duration::from_millis(500);

/// A reader at least this fast, in bytes per second, is waited for as long as it takes.
const SLOWEST_READER: f64 = 8192.0;

/// For reading what was said last before a connection is cut.
const PARTING: Duration = Duration::from_secs(2);

/// Connections refused that may be read a little longer, so that the refusal is not lost.
const MOST_REFUSED: usize = 64;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// The head of a request has begun to arrive, or the connection has just opened.
    Head,
    /// A request is being answered; whether more was heard meanwhile.
    Answering { heard: bool, close: bool },
    /// It has become a WebSocket, which times itself.
    WebSocket,
    /// The last answer is out.
    Parting,
}

/// A connection as the guard and the sweep see it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Weak<TcpStream>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when written bytes wait for the other side to take some, and how many it took since.
    stalled: Option<(Instant, usize)>,
}

impl Connection {
    fn new(socket: &Arc<TcpStream>) -> Self {
        let state = State { phase: Phase::Head, since: Instant::now(), stalled: None };
        Self { socket: Arc::downgrade(socket), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in a critical section leaves it half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        state.since = Instant::now();
    }

    /// The head of a request is complete.
    pub(super) fn request_began(&self) {
        self.enter(Phase::Answering { heard: false, close: false });
    }

    /// The answer is the last one of this connection.
    pub(super) fn close_after_answer(&self) {
        if let Phase::Answering { close, .. } = &mut self.state().phase {
            *close = true;
        }
    }

    /// The connection becomes a WebSocket.
    pub(super) fn became_websocket(&self) {
        self.enter(Phase::WebSocket);
    }

    /// The answer is written, or given up.
    fn answer_ended(&self) {
        let phase = match self.state().phase {
            Phase::Answering { close: true, .. } | Phase::WebSocket => Phase::Parting,
            // What was heard may have been the next head already.
            Phase::Answering { heard: true, .. } => Phase::Head,
            Phase::Answering { .. } => Phase::Idle,
            other => other,
        };
        self.enter(phase);
    }

    fn heard(&self) {
        let mut state = self.state();
        match &mut state.phase {
            Phase::Idle => {
                state.phase = Phase::Head;
                state.since = Instant::now();
            }
            Phase::Answering { heard, .. } => *heard = true,
            Phase::Head | Phase::WebSocket | Phase::Parting => {}
        }
    }

    /// Whether its time is over, and what for.
    fn overdue(&self, now: Instant, timeouts: &Timeouts) -> Option<&'static str> {
        let state = self.state();
        if let Some((since, taken)) = state.stalled {
            let earned = Duration::from_secs_f64(taken as f64 / SLOWEST_READER);
            if now > since + timeouts.write + earned {
                return Some("it does not read what it is sent");
            }
        }
        let (limit, why) = match state.phase {
            Phase::Idle => (timeouts.keep_alive, "it asked for nothing more"),
            Phase::Head => (timeouts.request, "the head of its request does not come"),
            Phase::Parting => (PARTING, "it has had its last answer"),
            Phase::Answering { .. } | Phase::WebSocket => return None,
        };
        (now > state.since + limit).then_some(why)
    }

    fn shut_down(&self) {
        if let Some(socket) = self.socket.upgrade() {
            // It may be closed by the other side already.
            let _ = SockRef::from(&*socket).shutdown(Shutdown::Both);
        }
    }
}

impl Holder for Connection {
    fn need(&self) -> (bool, Instant) {
        let state = self.state();
        (matches!(state.phase, Phase::Answering { .. } | Phase::WebSocket), state.since)
    }

    fn evict(&self) {
        tracing::debug!("a connection makes room for another address");
        self.shut_down();
    }
}

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    shares: Arc<Shares>,
    trusted: Vec<IpNet>,
    open: Mutex<Vec<Weak<Connection>>>,
    refused: tokio::sync::Semaphore,
}

impl Connections {
    /// None open. All clients share the connections of a trusted proxy, which counts them itself.
    pub(super) fn new(limits: &LimitsConfig, trusted: &[IpNet]) -> Arc<Self> {
        Arc::new(Self {
            shares: Shares::new("connections", limits.connections, limits.connections_per_client),
            trusted: trusted.to_vec(),
            open: Mutex::default(),
            refused: tokio::sync::Semaphore::new(MOST_REFUSED),
        })
    }

    /// How many count.
    pub(super) fn count(&self) -> u32 {
        self.shares.count()
    }

    /// Takes an accepted connection in, or tells it why not and closes it.
    pub(super) fn admit(self: &Arc<Self>, socket: TcpStream) -> Option<Io> {
        let peer: IpAddr = socket.peer_addr().ok()?.ip().to_canonical();
        let socket = Arc::new(socket);
        let connection = Arc::new(Connection::new(&socket));
        let mut permit = None;
        if !self.trusted.iter().any(|net| net.contains(&peer)) {
            match self.shares.admit(client_of(peer), connection.clone()) {
                Ok(granted) => permit = Some(granted),
                Err(error) => {
                    self.refuse(socket, &error);
                    return None;
                }
            }
        }
        self.open().push(Arc::downgrade(&connection));
        Some(Io { socket, connection, _permit: permit })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why and closes. What the other side has sent by then is read for a moment where there
    /// are not too many of its kind: closing over unread bytes would reset the connection, and the
    /// refusal might be lost.
    fn refuse(self: &Arc<Self>, socket: Arc<TcpStream>, error: &ErrorBody) {
        // An empty socket buffer takes this little; if it does not, closing says enough.
        let _ = SockRef::from(&*socket).send(&refusal_on_the_wire(error));
        let _ = SockRef::from(&*socket).shutdown(Shutdown::Write);
        let connections = self.clone();
        actix_web::rt::spawn(async move {
            let Ok(_place) = connections.refused.try_acquire() else { return };
            let read = async {
                let mut sink = [0; 1024];
                for _ in 0..16 {
                    if socket.readable().await.is_err() {
                        return;
                    }
                    match socket.try_read(&mut sink) {
                        Ok(0) => return,
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                        _ => {}
                    }
                }
            };
            // Whoever goes on sending is cut off in the middle.
            let _ = tokio::time::timeout(Duration::from_millis(300), read).await;
        });
    }

    /// Shuts down connections whose time is over, for as long as the server runs.
    pub(super) async fn sweep(self: Arc<Self>, timeouts: Timeouts) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.open().retain(|connection| {
                let Some(connection) = connection.upgrade() else { return false };
                if let Some(why) = connection.overdue(now, &timeouts) {
                    tracing::debug!(why, "a connection is given up");
                    connection.shut_down();
                }
                true
            });
        }
    }
}

/// A connection as the HTTP library reads and writes it.
pub(super) struct Io {
    socket: Arc<TcpStream>,
    connection: Arc<Connection>,
    _permit: Option<Permit>,
}

impl Io {
    /// What the guard is to know of it.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The other end.
    pub(super) fn peer_addr(&self) -> Option<std::net::SocketAddr> {
        self.socket.peer_addr().ok()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    if read > 0 {
                        self.connection.heard();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.connection.state().stalled.get_or_insert_with(|| (Instant::now(), 0));
                    return Poll::Pending;
                }
            }
            match self.socket.try_write(bytes) {
                Ok(written) => {
                    if let Some((_, taken)) = &mut self.connection.state().stalled {
                        *taken += written;
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Called when everything is written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.state().stalled = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}

/// The body of an answer; tells the connection when it has ended.
pub(super) struct Answer {
    body: BoxBody,
    connection: Option<Arc<Connection>>,
}

impl Answer {
    /// A body on a connection, if there is one (a test may have none).
    pub(super) fn new(body: BoxBody, connection: Option<Arc<Connection>>) -> Self {
        Self { body, connection }
    }
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.answer_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        request: Duration::from_secs(10),
        keep_alive: Duration::from_secs(20),
        write: Duration::from_secs(15),
        hello: Duration::from_secs(10),
        ping: Duration::from_secs(15),
        silence: Duration::from_secs(45),
        shutdown: Duration::from_secs(5),
    };

    async fn connection() -> (Connection, Arc<TcpStream>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        drop(client);
        let socket = Arc::new(accepted.unwrap().0);
        (Connection::new(&socket), socket)
    }

    fn overdue_after(connection: &Connection, seconds: u64) -> bool {
        let now = Instant::now() + Duration::from_secs(seconds);
        connection.overdue(now, &TIMEOUTS).is_some()
    }

    #[actix_web::test]
    async fn each_phase_of_a_connection_has_its_time() {
        let (connection, _socket) = connection().await;
        assert!(!overdue_after(&connection, 9) && overdue_after(&connection, 11), "first head");
        connection.request_began();
        assert!(!overdue_after(&connection, 1000), "handlers time themselves");
        connection.answer_ended();
        assert!(!overdue_after(&connection, 19) && overdue_after(&connection, 21), "idle");
        connection.heard();
        assert!(overdue_after(&connection, 11), "second head");
        connection.request_began();
        connection.heard();
        connection.answer_ended();
        assert!(overdue_after(&connection, 11), "a head may have begun during the answer");
        connection.request_began();
        connection.close_after_answer();
        connection.answer_ended();
        connection.heard();
        assert!(overdue_after(&connection, 3), "the last answer is out");
    }

    #[actix_web::test]
    async fn a_reader_is_waited_for_while_it_reads() {
        let (connection, _socket) = connection().await;
        connection.became_websocket();
        assert!(!overdue_after(&connection, 1000));
        connection.state().stalled = Some((Instant::now(), 0));
        assert!(!overdue_after(&connection, 14) && overdue_after(&connection, 16));
        connection.state().stalled = Some((Instant::now(), 80 * 8192));
        assert!(!overdue_after(&connection, 94) && overdue_after(&connection, 96));
    }
}
