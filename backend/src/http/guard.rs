//! What every request passes on its way in and out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix_web::{
    Error, HttpMessage, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web,
};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    Connection, Site,
    connections::Answer,
    cors,
    error::{ApiError, shortened},
    security::{self, Authority},
};

/// Checks host, origin and limits on the way in; adds headers, counts and logs on the way out.
pub(super) async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Answer>, Error> {
    let began = Instant::now();
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    if let Some(connection) = &connection {
        connection.request_began();
    }
    let method = request.method().clone();
    let site = web::Data::clone(request.app_data::<web::Data<Site>>().ok_or_else(|| {
        ApiError::new(ErrorCode::Internal, "the application was made without its site")
    })?);
    let mut request = request;
    leave_prefix(&site, &mut request);
    let admitted = admit(&site, &request);
    let mut response = match admitted {
        Ok(host) => {
            if let Some(host) = host {
                request.extensions_mut().insert(host);
            }
            next.call(request).await?.map_into_boxed_body()
        }
        Err(error) => {
            let response = ApiError::from(error).error_response();
            request.into_response(response)
        }
    };

    let status = response.status();
    let route = response.request().match_pattern().unwrap_or_else(|| "page".to_owned());
    let elapsed = began.elapsed();
    site.metrics.request(&method, &route, status, elapsed);
    let path = response.request().path();
    let elapsed_ms = elapsed.as_secs_f64() * 1000.0;
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), elapsed_ms, "request failed");
    } else if matches!(method, Method::GET | Method::HEAD) {
        tracing::debug!(%method, path, status = status.as_u16(), elapsed_ms, "request");
    } else {
        tracing::info!(%method, path, status = status.as_u16(), elapsed_ms, "request");
    }
    if path == "/api/ws" && status == StatusCode::BAD_REQUEST {
        let headers = response.request().headers();
        if !headers.contains_key(header::UPGRADE) {
            site.upgrade_warning.tell(headers);
        }
    }

    // A page with a policy of its own says there who may frame it.
    let own_policy = response.headers().contains_key(header::CONTENT_SECURITY_POLICY);
    let of_framing = [header::CONTENT_SECURITY_POLICY, header::X_FRAME_OPTIONS];
    for (name, value) in security::HEADERS {
        if own_policy && of_framing.contains(&name) {
            continue;
        }
        response.headers_mut().insert(name, value);
    }
    // Browsers heed it on secure origins only, and complain of it elsewhere.
    let is_secure = response
        .request()
        .extensions()
        .get::<Authority>()
        .is_some_and(|host| site.gate.is_secure(host));
    if is_secure {
        let same_origin = header::HeaderValue::from_static("same-origin");
        response.headers_mut().insert(header::CROSS_ORIGIN_OPENER_POLICY, same_origin);
    }
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    }
    cors::add_headers(&site.gate, &mut response);
    // What is left of such a request is not wanted, so nothing can follow it.
    if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        if let Some(connection) = &connection {
            connection.close_after_answer();
        }
    }
    Ok(response.map_body(|_, body| Answer::new(body, connection)))
}

/// Takes the path of the public address off a request that has it: some proxies pass it on, others
/// do not.
fn leave_prefix(site: &Site, request: &mut ServiceRequest) {
    let Some(rest) = site.gate.without_prefix(request.uri()) else { return };
    request.head_mut().uri = rest.clone();
    request.match_info_mut().get_mut().update(&rest);
}

/// The host that was asked, unless it does not matter.
fn admit(site: &Site, request: &ServiceRequest) -> Result<Option<Authority>, ErrorBody> {
    let headers = request.headers();
    let refused = |error: &ErrorBody| site.refused.tell(headers, &error.message);
    // Whoever asks whether the server is well may not know what it is called.
    let host = if matches!(request.path(), "/livez" | "/readyz") {
        site.gate.host(headers).ok()
    } else {
        Some(site.gate.host(headers).inspect_err(refused)?)
    };
    if security::needs_origin(request.method(), headers)
        && let Some(host) = &host
    {
        site.gate.origin(headers, host).inspect_err(refused)?;
    }
    site.limits.request(site.client(request.request()))?;
    Ok(host)
}

/// Warns, once, of a WebSocket that did not open because a proxy left its header out.
#[derive(Debug, Default)]
pub(super) struct UpgradeWarning(AtomicBool);

impl UpgradeWarning {
    fn tell(&self, headers: &HeaderMap) {
        if self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let shown = |name| match headers.get(name) {
            Some(value) => shortened(&String::from_utf8_lossy(HeaderValue::as_bytes(value))),
            None => "(none)".to_owned(),
        };
        tracing::warn!(
            host = ?shown(header::HOST),
            origin = ?shown(header::ORIGIN),
            "a request for the WebSocket came without the header Upgrade; if a proxy stands before \
             this server, let it pass Upgrade and Connection on. This is said once"
        );
    }
}
