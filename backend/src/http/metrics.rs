//! Counters for Prometheus. Names begin with `var_dd_` and end with their unit.

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::jobs::Jobs;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

/// All metrics of the server.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    connections: Gauge,
    sockets: Gauge,
    received: Counter,
    sent: Counter,
    sent_bytes: Counter,
}

/// From half a millisecond to half a minute.
fn duration_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Metrics {
    /// The server's own and the scheduler's.
    pub(super) fn new(jobs: &dyn Jobs) -> Self {
        let mut all = Registry::default();
        jobs.register_metrics(&mut all);
        let registry = all.sub_registry_with_prefix("var_dd");
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(duration_buckets),
            connections: Gauge::default(),
            sockets: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            sent_bytes: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time to the head of the response",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "connections",
            "Open connections, those of trusted proxies apart",
            metrics.connections.clone(),
        );
        registry.register("websocket_connections", "Open WebSockets", metrics.sockets.clone());
        registry.register(
            "websocket_messages_received",
            "Messages from WebSocket clients, control frames included",
            metrics.received.clone(),
        );
        registry.register(
            "websocket_messages_sent",
            "Messages to WebSocket clients, control frames included",
            metrics.sent.clone(),
        );
        registry.register_with_unit(
            "websocket_sent",
            "Payload sent to WebSocket clients",
            Unit::Bytes,
            metrics.sent_bytes.clone(),
        );
        Self { registry: all, ..metrics }
    }

    /// Counts one answered request. Labels come from the routes, never from what a client wrote.
    pub(super) fn request(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        elapsed: Duration,
    ) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let labels = RequestLabels { method, route: route.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { route: labels.route };
        self.durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    pub(super) fn socket_opened(&self) {
        self.sockets.inc();
    }

    pub(super) fn socket_closed(&self) {
        self.sockets.dec();
    }

    pub(super) fn message_received(&self) {
        self.received.inc();
    }

    pub(super) fn message_sent(&self, bytes: usize) {
        self.sent.inc();
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// The metrics as text, with so many connections open.
    pub(super) fn text(&self, connections: u32) -> Result<String, std::fmt::Error> {
        self.connections.set(connections.into());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
