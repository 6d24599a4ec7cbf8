//! The server as the network sees it: one table of routes, one guard before it, one table of errors
//! behind it.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix_http::{HttpService, Protocol};
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App, Error, HttpRequest, Route,
    body::MessageBody,
    dev::{AppConfig, Extensions, Server, ServiceFactory, ServiceRequest, ServiceResponse},
    http::Method,
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::sync::{Semaphore, watch};
use url::Url;
use var_dd_protocol::ErrorCode;

use crate::jobs::Jobs;

mod body;
mod caption;
mod card;
mod connections;
mod cors;
mod embed;
mod enlarged;
pub mod error;
mod events;
mod explore;
mod export;
mod guard;
mod health;
mod jobs;
pub mod limits;
mod link;
mod metrics;
mod open_graph;
pub mod openapi;
mod pages;
mod results;
pub mod security;
pub mod session;
mod shares;
mod thumbnails;
mod upload;
mod vitals;
mod walk;
mod websocket;

use connections::{Connection, Connections, Io};
use error::ApiError;
use limits::Limits;
use metrics::Metrics;
pub use pages::Page;
use security::{Gate, Refused, Unheard};
use session::SessionLimits;
use thumbnails::Thumbnails;
pub use vitals::{Ready, serve_vitals};
use websocket::FailedHandshakes;

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
pub struct Timeouts {
    /// For the head of a request, for its body, and for a WebSocket message that has begun.
    pub request: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// For taking what was sent, beyond what a slow but steady reader needs.
    pub write: Duration,
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
    /// Proxies whose `X-Forwarded-For` or `Forwarded` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits per client and in all.
    pub limits: LimitsConfig,
    /// Limits of one WebSocket.
    pub session: SessionLimits,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Largest body of a request and largest WebSocket message, in bytes.
    pub message_bytes: usize,
    /// Largest WebSocket message before both sides have said hello, in bytes.
    pub hello_bytes: usize,
    /// Bytes of pictures on the way to a WebSocket that its client has not confirmed.
    pub unconfirmed_bytes: usize,
    /// For what runs when the server is told to stop.
    pub drain: Duration,
    /// The page.
    pub page: Page,
}

/// Everything that handlers share.
pub struct Site {
    config: HttpConfig,
    scheduler: Arc<dyn Jobs>,
    gate: Gate,
    limits: Limits,
    connections: Arc<Connections>,
    /// WebSockets that did not open, each reason told of once.
    failed_handshakes: FailedHandshakes,
    /// Number of the next WebSocket conversation, from 1.
    conversations: AtomicU64,
    exports: export::Exports,
    readiness: health::Probe,
    thumbnails: Thumbnails,
    /// Turns of walks.
    walks: Semaphore,
    metrics: Metrics,
    /// Hosts and origins that were refused, each told of once.
    refused: Refused,
    /// Proxies whose clients count as one.
    unheard: Unheard,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

impl Site {
    /// The site of a server that listens on `listen`; it stops when `stopping` becomes true.
    pub fn new(
        config: HttpConfig,
        scheduler: Arc<dyn Jobs>,
        listen: IpAddr,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            gate: Gate::new(listen, config.public_url.as_ref(), &config.allow_origins),
            limits: Limits::new(&config.limits),
            connections: Connections::new(&config.limits, &config.trusted_proxies),
            failed_handshakes: FailedHandshakes::default(),
            conversations: AtomicU64::new(1),
            exports: export::Exports::new(),
            readiness: health::Probe::default(),
            thumbnails: Thumbnails::default(),
            walks: Semaphore::new(walk::AT_ONCE),
            metrics: Metrics::new(scheduler.as_ref()),
            refused: Refused::default(),
            unheard: Unheard::default(),
            config,
            scheduler,
            stopping,
        }
    }

    /// The address of the client behind a request.
    fn client(&self, request: &HttpRequest) -> IpAddr {
        // Without a socket (in a test) everybody is one client.
        let peer = request.peer_addr().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip());
        let trusted = &self.config.trusted_proxies;
        self.unheard.look(peer, request.headers(), trusted);
        security::client_address(peer, request.headers(), trusted)
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
        at("/api/preview", vec![(Method::POST, web::to(explore::preview))]),
        at("/api/loop", vec![(Method::POST, web::to(walk::walk))]),
        at("/api/encode", vec![(Method::POST, web::to(explore::encode))]),
        at("/api/verify", vec![(Method::POST, web::to(explore::verify))]),
        at("/api/classes/{class}/thumbnail", vec![(Method::GET, web::to(thumbnails::thumbnail))]),
        at("/api/results/{id}/tokens", vec![(Method::GET, web::to(explore::tokens))]),
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
        at("/api/results/{id}/export", vec![(Method::GET, web::to(export::export))]),
        at("/api/results/{id}/qr.svg", vec![(Method::GET, web::to(embed::qr))]),
        at("/api/oembed", vec![(Method::GET, web::to(embed::oembed))]),
        at("/embed/{id}", vec![(Method::GET, web::to(embed::player))]),
        at("/api/openapi.json", vec![(Method::GET, web::to(openapi::document))]),
        at("/livez", vec![(Method::GET, web::to(health::live))]),
        at("/readyz", vec![(Method::GET, web::to(health::ready))]),
        at("/metrics", vec![(Method::GET, web::to(health::metrics))]),
        at("/r/{id}", vec![(Method::GET, web::to(pages::result))]),
        at("/r/{id}/card.jpg", vec![(Method::GET, web::to(card::of_result))]),
        at("/c/{address}/card.jpg", vec![(Method::GET, web::to(card::of_comparison))]),
        at("/c/{address}", vec![(Method::GET, web::to(pages::comparison))]),
        at("/grid", vec![(Method::GET, web::to(pages::grid))]),
        at("/grid/card.jpg", vec![(Method::GET, web::to(card::of_grid))]),
        at("/explore/card.jpg", vec![(Method::GET, web::to(card::of_walk))]),
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
        let of_api = path.starts_with("/api/");
        let refuse = move |request: HttpRequest, site: web::Data<Site>| {
            let answer = if of_api && request.method() == Method::OPTIONS {
                cors::preflight(&site, &request, &allowed)
            } else {
                let method = request.method().as_str();
                Err(ApiError::method_not_allowed(method, request.path(), &allowed))
            };
            async move { answer }
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
    scheduler: Arc<dyn Jobs>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listen: SocketAddr = listener.local_addr()?;
    send_at_once(&listener)?;
    let (stop, stopping) = watch::channel(false);
    let (timeouts, drain) = (config.timeouts, config.drain);
    let site =
        web::Data::from(Arc::new(Site::new(config, scheduler.clone(), listen.ip(), stopping)));
    let sweep = tokio::spawn(site.connections.clone().sweep(timeouts));
    let server = run(&site, listener)?;
    let handle = server.handle();

    tokio::pin!(server);
    tokio::select! {
        served = &mut server => return served,
        () = shutdown => {}
    }
    let stop_all = async {
        tracing::info!(
            drain_s = drain.as_secs(),
            "stopping: no new jobs, what runs may end, waiting jobs stay on disk"
        );
        scheduler.drain(drain).await;
        scheduler.shutdown().await;
        // Viewers have heard the scheduler's last word; now their connections close.
        stop.send_replace(true);
        handle.stop(true).await;
    };
    let (served, ()) = tokio::join!(server, stop_all);
    sweep.abort();
    served
}

/// The workers of a server, each of which takes connections of `listener`.
fn run(site: &web::Data<Site>, listener: TcpListener) -> io::Result<Server> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let timeouts = site.config.timeouts;
    let site = web::Data::clone(site);
    let service = move || {
        let connections = site.connections.clone();
        let http = HttpService::build()
            .client_request_timeout(timeouts.request)
            .client_disconnect_timeout(Duration::from_secs(2))
            .keep_alive(timeouts.keep_alive)
            .on_connect_ext(|io: &Io, extensions: &mut Extensions| {
                extensions.insert(io.connection().clone());
            })
            .finish(map_config(create_app(web::Data::clone(&site)), |()| AppConfig::default()));
        fn_service(move |socket: TcpStream| {
            let io = connections.admit(socket).ok_or(());
            async move {
                io.map(|io| (io.peer_addr(), io)).map(|(peer, io)| (io, Protocol::Http1, peer))
            }
        })
        .and_then(http.map_err(|error| tracing::debug!(%error, "a connection ended")))
    };
    Ok(actix_server::Server::build()
        .workers(workers)
        // Those beyond the limit are taken too, told so and closed; they must not wait in line
        // before those that may come in.
        .max_concurrent_connections(usize::MAX >> 1)
        .shutdown_timeout(timeouts.shutdown.as_secs())
        .disable_signals()
        .listen("http", listener, service)?
        .run())
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
