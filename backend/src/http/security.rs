//! Who may ask: checks of `Host` and `Origin`, the address of a client, and the headers that bind
//! browsers.
//!
//! * **Host.** A server on the loopback interface answers only to names that lead there (and to the
//!   hosts it was told of), so that no foreign name that somebody points at 127.0.0.1 turns a
//!   visitor's browser into a client of it (DNS rebinding).
//! * **Origin.** Browsers send `Origin` with every WebSocket and with every request that changes
//!   something. It must be the server's own or one that it was told of. A request without it comes
//!   from a program, which has no cookies or other standing to abuse, and passes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::http::{
    Method, Uri,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use ipnet::IpNet;
use url::{Host, Origin, Url};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::error::shortened;

/// What pages of this server may load and who may frame them: nothing but their own. The player for
/// other sites has a policy of its own.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
     style-src 'self'; img-src 'self' blob: data:; media-src blob:; connect-src 'self'; \
     manifest-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every response.
pub const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (
        header::PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// The hosts and origins that are let in.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Whether only known hosts are answered to.
    only_known_hosts: bool,
    /// Own address as people see it, then the others that were allowed.
    known: Vec<Url>,
    /// Other origins whose pages may use the server.
    others: Vec<Origin>,
    public: bool,
}

impl Gate {
    /// The gate of a server that listens on `listen`.
    pub fn new(listen: IpAddr, public_url: Option<&Url>, allow_origins: &[Url]) -> Self {
        Self {
            only_known_hosts: listen.to_canonical().is_loopback(),
            public: public_url.is_some(),
            known: public_url.into_iter().chain(allow_origins).cloned().collect(),
            others: allow_origins.iter().map(Url::origin).collect(),
        }
    }

    /// Checks the `Host` header and returns it as read.
    ///
    /// # Errors
    /// [`ErrorCode::OriginRefused`] when it is absent, not one host, or not one of this server.
    pub fn host(&self, headers: &HeaderMap) -> Result<Authority, ErrorBody> {
        let mut hosts = headers.get_all(header::HOST);
        let refused = |message: String| Err(ErrorBody::new(ErrorCode::OriginRefused, message));
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return refused("the request must have one Host header".into());
        };
        let Some(authority) = host.to_str().ok().and_then(Authority::parse) else {
            return refused(format!("the Host header {host:?} is not a host and port"));
        };
        let known = || {
            self.known
                .iter()
                .any(|url| url.host().as_ref().map(Host::to_owned) == Some(authority.host.clone()))
        };
        if self.only_known_hosts && !authority.is_loopback() && !known() {
            return refused(format!(
                "this server listens on the loopback interface and does not answer to the host {}; \
                 if that is its name, start it with --public-url",
                shortened(&authority.text)
            ));
        }
        Ok(authority)
    }

    /// Checks the `Origin` header of a request that changes something or opens a WebSocket.
    ///
    /// # Errors
    /// [`ErrorCode::OriginRefused`] when it is there and neither the server's own nor an allowed
    /// one.
    pub fn origin(&self, headers: &HeaderMap, host: &Authority) -> Result<(), ErrorBody> {
        let mut origins = headers.get_all(header::ORIGIN);
        let Some(origin) = origins.next() else {
            return Ok(());
        };
        let url = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
        let allowed = origins.next().is_none()
            && url.is_some_and(|url| {
                let same_origin = matches!(url.scheme(), "http" | "https")
                    && Authority::parse(&url[url::Position::BeforeHost..url::Position::AfterPort])
                        .is_some_and(|from| from.same(host, &url));
                same_origin || self.known.iter().any(|known| known.origin() == url.origin())
            });
        if allowed {
            return Ok(());
        }
        Err(ErrorBody::new(
            ErrorCode::OriginRefused,
            format!(
                "pages of {} may not use this server, which was asked as {}: a proxy in between \
                 must pass on the Host header; or start the server with --public-url, or with \
                 --allow-origin for pages of others",
                shortened(origin.to_str().unwrap_or("this origin")),
                shortened(&host.text)
            ),
        ))
    }

    /// Whether browsers take the origin of this host for secure.
    pub fn is_secure(&self, host: &Authority) -> bool {
        let is_https = |url: &&Url| url.scheme() == "https";
        host.is_loopback() || (self.public && self.known.first().filter(is_https).is_some())
    }

    /// A request's address without the path of the public address, where it has that.
    pub fn without_prefix(&self, uri: &Uri) -> Option<Uri> {
        let public = self.known.first().filter(|_| self.public)?;
        let prefix = public.path().trim_end_matches('/');
        let rest = uri.path().strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
        let path = if rest.starts_with('/') { rest } else { return None };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{path}{query}").parse().ok()
    }

    /// The path of the public address with the slash that a request for it left out: the addresses
    /// in the page are relative to it.
    pub fn slash_after_prefix(&self, uri: &Uri) -> Option<String> {
        let prefix = self.known.first().filter(|_| self.public)?.path().trim_end_matches('/');
        if prefix.is_empty() || uri.path() != prefix {
            return None;
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{prefix}/{query}"))
    }

    /// Whether pages of any other origin may use the server.
    pub fn allows_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The `Origin` of a request if it is one of those that were allowed.
    pub fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN);
        let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
        let url = Url::parse(origin.to_str().ok()?).ok()?;
        self.others.contains(&url.origin()).then(|| origin.clone())
    }

    /// The address of this server for absolute links: the public one, else the one the client used.
    pub fn base_url(&self, host: &Authority) -> String {
        match self.known.first().filter(|_| self.public) {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{}", host.text),
        }
    }
}

/// Hosts and origins that were refused: each is told of in the log once, so that whoever runs the
/// server learns what a proxy does not pass on, and nobody can fill the log.
#[derive(Debug, Default)]
pub struct Refused(Mutex<BTreeSet<(String, String)>>);

impl Refused {
    /// Most pairs that are told of.
    const MOST: usize = 100;

    /// Tells of a refusal unless the same host and origin were refused before.
    pub fn tell(&self, headers: &HeaderMap, why: &str) {
        let of =
            |name| shortened(headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("none"));
        let (host, origin) = (of(header::HOST), of(header::ORIGIN));
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < Self::MOST && told.insert((host.clone(), origin.clone())) {
            tracing::warn!(host, origin, "request refused: {why}");
        }
    }
}

/// Host and port of a `Host` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    host: Host<String>,
    port: Option<u16>,
    text: String,
}

impl Authority {
    /// Reads `host` or `host:port`; nothing else passes.
    fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        };
        if text.is_empty() || text.len() > 260 || !text.bytes().all(plain) {
            return None;
        }
        let url = Url::parse(&format!("http://{text}/")).ok()?;
        // `url` drops the default port; what was written counts here.
        let written = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let port = match written {
            Some((_, port)) => Some(port.parse().ok()?),
            None => None,
        };
        Some(Self { host: url.host()?.to_owned(), port, text: text.to_ascii_lowercase() })
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.to_canonical().is_loopback(),
        }
    }

    /// Whether the page of `origin`, whose host and port these are, came from `host`. A proxy may
    /// have turned https into http on the way, hence either default port.
    fn same(&self, host: &Authority, origin: &Url) -> bool {
        let default = origin.port_or_known_default();
        self.host == host.host && self.port.or(default) == host.port.or(default)
    }
}

/// The address of a client, for limits: the peer's, or what trusted proxies say it is.
///
/// Proxies say so in `X-Forwarded-For` or in `Forwarded` (RFC 7239). A proxy that writes one of
/// them passes the other on as the client wrote it, so where both are there and differ, neither is
/// believed. Of addresses in a row, the last one that no trusted proxy has is the client; what
/// stands before it anybody could have written.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    client_of(heard_of(peer, headers, trusted).0)
}

/// The headers in which proxies name the clients behind them; the last one is not read.
const OF_PROXIES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// Why all clients behind a proxy count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The peer is no trusted proxy, and sends a header that proxies send.
    NotTrusted,
    /// The proxy names no client in a header that is read, and one in another.
    NotRead,
    /// What it names is no address.
    NoAddress,
    /// Its two headers differ.
    Differ,
}

/// Whom a request comes from, and why that is the proxy although there is word of a client.
fn heard_of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, Option<Why>) {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(peer) {
        let speaks = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
        return (peer, speaks.then_some(Why::NotTrusted));
    }
    let last_untrusted = |name: &str, address: fn(&str) -> Option<IpAddr>| {
        let lines: Vec<_> =
            headers.get_all(name).map(|line| line.to_str().unwrap_or_default()).collect();
        if lines.is_empty() {
            return None;
        }
        let (mut client, mut why) = (peer, None);
        let hops = lines.iter().flat_map(|line| outside_quotes(line, ','));
        let hops: Vec<_> = hops.map(str::trim).filter(|hop| !hop.is_empty()).collect();
        for hop in hops.into_iter().rev() {
            let Some(address) = address(hop) else {
                why = Some(Why::NoAddress);
                break;
            };
            client = address.to_canonical();
            if !is_trusted(client) {
                break;
            }
        }
        Some((client, why))
    };
    match (
        last_untrusted("x-forwarded-for", node_address),
        last_untrusted("forwarded", forwarded_for),
    ) {
        (Some((one, _)), Some((other, _))) if one != other => (peer, Some(Why::Differ)),
        (Some(heard), _) | (None, Some(heard)) => heard,
        (None, None) => (peer, headers.contains_key("x-real-ip").then_some(Why::NotRead)),
    }
}

/// Proxies whose word about their clients is not taken, so that all these count as one: told of in
/// the log once, so that whoever runs the server learns why they run into limits together.
#[derive(Debug, Default)]
pub struct Unheard(AtomicBool);

impl Unheard {
    /// Looks at a request, and tells of it if it is the first one of that kind.
    pub fn look(&self, peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) {
        if self.0.load(Ordering::Relaxed) {
            return;
        }
        let (client, Some(why)) = heard_of(peer, headers, trusted) else { return };
        if self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let peer = peer.to_canonical();
        let sent: Vec<String> = OF_PROXIES
            .iter()
            .filter_map(|name| {
                let value = String::from_utf8_lossy(headers.get(*name)?.as_bytes());
                Some(format!("{name}: {}", shortened(&value)))
            })
            .collect();
        tracing::warn!(
            %peer,
            ?sent,
            "{}; requests like this one count for {client} together. This is said once",
            why.advice()
        );
    }
}

impl Why {
    fn advice(self) -> &'static str {
        match self {
            Self::NotTrusted => {
                "a peer that is no trusted proxy names a client, which is not believed: if it is \
                 your proxy, name it with --trusted-proxy"
            }
            Self::NotRead => {
                "a trusted proxy names its clients in X-Real-IP, which is not read: let it send \
                 X-Forwarded-For or Forwarded"
            }
            Self::NoAddress => {
                "a trusted proxy names a client by what is no address: let it send the address in \
                 X-Forwarded-For or Forwarded"
            }
            Self::Differ => {
                "X-Forwarded-For and Forwarded of a trusted proxy differ, so neither is believed: \
                 let it write one of them and drop the other"
            }
        }
    }
}

/// The parts of a header between separators that no quotes are around (RFC 9110, 5.6.4).
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match c {
            '"' if is_plain => is_quoted = !is_quoted,
            '\\' if is_plain && is_quoted => is_escaped = true,
            _ => {}
        }
        c == separator && !is_quoted
    })
}

/// The address in `192.0.2.1`, `192.0.2.1:4431`, `2001:db8::1`, `[2001:db8::1]` or
/// `[2001:db8::1]:4431`; a port may be a name that hides it, as `_p1`.
fn node_address(node: &str) -> Option<IpAddr> {
    let hidden = node.rsplit_once(':').filter(|(_, port)| port.starts_with('_'));
    let node = hidden.map_or(node, |(node, _)| node);
    let of_socket = || node.parse::<SocketAddr>().map(|socket| socket.ip());
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    node.parse().or_else(|_| of_socket()).ok().or_else(bracketed)
}

/// The address of `for=` in one element of `Forwarded`, as `for="[2001:db8::1]:4431";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pair = outside_quotes(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    let unquoted = pair.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    node_address(unquoted.unwrap_or(pair))
}

/// The address that limits count: IPv6 clients by /64, the smallest network a customer gets.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)))
        }
    }
}

/// Whether browsers say where such a request comes from, and it matters.
pub fn needs_origin(method: &Method, headers: &HeaderMap) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn gate(listen: &str, public: Option<&str>, allowed: &[&str]) -> Gate {
        let allowed: Vec<Url> = allowed.iter().map(|url| url.parse().unwrap()).collect();
        let public: Option<Url> = public.map(|url| url.parse().unwrap());
        Gate::new(listen.parse().unwrap(), public.as_ref(), &allowed)
    }

    #[test]
    fn a_server_on_loopback_answers_only_to_names_that_lead_there() {
        let plain = gate(LOOPBACK, None, &[]);
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
            "LOCALHOST:9",
        ] {
            assert!(plain.host(&headers(&[("host", host)])).is_ok(), "{host} must pass");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.1.7:8080",
            "[::ffff:192.168.1.7]:8080",
            "evil.example:8080",
            "user@localhost",
            "localhost/x",
            "localhost:99999",
            "localhost:",
            "",
            "[::1",
        ] {
            assert!(plain.host(&headers(&[("host", host)])).is_err(), "{host} must be refused");
        }
        assert!(plain.host(&headers(&[])).is_err(), "no host");
        let mapped = gate("::ffff:127.0.0.1", None, &[]);
        assert!(mapped.host(&headers(&[("host", "evil.example")])).is_err());
        assert!(
            plain.host(&headers(&[("host", "localhost"), ("host", "localhost")])).is_err(),
            "two hosts"
        );
    }

    #[test]
    fn a_server_that_was_told_its_names_answers_to_them() {
        let told = gate(LOOPBACK, Some("https://draw.example/"), &["http://other.example:3000"]);
        for host in ["draw.example", "draw.example:443", "other.example", "localhost:8080"] {
            assert!(told.host(&headers(&[("host", host)])).is_ok(), "{host} must pass");
        }
        assert!(told.host(&headers(&[("host", "evil.example")])).is_err());
        let open = gate("0.0.0.0", None, &[]);
        assert!(open.host(&headers(&[("host", "anything.example:80")])).is_ok());
    }

    #[test]
    fn pages_of_other_origins_are_refused_and_programs_are_not() {
        let gate = gate(LOOPBACK, Some("https://draw.example"), &["http://other.example:3000"]);
        let check = |origin: Option<&str>, host: &str| {
            let host = Authority::parse(host).unwrap();
            let map = origin.map_or_else(HeaderMap::new, |origin| headers(&[("origin", origin)]));
            gate.origin(&map, &host).is_ok()
        };
        for (origin, host, expected) in [
            (None, "localhost:8080", true),
            (Some("http://localhost:8080"), "localhost:8080", true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("http://localhost"), "localhost", true),
            (Some("http://localhost"), "localhost:80", true),
            (Some("https://draw.example"), "draw.example", true),
            (Some("https://draw.example"), "127.0.0.1:8080", true),
            (Some("http://other.example:3000"), "localhost:8080", true),
            (Some("http://other.example:3001"), "localhost:8080", false),
            (Some("http://localhost:3000"), "localhost:8080", false),
            (Some("http://127.0.0.1:8080"), "localhost:8080", false),
            (Some("http://evil.example"), "localhost:8080", false),
            (Some("http://localhost:8080.evil.example"), "localhost:8080", false),
            (Some("null"), "localhost:8080", false),
            (Some("file://"), "localhost:8080", false),
            (Some(""), "localhost:8080", false),
        ] {
            assert_eq!(check(origin, host), expected, "{origin:?} on {host}");
        }
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("203.0.113.9", Some("1.2.3.4"), "203.0.113.9"),
            ("10.0.0.1", Some("1.2.3.4"), "1.2.3.4"),
            ("10.0.0.1", Some("6.6.6.6, 1.2.3.4"), "1.2.3.4"),
            ("10.0.0.1", Some("1.2.3.4, 10.0.0.2"), "1.2.3.4"),
            ("10.0.0.1", Some("1.2.3.4, nonsense"), "10.0.0.1"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("::ffff:203.0.113.9", None, "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::"),
        ] {
            let map =
                forwarded.map_or_else(HeaderMap::new, |list| headers(&[("x-forwarded-for", list)]));
            let client = client_address(peer.parse().unwrap(), &map, &trusted);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn why_the_clients_of_a_proxy_count_as_one_is_known() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let for_ = |value| ("x-forwarded-for", value);
        for (peer, pairs, why) in [
            ("203.0.113.9", &[][..], None),
            ("203.0.113.9", &[for_("1.2.3.4")], Some(Why::NotTrusted)),
            ("203.0.113.9", &[("x-real-ip", "1.2.3.4")], Some(Why::NotTrusted)),
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &[for_("1.2.3.4")], None),
            ("10.0.0.1", &[for_("10.0.0.1")], None),
            ("10.0.0.1", &[for_("1.2.3.4"), ("x-real-ip", "1.2.3.4")], None),
            ("10.0.0.1", &[("x-real-ip", "1.2.3.4")], Some(Why::NotRead)),
            ("10.0.0.1", &[for_("unknown")], Some(Why::NoAddress)),
            ("10.0.0.1", &[("forwarded", "for=_hidden, for=10.0.0.2")], Some(Why::NoAddress)),
            ("10.0.0.1", &[for_("1.2.3.4"), ("forwarded", "for=6.6.6.6")], Some(Why::Differ)),
        ] {
            let heard = heard_of(peer.parse().unwrap(), &headers(pairs), &trusted);
            assert_eq!(heard.1, why, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn the_path_of_the_public_address_is_taken_off_whole() {
        let public = gate(LOOPBACK, Some("https://draw.example/play/"), &[]);
        let rest = |path: &str| public.without_prefix(&path.parse().unwrap());
        assert_eq!(rest("/play/r/1?picture=2"), "/r/1?picture=2".parse().ok());
        assert_eq!(rest("/play/"), "/".parse().ok());
        assert_eq!(
            [rest("/player"), rest("/play"), rest("/r/play/"), rest("/")],
            [const { None }; 4]
        );
        let slash = |path: &str| public.slash_after_prefix(&path.parse().unwrap());
        assert_eq!(slash("/play").as_deref(), Some("/play/"));
        assert_eq!(slash("/play?class=2").as_deref(), Some("/play/?class=2"));
        assert_eq!([slash("/play/"), slash("/"), slash("/player")], [const { None }; 3]);
        let bare = gate(LOOPBACK, Some("https://draw.example"), &[]);
        assert_eq!(bare.without_prefix(&"/r/1".parse().unwrap()), None);
        assert_eq!(bare.slash_after_prefix(&"/".parse().unwrap()), None);
        assert_eq!(public.base_url(&Authority::parse("h").unwrap()), "https://draw.example/play");
    }

    #[test]
    fn only_secure_origins_get_the_header_that_others_complain_of() {
        let host = |text| Authority::parse(text).unwrap();
        let plain = gate("0.0.0.0", None, &[]);
        assert!(plain.is_secure(&host("localhost:8080")) && !plain.is_secure(&host("192.0.2.7")));
        assert!(gate("0.0.0.0", Some("https://a.example"), &[]).is_secure(&host("a.example")));
        assert!(!gate("0.0.0.0", Some("http://a.example"), &[]).is_secure(&host("a.example")));
    }

    #[test]
    fn addresses_that_proxies_write_are_read_with_ports_and_brackets() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let seen = |pairs: &[(&'static str, &str)]| {
            client_address("10.0.0.1".parse().unwrap(), &headers(pairs), &trusted).to_string()
        };
        for (list, expected) in [
            ("198.51.100.7:4431", "198.51.100.7"),
            ("6.6.6.6, 198.51.100.7:4431, 10.0.0.2:80", "198.51.100.7"),
            ("[2001:db8::1]:4431", "2001:db8::"),
            ("[2001:db8::1]", "2001:db8::"),
            ("[::ffff:198.51.100.7]:1", "198.51.100.7"),
            ("198.51.100.7:port", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("198.51.100.7,", "198.51.100.7"),
            (", 198.51.100.7 , ,10.0.0.2,", "198.51.100.7"),
        ] {
            assert_eq!(seen(&[("x-forwarded-for", list)]), expected, "{list}");
        }
        for (list, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"198.51.100.7:4431\";proto=https;by=10.0.0.1", "198.51.100.7"),
            ("proto=http; for=\"[2001:db8::1]:4431\"", "2001:db8::"),
            ("for=6.6.6.6, for=198.51.100.7, for=10.0.0.9", "198.51.100.7"),
            ("for=_hidden", "10.0.0.1"),
            ("for=\"198.51.100.7:_p1\"", "198.51.100.7"),
            ("for=\"[2001:db8::1]:_p1\"", "2001:db8::"),
            ("for=198.51.100.7;by=\"a,b\";ext=\"\\\",for=6.6.6.6\"", "198.51.100.7"),
            ("for=198.51.100.7, ", "198.51.100.7"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(seen(&[("forwarded", list)]), expected, "{list}");
        }
        let both = [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=198.51.100.7")];
        assert_eq!(seen(&both), "198.51.100.7");
        let at_odds = [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(seen(&at_odds), "10.0.0.1", "one of them is the client's own word");
    }

    #[test]
    fn only_an_allowed_origin_may_read_across_origins() {
        let gate = gate(LOOPBACK, Some("https://draw.example"), &["http://other.example:3000"]);
        let allowed = |origin: &str| gate.allowed_origin(&headers(&[("origin", origin)])).is_some();
        assert!(gate.allows_others() && allowed("http://other.example:3000"));
        for origin in
            ["http://other.example", "https://other.example:3000", "https://draw.example", "null"]
        {
            assert!(!allowed(origin), "{origin}");
        }
        let two = [("origin", "http://other.example:3000"), ("origin", "https://evil.example")];
        assert!(gate.allowed_origin(&headers(&two)).is_none());
    }

    #[test]
    fn links_lead_to_the_public_address_or_to_the_one_that_was_used() {
        let host = Authority::parse("localhost:8080").unwrap();
        assert_eq!(gate(LOOPBACK, None, &[]).base_url(&host), "http://localhost:8080");
        assert_eq!(
            gate(LOOPBACK, None, &["http://a.example"]).base_url(&host),
            "http://localhost:8080"
        );
        let public = gate(LOOPBACK, Some("https://draw.example/"), &[]);
        assert_eq!(public.base_url(&host), "https://draw.example");
    }
}
