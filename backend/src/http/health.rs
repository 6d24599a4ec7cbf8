//! For those who run the server: is it alive, is it ready, what does it do.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    Site,
    body::{Caching, answer, json},
    error::ApiError,
};

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "server",
    responses((status = 200, description = "Alive", body = String, content_type = "text/plain")))]
pub(super) async fn live(request: HttpRequest) -> HttpResponse {
    answer(&request, "text/plain; charset=utf-8", Caching::Never, "alive\n")
}

/// A server that takes jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Always true; a server that is not ready answers with an error.
    ready: bool,
    /// Jobs waiting.
    queued: usize,
    /// Most jobs waiting.
    queue_limit: usize,
    /// Jobs on the device or being kept.
    running: usize,
}

/// Jobs are taken, the device works, the data directory can be written.
#[utoipa::path(get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready, and why", body = ErrorBody),
    ))]
pub(super) async fn ready(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let stats = site.scheduler.stats();
    if !stats.accepting {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "no jobs are taken any more"));
    }
    let data_dir = site.config.data_dir.clone();
    let probe = web::block(move || tempfile::NamedTempFile::new_in(&data_dir).map(drop)).await;
    if let Ok(Err(error)) = probe {
        let message = format!("the data directory cannot be written: {}", error.kind());
        return Err(ApiError::new(ErrorCode::StorageFailed, message));
    }
    let ready = Readiness {
        ready: true,
        queued: stats.queued,
        queue_limit: stats.queue_limit,
        running: stats.running,
    };
    json(&request, Caching::Never, &ready)
}

/// Counters in the text format of OpenMetrics, as Prometheus reads it.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, description = "Metrics", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(
    request: HttpRequest,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let text = site
        .metrics
        .text()
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the metrics cannot be written"))?;
    Ok(answer(&request, METRICS_TYPE, Caching::Never, text))
}
