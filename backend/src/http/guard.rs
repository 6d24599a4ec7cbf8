//! What every request passes on its way in and out.

use std::{sync::Arc, time::Instant};

use actix_web::{
    Error, HttpMessage, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web,
};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    Connection, Site,
    connections::Answer,
    cors,
    error::ApiError,
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
    let place = site.gate.slash_after_prefix(request.uri());
    leave_prefix(&site, &mut request);
    let admitted = admit(&site, &request);
    let mut response = match admitted {
        Ok(host) => {
            if let Some(host) = host {
                request.extensions_mut().insert(host);
            }
            match place {
                Some(place) => {
                    let mut response = HttpResponse::PermanentRedirect();
                    response.insert_header((header::LOCATION, place));
                    request.into_response(response.finish())
                }
                None => next.call(request).await?.map_into_boxed_body(),
            }
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
