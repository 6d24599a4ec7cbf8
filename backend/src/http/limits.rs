//! How much one client, and all together, may ask for.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{LimitsConfig, error::seconds};

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

/// How many of something are open, in all and per client.
#[derive(Debug)]
struct Open {
    what: &'static str,
    by_client: Mutex<HashMap<IpAddr, u32>>,
    most: u32,
    most_per_client: u32,
}

/// Counts as open until dropped.
#[derive(Debug)]
pub struct Permit {
    open: Arc<Open>,
    client: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut clients = self.open.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

impl Open {
    fn new(what: &'static str, most: u32, most_per_client: u32) -> Arc<Self> {
        Arc::new(Self { what, by_client: Mutex::default(), most, most_per_client })
    }

    /// Counts are whole after every step, so a panic elsewhere cannot spoil them.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Permit, ErrorBody> {
        let mut clients = self.lock();
        let refused =
            |message| Err(ErrorBody::new(ErrorCode::TooManyConnections, message).retry_after(10));
        let all: u32 = clients.values().sum();
        if all >= self.most {
            return refused(format!(
                "{all} of {} {} are open; try again in 10 s",
                self.most, self.what
            ));
        }
        let own = clients.entry(client).or_default();
        if *own >= self.most_per_client {
            return refused(format!(
                "{own} of {} {} from one address are open; close one",
                self.most_per_client, self.what
            ));
        }
        *own += 1;
        Ok(Permit { open: Arc::clone(self), client })
    }

    fn count(&self) -> u32 {
        self.lock().values().sum()
    }
}

/// All limits of a server.
#[derive(Debug)]
pub struct Limits {
    jobs: Option<PerClient>,
    requests: Option<PerClient>,
    connections: Arc<Open>,
    sockets: Arc<Open>,
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
        let open = |what| Open::new(what, config.connections, config.connections_per_client);
        Self { jobs, requests, connections: open("connections"), sockets: open("WebSockets") }
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

    /// Counts one TCP connection of a peer.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyConnections`] when the peer, or all, have too many.
    pub fn connection(&self, peer: IpAddr) -> Result<Permit, ErrorBody> {
        self.connections.admit(peer)
    }

    /// Counts one WebSocket of a client.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyConnections`] when the client, or all, have too many.
    pub fn socket(&self, client: IpAddr) -> Result<Permit, ErrorBody> {
        self.sockets.admit(client)
    }

    /// TCP connections and WebSockets that are open.
    pub fn open(&self) -> (u32, u32) {
        (self.connections.count(), self.sockets.count())
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

    #[test]
    fn connections_are_counted_per_client_and_in_all_until_they_end() {
        let limits = limits(0, 3, 2);
        let first = limits.socket(A).unwrap();
        let _second = limits.socket(A).unwrap();
        assert_eq!(limits.socket(A).unwrap_err().code, ErrorCode::TooManyConnections);
        let _third = limits.socket(B).unwrap();
        assert!(limits.socket(B).unwrap_err().message.contains("3 of 3"));
        drop(first);
        assert!(limits.socket(B).is_ok());
        assert_eq!(limits.open(), (0, 2));
    }
}
