//! What every request passes on its way in and out.

use std::time::Instant;

use actix_web::{
    Error, HttpMessage, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web,
};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    Connection, Site,
    error::ApiError,
    security::{self, Authority},
};

/// Checks host, origin and limits on the way in; adds headers, counts and logs on the way out.
pub(super) async fn guard<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let began = Instant::now();
    let method = request.method().clone();
    let site = web::Data::clone(request.app_data::<web::Data<Site>>().ok_or_else(|| {
        ApiError::new(ErrorCode::Internal, "the application was made without its site")
    })?);
    let mut request = request;
    leave_prefix(&site, &mut request);
    let admitted = admit(&site, &request);
    // A connection too many is told so and ends.
    let refused_connection =
        matches!(&admitted, Err(error) if error.code == ErrorCode::TooManyConnections);
    let mut response = match admitted {
        Ok(host) => {
            request.extensions_mut().insert(host);
            next.call(request).await?.map_into_left_body()
        }
        Err(error) => {
            let response = ApiError::from(error).error_response();
            request.into_response(response).map_into_right_body()
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

    if refused_connection {
        response
            .response_mut()
            .head_mut()
            .set_connection_type(actix_web::http::ConnectionType::Close);
    }
    for (name, value) in security::HEADERS {
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
        let no_store = header::HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    }
    Ok(response)
}

/// Takes the path of the public address off a request that has it: some proxies pass it on, others
/// do not.
fn leave_prefix(site: &Site, request: &mut ServiceRequest) {
    let Some(rest) = site.gate.without_prefix(request.uri()) else { return };
    request.head_mut().uri = rest.clone();
    request.match_info_mut().get_mut().update(&rest);
}

fn admit(site: &Site, request: &ServiceRequest) -> Result<Authority, ErrorBody> {
    if request.conn_data::<Connection>().is_some_and(|connection| !connection.is_admitted()) {
        let limits = site.config.limits;
        let message = format!(
            "too many connections: {} are allowed in all and {} from one address; close some",
            limits.connections, limits.connections_per_client
        );
        return Err(ErrorBody::new(ErrorCode::TooManyConnections, message).retry_after(10));
    }
    let headers = request.headers();
    let told = |error: ErrorBody| {
        site.refused.tell(headers, &error.message);
        error
    };
    let host = site.gate.host(headers).map_err(told)?;
    if security::needs_origin(request.method(), headers) {
        site.gate.origin(headers, &host).map_err(told)?;
    }
    site.limits.request(site.client(request.request()))?;
    Ok(host)
}
