//! What a program without a page of its own tells those who run it: alive, ready, counters.

use std::{future::Future, io, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, http::StatusCode, web};
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::health::METRICS_TYPE;

/// For a head of a request, and for the last answers when the program stops.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever watches needs no more.
const CONNECTIONS: usize = 32;

/// Says why a program is not ready, if it is not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

struct Vitals {
    registry: Registry,
    ready: Ready,
}

/// Serves `/livez`, `/readyz` and `/metrics` alone, until `shutdown` resolves.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_vitals(
    listener: TcpListener,
    registry: Registry,
    ready: Ready,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let vitals = web::Data::new(Vitals { registry, ready });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(vitals.clone())
            .route("/livez", web::get().to(async || text(StatusCode::OK, "alive\n")))
            .route("/readyz", web::get().to(readiness))
            .route("/metrics", web::get().to(metrics))
            .default_service(web::to(async || {
                text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics here\n")
            }))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(PATIENCE)
    .shutdown_timeout(PATIENCE.as_secs())
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    tokio::pin!(server);
    tokio::select! {
        served = &mut server => return served,
        () = shutdown => {}
    }
    tokio::join!(handle.stop(true), server).1
}

fn text(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text.into())
}

async fn readiness(vitals: web::Data<Vitals>) -> HttpResponse {
    match (vitals.ready)() {
        Ok(()) => text(StatusCode::OK, "ready\n"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

async fn metrics(vitals: web::Data<Vitals>) -> HttpResponse {
    let mut counters = String::new();
    match encode(&mut counters, &vitals.registry) {
        Ok(()) => HttpResponse::Ok().content_type(METRICS_TYPE).body(counters),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
    }
}
