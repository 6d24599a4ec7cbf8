//! The server as the network sees it: one table of routes, one guard before it, one table of errors
//! behind it.

use std::{
    any::Any,
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, HttpServer, Route,
    body::MessageBody,
    dev::{Extensions, ServiceFactory, ServiceRequest, ServiceResponse},
    http::Method,
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::sync::watch;
use url::Url;
use var_dd_protocol::ErrorCode;

use crate::scheduler::Scheduler;

mod body;
mod card;
pub mod error;
mod events;
mod guard;
mod health;
mod jobs;
pub mod limits;
mod metrics;
mod open_graph;
pub mod openapi;
mod pages;
mod png_text;
mod results;
pub mod security;
pub mod session;

use error::ApiError;
use limits::{Limits, Permit};
use metrics::Metrics;
pub use pages::Page;
use security::{Gate, Refused};
use session::SessionLimits;

/// What one client, and all together, may ask for. A rate of 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    /// Jobs per minute and client.
    pub jobs_per_minute: u32,
    /// HTTP requests per second and client.
    pub requests_per_second: u32,
    /// Connections, and WebSockets among them, in all.
    pub connections: u32,
    /// Connections, and WebSockets among them, per client.
    pub connections_per_client: u32,
}

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, and for its body.
    pub request: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Until a WebSocket says hello.
    pub hello: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// Of a WebSocket without any sign of life.
    pub silence: Duration,
    /// For requests that run when the server is told to stop.
    pub shutdown: Duration,
}

/// The server's side of HTTP, resolved.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address of the server as people see it, where it differs from where it listens.
    pub public_url: Option<Url>,
    /// Other origins whose pages may use it.
    pub allow_origins: Vec<Url>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits per client and in all.
    pub limits: LimitsConfig,
    /// Limits of one WebSocket.
    pub session: SessionLimits,
    /// Timeouts.
    pub patience: Patience,
    /// Largest body of a request and largest WebSocket message, in bytes.
    pub message_bytes: usize,
    /// Bytes of pictures on the way to a WebSocket that its client has not confirmed.
    pub unconfirmed_bytes: usize,
    /// Directory that must be writable for the server to be ready.
    pub data_dir: PathBuf,
    /// The page.
    pub page: Page,
}

/// Everything that handlers share.
pub struct Site {
    config: HttpConfig,
    scheduler: Scheduler,
    gate: Gate,
    limits: Limits,
    metrics: Metrics,
    /// Hosts and origins that were refused, each told of once.
    refused: Refused,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

impl Site {
    /// The site of a server that listens on `listen`; it stops when `stopping` becomes true.
    pub fn new(
        config: HttpConfig,
        scheduler: Scheduler,
        listen: IpAddr,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            gate: Gate::new(listen, config.public_url.as_ref(), &config.allow_origins),
            limits: Limits::new(&config.limits),
            metrics: Metrics::new(&scheduler),
            refused: Refused::default(),
            config,
            scheduler,
            stopping,
        }
    }

    /// The address of the client behind a request.
    fn client(&self, request: &HttpRequest) -> IpAddr {
        // Without a socket (in a test) everybody is one client.
        let peer = request.peer_addr().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip());
        security::client_address(peer, request.headers(), &self.config.trusted_proxies)
    }
}

/// Handlers of one path by method. `GET` answers `HEAD` too.
pub struct Endpoint {
    /// The path, with names of its parts in braces.
    pub path: &'static str,
    /// The handlers.
    pub methods: Vec<(Method, Route)>,
}

/// The table of routes.
pub fn endpoints() -> Vec<Endpoint> {
    let at = |path, methods: Vec<(Method, Route)>| Endpoint { path, methods };
    vec![
        at("/api/info", vec![(Method::GET, web::to(jobs::info))]),
        at("/api/ws", vec![(Method::GET, web::to(events::connect))]),
        at("/api/jobs", vec![(Method::POST, web::to(jobs::submit))]),
        at("/api/results", vec![(Method::GET, web::to(results::recent))]),
        at(
            "/api/results/{id}",
            vec![(Method::GET, web::to(results::view)), (Method::DELETE, web::to(results::delete))],
        ),
        at("/api/results/{id}/cancel", vec![(Method::POST, web::to(jobs::cancel))]),
        at("/api/results/{id}/frames/{seq}", vec![(Method::GET, web::to(results::frame))]),
        at(
            "/api/results/{id}/pictures/{picture}.png",
            vec![(Method::GET, web::to(results::picture))],
        ),
        at("/api/openapi.json", vec![(Method::GET, web::to(openapi::document))]),
        at("/livez", vec![(Method::GET, web::to(health::live))]),
        at("/readyz", vec![(Method::GET, web::to(health::ready))]),
        at("/metrics", vec![(Method::GET, web::to(health::metrics))]),
        at("/r/{id}", vec![(Method::GET, web::to(pages::result))]),
        at("/r/{id}/card.jpg", vec![(Method::GET, web::to(card::of_result))]),
        at("/c/{address}/card.jpg", vec![(Method::GET, web::to(card::of_comparison))]),
        at("/c/{address}", vec![(Method::GET, web::to(pages::comparison))]),
        at("/card.jpg", vec![(Method::GET, web::to(card::of_playground))]),
    ]
}

fn configure(service: &mut web::ServiceConfig) {
    for Endpoint { path, methods } in endpoints() {
        let mut allowed = Vec::new();
        // An address of a comparison has several parts.
        let mut resource = web::resource(path.replace("{address}", "{address:.+}"));
        for (method, route) in methods {
            allowed.push(method.to_string());
            if method == Method::GET {
                allowed.push(Method::HEAD.to_string());
                let get_or_head =
                    actix_web::guard::Any(actix_web::guard::Get()).or(actix_web::guard::Head());
                resource = resource.route(route.guard(get_or_head));
            } else {
                resource = resource.route(route.method(method));
            }
        }
        let allowed = allowed.join(", ");
        let refuse = move |request: HttpRequest| {
            let error =
                ApiError::method_not_allowed(request.method().as_str(), request.path(), &allowed);
            async move { Err::<HttpResponse, _>(error) }
        };
        service.service(resource.default_service(web::to(refuse)));
    }
    service
        .app_data(web::PathConfig::default().error_handler(|error, request| {
            let message = format!("{}: {error}", error::shortened(request.path()));
            ApiError::new(ErrorCode::NotFound, message).into()
        }))
        .app_data(web::QueryConfig::default().error_handler(|error, request| {
            let message = format!("{}: {error}", error::shortened(request.query_string()));
            ApiError::new(ErrorCode::MalformedBody, message).into()
        }))
        .default_service(web::to(pages::page));
}

/// The application, for the server and for tests alike.
pub fn create_app(
    site: web::Data<Site>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new().app_data(site).configure(configure).wrap(from_fn(guard::guard))
}

/// A TCP connection among those that are counted; `None` when it is one too many.
struct Connection(Mutex<Option<Permit>>);

impl Connection {
    fn is_admitted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Switches off Nagle's algorithm (RFC 896) for every connection that `listener` accepts, which
/// inherit the option: a small event must not wait for the client to acknowledge the one before it.
fn send_at_once(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)
}

/// Serves on `listener` until `shutdown` resolves, then lets running requests end and stops the
/// scheduler.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    config: HttpConfig,
    listener: TcpListener,
    scheduler: Scheduler,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listen: SocketAddr = listener.local_addr()?;
    send_at_once(&listener)?;
    let (stop, stopping) = watch::channel(false);
    let patience = config.patience;
    let connections = config.limits.connections;
    let site =
        web::Data::from(Arc::new(Site::new(config, scheduler.clone(), listen.ip(), stopping)));

    let counted = web::Data::clone(&site);
    let on_connect = move |io: &dyn Any, extensions: &mut Extensions| {
        let Some(peer) = io.downcast_ref::<TcpStream>().and_then(|socket| socket.peer_addr().ok())
        else {
            return;
        };
        // All clients share the connections of a trusted proxy; it counts them itself.
        let peer = peer.ip().to_canonical();
        if !counted.config.trusted_proxies.iter().any(|net| net.contains(&peer)) {
            let permit = counted.limits.connection(peer).ok();
            extensions.insert(Connection(Mutex::new(permit)));
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let server = HttpServer::new(move || create_app(web::Data::clone(&site)))
        .workers(workers)
        // Somewhat above the counted limit, so that those beyond it are told so before they are cut
        // off.
        .max_connections((connections as usize).div_ceil(workers) + 64)
        .client_request_timeout(patience.request)
        .client_disconnect_timeout(Duration::from_secs(2))
        .keep_alive(patience.keep_alive)
        .shutdown_timeout(patience.shutdown.as_secs())
        .on_connect(on_connect)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();

    tokio::pin!(server);
    tokio::select! {
        served = &mut server => return served,
        () = shutdown => {}
    }
    let stop_all = async {
        tracing::info!(
            "stopping: no new jobs, running batch ends at its pass, waiting jobs stay on disk"
        );
        scheduler.shutdown().await;
        // Viewers have heard the scheduler's last word; now their connections close.
        stop.send_replace(true);
        handle.stop(true).await;
    };
    let (served, ()) = tokio::join!(server, stop_all);
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_events_do_not_wait_for_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        send_at_once(&listener).expect("an option of every TCP socket");
        let address = listener.local_addr().expect("it is bound");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("somebody connected");
        assert!(accepted.nodelay().expect("the option can be read"));
    }
}
