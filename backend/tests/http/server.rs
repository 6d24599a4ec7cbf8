//! A server of a test, and a WebSocket client of it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};
use var_dd::{
    config::{Config, ServeArgs},
    generator::fake::{self, FakeGenerator, Gate},
    http::{self, Page},
    jobs::Jobs,
    scheduler::Scheduler,
    storage::Store,
};
use var_dd_protocol::{
    ClientMessage, ErrorBody, Frame, GenerateRequest, JobEvent, JobId, JobView, ModelInfo,
    OwnerToken, ServerMessage,
};

/// A class whose name means harm.
pub(crate) const HOSTILE_CLASS: u32 = 1;
/// Its name.
pub(crate) const HOSTILE_NAME: &str = "\"><script>alert(1)</script>";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ServeArgs,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) scheduler: Arc<dyn Jobs>,
    /// Holds the device back; open unless the test was started with it closed.
    pub(crate) gate: Gate,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
    pub(crate) directory: TempDir,
}

impl Server {
    /// A server with these flags, on a free port, whose device draws at once.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let server = Self::held(flags).await;
        server.gate.open();
        server
    }

    /// A server whose device waits at the gate before every pass.
    pub(crate) async fn held(flags: &[&str]) -> Self {
        Self::adjusted(flags, |_, _| {}).await
    }

    /// A server of which more than flags can say is different.
    pub(crate) async fn adjusted(
        flags: &[&str],
        adjust: impl FnOnce(&mut Config, &mut ModelInfo),
    ) -> Self {
        // The program has its TLS library chosen where it needs one; these clients do here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().unwrap();
        let page = directory.path().join("page");
        write_page(&page);
        let arguments = [&["serve", "--listen=127.0.0.1:0"], flags].concat();
        let mut config = Line::parse_from(arguments).args.resolve(|| "none".into()).unwrap();
        config.data_dir = directory.path().join("data");
        config.http.page = Page::Directory(page);
        let mut model = fake::model("stand-in");
        model.classes[HOSTILE_CLASS as usize] = HOSTILE_NAME.into();
        adjust(&mut config, &mut model);

        let gate = Gate::closed();
        let generator = FakeGenerator::new(model).with_gate(&gate);
        let store = Store::open(&config.data_dir).await.unwrap();
        let scheduler: Arc<dyn Jobs> = Arc::new(
            Scheduler::start(config.scheduler, store, vec![Box::new(generator)]).await.unwrap(),
        );
        let listener = TcpListener::bind(config.listen).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = http::serve(config.http, listener, scheduler.clone(), async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        Self { address, scheduler, gate, stop: Some(stop), task, directory }
    }

    /// Tells the server to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.gate.open();
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap().unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, body: &Value) -> Response {
        self.request(Method::POST, "/api/jobs").json(body).send().await.unwrap()
    }

    /// A job that has ended.
    pub(crate) async fn finished(&self, request: Value) -> (JobView, OwnerToken) {
        let (job, token) = self.submitted(request).await;
        let mut viewer = self.scheduler.watch(&job, None).await.unwrap();
        while viewer.next().await.is_some() {}
        (self.get(&format!("/api/results/{job}")).await.json().await.unwrap(), token)
    }

    /// A job that is accepted.
    pub(crate) async fn submitted(&self, request: Value) -> (JobId, OwnerToken) {
        let response = self.post(&request).await;
        assert_eq!(response.status(), 202);
        let body: Value = response.json().await.unwrap();
        let job = body["job"].as_str().unwrap().parse().unwrap();
        (job, OwnerToken(body["owner_token"].as_str().unwrap().into()))
    }
}

/// Status and body of a refusal.
pub(crate) async fn refusal(response: Response) -> (u16, ErrorBody) {
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let body: ErrorBody = response.json().await.unwrap();
    assert_eq!(body.retry_after_s, retry_after, "body and header differ");
    (status, body)
}

/// What draws class 0 in one step, as JSON.
pub(crate) fn wish() -> Value {
    serde_json::to_value(request(0)).unwrap()
}

pub(crate) fn request(class: u32) -> GenerateRequest {
    GenerateRequest {
        model: None,
        class,
        plan: fake::few_step(&[0]),
        seed: Some(7),
        count: 1,
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    }
}

/// The same with other fields.
pub(crate) fn wish_with(fields: Value) -> Value {
    let mut wish = wish();
    let fields = fields.as_object().unwrap().clone();
    wish.as_object_mut().unwrap().extend(fields);
    wish
}

fn write_page(page: &std::path::Path) {
    std::fs::create_dir_all(page.join("assets")).unwrap();
    let index = "<!doctype html><html><head>\n<title>page</title>\n<!-- open-graph -->\n\
                 <script src=\"./assets/app-1a2b.js\"></script></head>\n\
                 <body><noscript><!-- without-scripts --></noscript></body></html>\n";
    for (name, text) in [
        ("index.html", index),
        ("assets/app-1a2b.js", "plain script"),
        ("assets/app-1a2b.js.br", "brotli script"),
        ("assets/app-1a2b.js.gz", "gzip script"),
        ("icon.svg", "<svg/>"),
    ] {
        std::fs::write(page.join(name), text).unwrap();
    }
}

/// What came over a WebSocket.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(ServerMessage),
    /// Job, number, encoded picture.
    Frame(JobId, u64, Vec<u8>),
    Closed(Option<CloseCode>),
}

/// A WebSocket client.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects without a word.
    pub(crate) async fn silent(server: &Server) -> Self {
        Self::of_origin(server, None).await.unwrap()
    }

    /// Connects as a page of an origin would.
    pub(crate) async fn of_origin(
        server: &Server,
        origin: Option<&str>,
    ) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{}/api/ws", server.address).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        Ok(Self(connect_async(request).await?.0))
    }

    /// Connects as a proxy would for a client.
    pub(crate) async fn forwarded_for(
        server: &Server,
        client: &str,
    ) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{}/api/ws", server.address).into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        Ok(Self(connect_async(request).await?.0))
    }

    /// Sends pings and reads no answer, until the server hangs up.
    pub(crate) async fn ping_without_reading(mut self, limit: std::time::Duration) {
        let pinging =
            async { while self.0.send(Message::Ping(vec![0x41; 125].into())).await.is_ok() {} };
        tokio::time::timeout(limit, pinging).await.expect("the connection stays open");
    }

    /// Connects and says hello.
    pub(crate) async fn greeted(server: &Server) -> Self {
        let mut client = Self::silent(server).await;
        client.greet().await;
        client
    }

    /// Says hello.
    pub(crate) async fn greet(&mut self) {
        let client = self;
        let version = var_dd_protocol::PROTOCOL_VERSION;
        client.say(&ClientMessage::Hello { version, client_key: None }).await;
        let heard = client.hear().await;
        assert!(matches!(heard, Heard::Message(ServerMessage::Hello { .. })), "{heard:?}");
    }

    pub(crate) async fn say(&mut self, message: &ClientMessage) {
        self.send(Message::text(serde_json::to_string(message).unwrap())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        // A server that has had enough may be gone already; what it said before is still to be
        // read.
        let _ = self.0.send(message).await;
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Message(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let frame = Frame::decode(&bytes).unwrap();
                    return Heard::Frame(frame.job, frame.seq, frame.picture.to_vec());
                }
                Some(Ok(Message::Close(close))) => {
                    return Heard::Closed(close.map(|close| close.code));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// The error that comes next.
    pub(crate) async fn error(&mut self) -> ErrorBody {
        match self.hear().await {
            Heard::Message(
                ServerMessage::Error { error, .. } | ServerMessage::Rejected { error, .. },
            ) => error,
            other => panic!("heard {other:?}"),
        }
    }

    /// Asks for a job and returns it when it is accepted.
    pub(crate) async fn generate(&mut self, request: GenerateRequest) -> (JobId, OwnerToken) {
        self.say(&ClientMessage::Generate { tag: 5, request }).await;
        match self.hear().await {
            Heard::Message(ServerMessage::Accepted { tag: 5, job, owner_token, .. }) => {
                (job, owner_token)
            }
            other => panic!("heard {other:?}"),
        }
    }

    /// Everything of a job until it ends: numbers, and pictures where there are.
    pub(crate) async fn rest(&mut self, job: &JobId) -> Vec<(u64, What)> {
        let mut rest = Vec::new();
        loop {
            match self.hear().await {
                Heard::Message(ServerMessage::Event { job: of, seq, event }) if of == *job => {
                    let ended = event.state().is_some_and(|state| state.is_final());
                    rest.push((seq, What::Event(event)));
                    if ended {
                        return rest;
                    }
                }
                Heard::Frame(of, seq, picture) if of == *job => {
                    rest.push((seq, What::Picture(picture)))
                }
                other => panic!("heard {other:?}"),
            }
        }
    }
}

/// An event or a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Event(JobEvent),
    Picture(Vec<u8>),
}

/// A wish for nothing that exists.
pub(crate) fn nonsense() -> Value {
    json!({"draw": "something nice"})
}
