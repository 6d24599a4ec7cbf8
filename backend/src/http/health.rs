//! For those who run the server: is it alive, is it ready, what does it do.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    Site,
    body::{Caching, answer, json},
    error::ApiError,
};
use crate::jobs::Jobs;

/// The text format of OpenMetrics.
pub(super) const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// How long a look at the disk holds, so that asking often does not wear it out.
const LOOK_HOLDS: Duration = Duration::from_millis(250);

/// Looks whether something can be kept, one at a time.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<(Instant, Result<(), ErrorBody>)>>);

impl Probe {
    /// Writes a block and waits until it is on the disk.
    ///
    /// # Errors
    /// Why nothing can be kept.
    async fn check(&self, jobs: &dyn Jobs) -> Result<(), ErrorBody> {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < LOOK_HOLDS
        {
            return found.clone();
        }
        let found = jobs.can_keep().await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

/// Jobs are taken, and what is written to the data directory reaches the disk.
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
    site.readiness.check(site.scheduler.as_ref()).await?;
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
        .text(site.connections.count())
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the metrics cannot be written"))?;
    Ok(answer(&request, METRICS_TYPE, Caching::Never, text))
}
