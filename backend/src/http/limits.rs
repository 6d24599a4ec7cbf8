//! How much one client, and all together, may ask for.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    LimitsConfig,
    error::seconds,
    shares::{Holder, Permit, Shares},
};

/// Clients seen between two clean-ups of the rate limiters' memory.
const CLEAN_UP_EVERY: u32 = 1024;

/// A token bucket per client address.
#[derive(Debug)]
struct PerClient {
    bucket: DefaultKeyedRateLimiter<IpAddr>,
    checks: AtomicU32,
    what: &'static str,
    quota: String,
}

impl PerClient {
    fn new(what: &'static str, quota: Quota, described: String) -> Self {
        Self {
            bucket: RateLimiter::keyed(quota),
            checks: AtomicU32::new(0),
            what,
            quota: described,
        }
    }

    fn check(&self, client: IpAddr) -> Result<(), ErrorBody> {
        // Full buckets are forgotten from time to time: memory stays bounded by the clients of the
        // last minute.
        if self.checks.fetch_add(1, Ordering::Relaxed) % CLEAN_UP_EVERY == CLEAN_UP_EVERY - 1 {
            self.bucket.retain_recent();
        }
        self.bucket.check_key(&client).map_err(|not_until| {
            let wait = seconds(not_until.wait_time_from(self.bucket.clock().now()));
            let message = format!(
                "too many {} from one address: {} are allowed; try again in {wait} s",
                self.what, self.quota
            );
            ErrorBody::new(ErrorCode::RateLimited, message).retry_after(wait)
        })
    }
}

/// All limits of a server.
#[derive(Debug)]
pub struct Limits {
    jobs: Option<PerClient>,
    requests: Option<PerClient>,
    sockets: Arc<Shares>,
}

impl Limits {
    /// Full buckets, nothing open.
    pub fn new(config: &LimitsConfig) -> Self {
        let jobs = NonZeroU32::new(config.jobs_per_minute).map(|rate| {
            let quota = Quota::per_minute(rate);
            PerClient::new("jobs", quota, format!("{rate} per minute"))
        });
        let requests = NonZeroU32::new(config.requests_per_second).map(|rate| {
            // A page with its pictures comes at once; seconds of silence before it pay for that.
            let quota = Quota::per_second(rate)
                .allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(4)));
            PerClient::new("requests", quota, format!("{rate} per second"))
        });
        let sockets = Shares::new("WebSockets", config.connections, config.connections_per_client);
        Self { jobs, requests, sockets }
    }

    /// Counts one job.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] when the client made too many in the last minute.
    pub fn job(&self, client: IpAddr) -> Result<(), ErrorBody> {
        self.jobs.as_ref().map_or(Ok(()), |limit| limit.check(client))
    }

    /// Counts one HTTP request.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] when the client made too many.
    pub fn request(&self, client: IpAddr) -> Result<(), ErrorBody> {
        self.requests.as_ref().map_or(Ok(()), |limit| limit.check(client))
    }

    /// Counts one WebSocket of a client, which may be asked later to make room for another's.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyConnections`] when the client, or all, have too many.
    pub(super) fn socket(
        &self,
        client: IpAddr,
        holder: Arc<dyn Holder>,
    ) -> Result<Permit, ErrorBody> {
        self.sockets.admit(client, holder)
    }
}

/// How fast one connection may send.
pub fn message_quota(per_second: NonZeroU32) -> Quota {
    Quota::per_second(per_second)
        .allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn limits(jobs_per_minute: u32, connections: u32, connections_per_client: u32) -> Limits {
        Limits::new(&LimitsConfig {
            jobs_per_minute,
            requests_per_second: 0,
            connections,
            connections_per_client,
        })
    }

    #[test]
    fn a_client_that_asks_too_often_waits_and_others_do_not() {
        let limits = limits(2, 9, 9);
        assert!(limits.job(A).is_ok());
        assert!(limits.job(A).is_ok());
        let error = limits.job(A).unwrap_err();
        assert_eq!(error.code, ErrorCode::RateLimited);
        assert!(
            error.retry_after_s.is_some_and(|seconds| (1..=60).contains(&seconds)),
            "{error:?}"
        );
        assert!(limits.job(B).is_ok());
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = limits(0, 9, 9);
        assert!((0..1000).all(|_| limits.job(A).is_ok() && limits.request(A).is_ok()));
    }
}
