//! Files of a public model hub, through its own cache.
//!
//! Layout and variables are those of the hub's own client, so that both share what either has
//! fetched: `models--{owner}--{name}/refs/{revision}` names a commit, `snapshots/{commit}/{path}`
//! links to `blobs/{etag}`, and what is under way is `blobs/{etag}.incomplete`. `HF_HUB_CACHE` or
//! `HF_HOME` say where, `HF_ENDPOINT` which hub, `HF_TOKEN` who asks, `HF_HUB_OFFLINE` that only
//! the cache is to be used.

mod transfer;

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

pub use transfer::{Expected, Progress};

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait for the first byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A file of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// `owner/name`.
    pub repository: &'static str,
    /// Path inside.
    pub path: &'static str,
}

/// A file that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Only the cache may be used, and the file is not there.
    #[error("{0} is not in the cache, and nothing may be fetched (HF_HUB_OFFLINE or --offline)")]
    Offline(String),
    /// Nobody answers.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The answer is a refusal.
    #[error("{url} answered with status {status}{}", advice(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is not a hub's.
    #[error("{url} does not answer as a hub does: {reason}; check HF_ENDPOINT")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The connection broke again and again.
    #[error(
        "{url} broke off after {received} of {size} bytes, {attempts} times without getting further ({reason}); the same \
         command goes on there"
    )]
    Cut {
        /// What was asked for.
        url: String,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the whole.
        size: u64,
        /// How often.
        attempts: u32,
        /// The last cause.
        reason: String,
    },
    /// The bytes are not those that were announced.
    #[error(
        "{url} is damaged: its SHA-256 is {found} and should be {expected}; what was fetched has \
         been discarded"
    )]
    Hash {
        /// What was asked for.
        url: String,
        /// What it should be, or begin with.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The answer is longer than announced.
    #[error(
        "{url} is {found} bytes long and should be {expected}; what was fetched has been discarded"
    )]
    Size {
        /// What was asked for.
        url: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The disk.
    #[error("{} cannot be written: {source}{}", .path.display(), room(.source, *.missing))]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// Bytes still to come.
        missing: u64,
        /// Why.
        source: std::io::Error,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => ": access is refused; set HF_TOKEN if the repository wants it",
        404 => ": there is no such file",
        429 => ": too many requests; try again later",
        500.. => ": the hub has trouble; try again later",
        _ => "",
    }
}

fn room(error: &std::io::Error, missing: u64) -> String {
    if error.kind() == ErrorKind::StorageFull {
        format!(
            "; {missing} more bytes are needed. Make room, or set HF_HOME to a larger disk; the \
             same command goes on there"
        )
    } else {
        String::new()
    }
}

/// A hub and its cache.
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    offline: bool,
    token: Option<String>,
    agent: ureq::Agent,
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The directory of cached files of a user.
pub fn user_cache() -> PathBuf {
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| ".".into())).join(".cache");
    variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

impl Hub {
    /// The hub that the environment describes.
    pub fn from_environment(offline: bool) -> Self {
        let home =
            variable("HF_HOME").map_or_else(|| user_cache().join("huggingface"), PathBuf::from);
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let says_offline = variable("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
        });
        let token = variable("HF_TOKEN").or_else(|| fs::read_to_string(home.join("token")).ok());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            offline: offline || says_offline,
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            agent: agent(),
        }
    }

    /// Address of a file.
    pub fn url(&self, file: HubFile) -> String {
        format!("{}/{}/resolve/main/{}", self.endpoint, file.repository, file.path)
    }

    fn repository(&self, file: HubFile) -> PathBuf {
        self.cache.join(format!("models--{}", file.repository.replace('/', "--")))
    }

    /// A file as the cache has it, if it does.
    pub fn cached(&self, file: HubFile) -> Option<PathBuf> {
        let repository = self.repository(file);
        let commit = fs::read_to_string(repository.join("refs/main")).ok()?;
        let path = repository.join("snapshots").join(commit.trim()).join(file.path);
        path.is_file().then_some(path)
    }

    /// A file, fetched if the cache has not the newest one. Where the hub cannot be reached, an
    /// older one will do.
    ///
    /// # Errors
    /// When the file cannot be had whole.
    pub fn fetch(&self, file: HubFile, progress: &mut Progress<'_>) -> Result<PathBuf, HubError> {
        let cached = self.cached(file);
        if self.offline {
            return cached
                .ok_or_else(|| HubError::Offline(format!("{}/{}", file.repository, file.path)));
        }
        let url = self.url(file);
        let about = match (transfer::about(&self.agent, &url, self.token.as_deref()), cached) {
            (Err(HubError::Unreachable { reason, .. }), Some(path)) => {
                tracing::warn!(
                    reason,
                    file = file.path,
                    "the hub cannot be reached; using what the cache has"
                );
                return Ok(path);
            }
            (about, _) => about?,
        };
        let repository = self.repository(file);
        let snapshot = repository.join("snapshots").join(&about.commit).join(file.path);
        if !snapshot.is_file() {
            let blob = repository.join("blobs").join(&about.etag);
            if !blob.is_file() {
                let sha256 = about.etag.len() == 64
                    && about.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
                let expected =
                    Expected { size: Some(about.size), sha256: sha256.then(|| about.etag.clone()) };
                transfer::fetch(
                    &self.agent,
                    &url,
                    self.token.as_deref(),
                    &blob,
                    &expected,
                    progress,
                )?;
            }
            link(&blob, &snapshot, file)?;
        }
        let reference = repository.join("refs/main");
        write(&reference, about.commit.as_bytes())?;
        Ok(snapshot)
    }

    /// A file from elsewhere, kept at `path`.
    ///
    /// # Errors
    /// When the file cannot be had whole.
    pub fn fetch_from(
        &self,
        url: &str,
        path: &Path,
        sha256: &str,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        if path.is_file() {
            return Ok(());
        }
        if self.offline {
            return Err(HubError::Offline(path.display().to_string()));
        }
        let expected = Expected { size: None, sha256: Some(sha256.to_owned()) };
        transfer::fetch(&self.agent, url, None, path, &expected, progress)
    }
}

fn agent() -> ureq::Agent {
    let roots =
        ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder()
        .tls_config(roots)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(ANSWER_TIMEOUT))
        .user_agent(concat!("var-dd/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
    |source| HubError::Disk { path: path.to_owned(), missing: 0, source }
}

/// Makes a snapshot's link to its blob, with a relative path as the hub's own client does.
fn link(blob: &Path, snapshot: &Path, file: HubFile) -> Result<(), HubError> {
    let directory = snapshot.parent().unwrap_or(snapshot);
    fs::create_dir_all(directory).map_err(disk(directory))?;
    // Up from the file's directory, the commit and `snapshots`.
    let up = "../".repeat(2 + file.path.matches('/').count());
    let name = blob.file_name().unwrap_or_default();
    let target = PathBuf::from(up).join("blobs").join(name);
    match std::os::unix::fs::symlink(target, snapshot) {
        // A link to a blob that is gone is in the way, or another process was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map_err(disk(snapshot)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(disk(directory))?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path)).map_err(disk(path))
}
