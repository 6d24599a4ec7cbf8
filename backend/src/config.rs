//! What `var-dd serve` is told: as typed, then resolved.

use std::{
    env,
    ffi::OsStr,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    num::NonZeroU32,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, value_parser};
use ipnet::IpNet;
use url::Url;

use crate::{
    device_args::NetworkArgs,
    http::{HttpConfig, LimitsConfig, Page, Timeouts, session::SessionLimits},
    scheduler::SchedulerConfig,
    usage_error::UsageError,
};

/// Flags of `var-dd serve`. Each can be given as the environment variable beside it too.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Directory of a model, as `var-dd convert` makes it. May be repeated; the first one is the
    /// default of the page [default: those of the variable VAR_DD_MODEL, with commas between, else
    /// the demo model].
    #[arg(long = "model", value_name = "DIR")]
    pub models: Vec<PathBuf>,

    /// Where the networks run, and in which numbers.
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Directory for jobs, results and pictures; made if there is none. One server at a time can
    /// use it.
    #[arg(long, value_name = "DIR", env = "VAR_DD_DATA_DIR", default_value = "var-dd-data")]
    pub data_dir: PathBuf,

    /// The network side.
    #[command(flatten)]
    pub http: HttpArgs,

    /// Most jobs waiting; one more is refused with 429 and the seconds after which to try again.
    #[arg(long, value_name = "JOBS", env = "VAR_DD_QUEUE_LIMIT", default_value_t = 64,
          value_parser = value_parser!(u32).range(1..=100_000))]
    pub queue_limit: u32,

    /// Most pictures drawn together. Less memory is used with fewer.
    #[arg(long, value_name = "PICTURES", env = "VAR_DD_MAX_BATCH", default_value_t = 8,
          value_parser = value_parser!(u32).range(1..=1024))]
    pub max_batch: u32,

    /// How long an idle device waits for more jobs of the same model and plan, in milliseconds.
    /// Those that come while it is busy are drawn together anyway.
    #[arg(long, value_name = "MS", env = "VAR_DD_BATCH_WINDOW_MS", default_value_t = 0,
          value_parser = value_parser!(u64).range(0..=60_000))]
    pub batch_window_ms: u64,

    /// How long a waiting job outlives its last viewer, in seconds. Jobs made by POST have no
    /// viewer and stay.
    #[arg(long, value_name = "SECONDS", env = "VAR_DD_UNWATCHED_GRACE_S", default_value_t = 20,
          value_parser = value_parser!(u64).range(1..=86_400))]
    pub unwatched_grace_s: u64,

    /// Finished results kept; the oldest beyond are deleted. 0 keeps all.
    #[arg(long, value_name = "RESULTS", env = "VAR_DD_KEEP_RESULTS", default_value_t = 10_000)]
    pub keep_results: u32,
}

/// Flags of everything that serves the page: `var-dd serve` and `var-dd gateway`.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    /// Address and port to listen on. Port 0 takes a free one. Other computers reach the server
    /// only if this is not a loopback address, as 0.0.0.0:8080.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "VAR_DD_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// Address of the server as people see it, where a proxy stands before it, with a path if it
    /// lies under one: used in links, and let in as host and origin.
    #[arg(long, value_name = "URL", env = "VAR_DD_PUBLIC_URL", value_parser = public_address)]
    pub public_url: Option<Url>,

    /// Another origin, as `https://example.org`, whose pages may open WebSockets, change things
    /// here, and read what is under /api/ (CORS). May be repeated (with commas in the variable).
    #[arg(
        long = "allow-origin",
        value_name = "ORIGIN",
        env = "VAR_DD_ALLOW_ORIGIN",
        value_parser = |text: &str| all_of(text, origin)
    )]
    pub allow_origins: Vec<Vec<Url>>,

    /// Address or network of a proxy whose `X-Forwarded-For` or `Forwarded` is believed, as
    /// 10.0.0.0/8. May be repeated (with commas in the variable).
    #[arg(
        long = "trusted-proxy",
        value_name = "NETWORK",
        env = "VAR_DD_TRUSTED_PROXY",
        value_parser = |text: &str| all_of(text, network)
    )]
    pub trusted_proxies: Vec<Vec<IpNet>>,

    /// Jobs per minute that one client address may ask for. 0 is no limit.
    #[arg(long, value_name = "JOBS", env = "VAR_DD_JOBS_PER_MINUTE", default_value_t = 60)]
    pub jobs_per_minute: u32,

    /// HTTP requests per second that one client address may make; five times as many at once. 0 is
    /// no limit.
    #[arg(
        long,
        value_name = "REQUESTS",
        env = "VAR_DD_REQUESTS_PER_SECOND",
        default_value_t = 100
    )]
    pub requests_per_second: u32,

    /// How long what runs may go on when the server is told to stop, in seconds. Jobs that wait
    /// stay on disk for the next start; so does what is not done by then. 0 stops it at its pass.
    /// Without effect in a gateway: what runs, runs in workers.
    #[arg(long, value_name = "SECONDS", env = "VAR_DD_DRAIN_S", default_value_t = 30,
          value_parser = value_parser!(u64).range(0..=3600))]
    pub drain_s: u64,

    /// Most open connections.
    #[arg(long, value_name = "CONNECTIONS", env = "VAR_DD_CONNECTIONS", default_value_t = 2048,
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Most open connections of one client address.
    #[arg(long, value_name = "CONNECTIONS", env = "VAR_DD_CONNECTIONS_PER_CLIENT", default_value_t = 128,
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub connections_per_client: u32,
}

impl HttpArgs {
    /// Where to listen, and the manners of the network side.
    ///
    /// # Errors
    /// When flags contradict each other or cannot be met; names flag, value and bound.
    pub fn resolve(self) -> Result<(SocketAddr, HttpConfig), UsageError> {
        let listen = listen_address(&self.listen)?;
        if self.connections_per_client > self.connections {
            return Err(UsageError(format!(
                "--connections-per-client {} is more than --connections {}; it must be at most \
                 that",
                self.connections_per_client, self.connections
            )));
        }
        let http = HttpConfig {
            public_url: self.public_url,
            allow_origins: self.allow_origins.concat(),
            trusted_proxies: self.trusted_proxies.concat(),
            limits: LimitsConfig {
                jobs_per_minute: self.jobs_per_minute,
                requests_per_second: self.requests_per_second,
                connections: self.connections,
                connections_per_client: self.connections_per_client,
            },
            session: SessionLimits {
                messages_per_second: MESSAGES_PER_SECOND,
                strikes: 100,
                watched: 64,
                unfinished: 16,
            },
            timeouts: Timeouts {
                request: Duration::from_secs(10),
                keep_alive: Duration::from_secs(20),
                write: Duration::from_secs(20),
                hello: Duration::from_secs(10),
                ping: Duration::from_secs(15),
                silence: Duration::from_secs(45),
                shutdown: Duration::from_secs(5),
            },
            message_bytes: 64 << 10,
            hello_bytes: 1 << 10,
            unconfirmed_bytes: 512 << 10,
            drain: Duration::from_secs(self.drain_s),
            page: Page::default(),
        };
        Ok((listen, http))
    }
}

/// A server before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Model directories, at least one; the first is the default.
    pub models: Vec<PathBuf>,
    /// Where the networks run, and in which numbers.
    pub network: NetworkArgs,
    /// Directory for everything that is kept.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Queue, batches, results.
    pub scheduler: SchedulerConfig,
    /// Manners of the network side.
    pub http: HttpConfig,
}

impl ServeArgs {
    /// The server that these flags describe, with `demo_model` where no model is named.
    ///
    /// # Errors
    /// When flags contradict each other or cannot be met; names flag, value and bound.
    pub fn resolve(self, demo_model: impl FnOnce() -> PathBuf) -> Result<Config, UsageError> {
        let (listen, http) = self.http.resolve()?;
        if self.data_dir.to_str().is_none() {
            return Err(UsageError(format!(
                "--data-dir {:?} is no text in UTF-8, which the database's path must be; choose \
                 another directory",
                self.data_dir
            )));
        }
        let models = models_or(self.models, demo_model);
        Ok(Config {
            models,
            network: self.network,
            listen,
            scheduler: SchedulerConfig {
                queue_limit: self.queue_limit as usize,
                max_batch: self.max_batch as usize,
                batch_window: Duration::from_millis(self.batch_window_ms),
                unwatched_grace: Duration::from_secs(self.unwatched_grace_s),
                keep_results: (self.keep_results > 0).then_some(self.keep_results),
                ..SchedulerConfig::default()
            },
            http,
            data_dir: self.data_dir,
        })
    }
}

/// The models that flags name, else those of the variable, else the demo model.
pub fn models_or(named: Vec<PathBuf>, demo_model: impl FnOnce() -> PathBuf) -> Vec<PathBuf> {
    let named = if named.is_empty() { models_of_variable() } else { named };
    if named.is_empty() { vec![demo_model()] } else { named }
}

/// The models that the variable names, with commas between; none if it is not set. A directory
/// whose name has a comma is one model.
pub fn models_of_variable() -> Vec<PathBuf> {
    split_models(&env::var_os("VAR_DD_MODEL").unwrap_or_default())
}

fn split_models(value: &OsStr) -> Vec<PathBuf> {
    if value.is_empty() || Path::new(value).is_dir() {
        return (!value.is_empty()).then(|| value.into()).into_iter().collect();
    }
    let parts = value.as_bytes().split(|&byte| byte == b',');
    let parts = parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsStr::from_bytes(part))).collect()
}

/// A page sends a message per click, and one per picture while its pad follows a pointer; a program
/// that watches many jobs sends some more.
const MESSAGES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

fn listen_address(text: &str) -> Result<SocketAddr, UsageError> {
    let wrong = |why: String| {
        UsageError(format!("--listen {text:?} {why}; give address and port, as in 127.0.0.1:8080"))
    };
    let mut addresses =
        text.to_socket_addrs().map_err(|error| wrong(format!("cannot be used ({error})")))?;
    addresses.next().ok_or_else(|| wrong("names no address".into()))
}

/// Scheme, host, port and, where a proxy puts the playground under one, a path.
fn public_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        let reason = match error {
            url::ParseError::RelativeUrlWithoutBase => "its scheme is missing".to_owned(),
            other => other.to_string(),
        };
        format!("{reason}; give it as in https://example.org")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is {}; it must be http or https", url.scheme()));
    }
    let more = url.query().is_some() || url.fragment().is_some();
    if more || !url.username().is_empty() || url.password().is_some() {
        return Err("it must be scheme, host, port and path only, as in https://example.org/play"
            .to_owned());
    }
    Ok(url)
}

/// Scheme, host and port, and nothing else.
fn origin(text: &str) -> Result<Url, String> {
    let url = public_address(text)?;
    if url.path() != "/" {
        return Err("it must be scheme, host and port only, as in https://example.org; origins \
            have no path"
            .to_owned());
    }
    Ok(url)
}

/// Every value of a list with commas, with or without spaces, and a comma at its end or not.
fn all_of<T>(text: &str, one: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => one(text).map(|value| vec![value]),
        false => parts.into_iter().map(one).collect(),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "it must be an address or a network, as in 10.0.0.1 or 10.0.0.0/8".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let line = Line::try_parse_from([&["serve"], arguments].concat())
            .map_err(|error| error.to_string())?;
        line.args.resolve(|| "demo".into()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_it_serves_the_demo_model_on_the_loopback_interface() {
        let config = config(&[]).unwrap();
        assert_eq!(config.models, [PathBuf::from("demo")]);
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.data_dir, PathBuf::from("var-dd-data"));
    }

    #[test]
    fn the_variable_alone_is_split_at_commas() {
        let names = |value: &str| split_models(OsStr::new(value));
        assert_eq!(names("a,b , c"), ["a", "b", "c"].map(PathBuf::from));
        assert_eq!(names(""), Vec::<PathBuf>::new());
        let directory = tempfile::tempdir().unwrap();
        let with_comma = directory.path().join("a,b");
        std::fs::create_dir(&with_comma).unwrap();
        assert_eq!(split_models(with_comma.as_os_str()), std::slice::from_ref(&with_comma));
        let flag = format!("--model={}", with_comma.display());
        assert_eq!(config(&[&flag]).unwrap().models, [with_comma]);
        assert_eq!(config(&["--model=x,y"]).unwrap().models, [PathBuf::from("x,y")]);
    }

    #[test]
    fn a_data_directory_that_is_no_text_is_named() {
        let line = [OsStr::new("serve"), OsStr::new("--data-dir"), OsStr::from_bytes(b"d\xff")];
        let args = Line::try_parse_from(line).unwrap().args;
        let error = args.resolve(|| "demo".into()).unwrap_err().to_string();
        assert!(error.contains("--data-dir \"d\\xFF\"") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn lists_may_have_spaces_and_a_comma_at_the_end() {
        for list in [
            "10.0.0.1,10.0.0.2",
            "10.0.0.1, 10.0.0.2",
            " 10.0.0.1 ,10.0.0.2,",
            ",10.0.0.1,10.0.0.2",
        ] {
            let config = config(&[&format!("--trusted-proxy={list}")]).unwrap();
            assert_eq!(config.http.trusted_proxies.len(), 2, "{list}");
        }
        let origins = config(&["--allow-origin=https://a.example, https://b.example,"]).unwrap();
        assert_eq!(origins.http.allow_origins.len(), 2);
        for nothing in ["--trusted-proxy=,", "--allow-origin= "] {
            assert!(config(&[nothing]).is_err(), "{nothing}");
        }
    }

    #[test]
    fn flags_arrive_where_they_count() {
        let config = config(&[
            "--model=a",
            "--model=b",
            "--queue-limit=3",
            "--max-batch=2",
            "--keep-results=0",
            "--batch-window-ms=7",
            "--public-url=https://draw.example",
            "--trusted-proxy=10.0.0.1",
            "--trusted-proxy=fd00::/8",
            "--jobs-per-minute=0",
            "--drain-s=0",
        ])
        .unwrap();
        assert_eq!(config.models, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((config.scheduler.queue_limit, config.scheduler.max_batch), (3, 2));
        assert_eq!(config.scheduler.batch_window, Duration::from_millis(7));
        assert_eq!(config.scheduler.keep_results, None);
        assert_eq!(config.http.public_url.unwrap().as_str(), "https://draw.example/");
        assert_eq!(config.http.trusted_proxies.len(), 2);
        assert_eq!(config.http.limits.jobs_per_minute, 0);
        assert_eq!(config.http.drain, Duration::ZERO);
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_its_flag_and_bound() {
        for (argument, parts) in [
            ("--queue-limit=0", ["--queue-limit", "0", "1..=100000"]),
            ("--max-batch=5000", ["--max-batch", "5000", "1..=1024"]),
            ("--listen=nowhere", ["--listen", "nowhere", "127.0.0.1:8080"]),
            ("--listen=127.0.0.1", ["--listen", "127.0.0.1", "port"]),
            ("--public-url=ftp://x", ["--public-url", "ftp", "http"]),
            ("--public-url=https://x/y?z", ["--public-url", "https://x/y?z", "path only"]),
            ("--allow-origin=https://x/y", ["--allow-origin", "https://x/y", "no path"]),
            ("--allow-origin=evil", ["--allow-origin", "evil", "https://example.org"]),
            ("--public-url=example.org", ["--public-url", "scheme is missing", "https://"]),
            ("--trusted-proxy=10.0.0.0/99", ["--trusted-proxy", "10.0.0.0/99", "10.0.0.0/8"]),
            ("--connections=5", ["--connections-per-client 128", "--connections 5", "at most"]),
        ] {
            let error = config(&[argument]).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{argument}: {part:?} is missing in {error}");
            }
        }
    }
}
