//! Files of a public model hub, through its own cache.
//!
//! Layout and variables are those of the hub's own client, so that both share what either has
//! fetched: `models--{owner}--{name}/refs/{revision}` names a commit, `snapshots/{commit}/{path}`
//! links to `blobs/{etag}`, what is under way is `blobs/{etag}.incomplete`, and
//! `.locks/models--{owner}--{name}/{etag}.lock` is locked meanwhile. `HF_HUB_CACHE` or `HF_HOME`
//! say where, `HF_ENDPOINT` which hub, `HF_TOKEN` who asks, `HF_HUB_DISABLE_IMPLICIT_TOKEN` that
//! nobody is to be named, `HF_HUB_OFFLINE` that only the cache is to be used.

mod environment;
mod lock;
mod transfer;

use std::{
    env,
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use self::environment::Environment;
pub use self::{
    environment::{torch_home, user_cache, without_user},
    lock::Lock,
    transfer::{Expected, Progress, sha256_of},
};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time until an answer has begun.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for further bytes; a connection that stalls is given up for another one.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

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
    #[error(
        "{0} is not in the cache, and nothing may be fetched (--offline, or HF_HUB_OFFLINE or \
         TRANSFORMERS_OFFLINE is set)"
    )]
    Offline(String),
    /// What is kept of a file is not the file, and another one cannot be had.
    #[error(
        "{} is damaged: {reason}; the same command fetches it anew where it reaches the network",
        .path.display()
    )]
    Damaged {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable that cannot be used.
    #[error("the variable {name} is {value:?}: {reason}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers.
    #[error("{} cannot be reached: {reason}", without_user(.url))]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The answer is a refusal.
    #[error("{} answered with status {status}{}", without_user(.url), advice(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is not a hub's.
    #[error("{} does not answer as a hub does: {reason}; check HF_ENDPOINT", without_user(.url))]
    Answer {
        /// What was asked for.
        url: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The connection broke again and again.
    #[error(
        "{} broke off after {received} of {size} bytes, {attempts} times without getting \
         further ({reason}); the same command goes on there",
        without_user(.url)
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
        "{} is damaged: its SHA-256 is {found} and should be {expected}; what was fetched has \
         been discarded",
        without_user(.url)
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
        "{} is {found} bytes long and should be {expected}; what was fetched has been discarded",
        without_user(.url)
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
    let needed = match missing {
        _ if error.kind() != ErrorKind::StorageFull => return String::new(),
        0 => String::new(),
        missing => format!("{missing} more bytes are needed. "),
    };
    format!(
        "; {needed}Make room, or keep the cache on a larger disk (HF_HUB_CACHE or HF_HOME; for \
         Inception TORCH_HOME); the same command goes on there"
    )
}

/// A hub and its cache.
pub struct Hub {
    environment: Environment,
    offline: bool,
}

impl Hub {
    /// The hub that the environment describes.
    ///
    /// # Errors
    /// [`HubError::Variable`] when a variable cannot be used.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        let environment = Environment::read(&|name| env::var_os(name))?;
        Ok(Self { offline: offline || environment.offline, environment })
    }

    /// A client for an address: with the proxy that leads there.
    fn agent(&self, url: &str) -> Result<ureq::Agent, HubError> {
        let roots =
            ureq::tls::TlsConfig::builder().root_certs(self.environment.roots.clone()).build();
        let config = ureq::Agent::config_builder()
            .tls_config(roots)
            .proxy(self.environment.proxy(url)?)
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("var-dd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(config.into())
    }

    /// Address of a file.
    pub fn url(&self, file: HubFile) -> String {
        format!("{}/{}/resolve/main/{}", self.environment.endpoint, file.repository, file.path)
    }

    fn repository(&self, file: HubFile) -> PathBuf {
        self.environment.cache.join(repository_name(file))
    }

    /// A file as the cache has it, if it does.
    pub fn cached(&self, file: HubFile) -> Option<PathBuf> {
        let repository = self.repository(file);
        let commit = fs::read_to_string(repository.join("refs/main")).ok()?;
        let path = repository.join("snapshots").join(commit.trim()).join(file.path);
        path.is_file().then_some(path)
    }

    /// A file, fetched if the cache has not the newest one whole. Where the hub cannot be reached
    /// or does not give it, an older one will do. Of several processes that want the same file one
    /// fetches it, and the others wait. What has a hash by [`hash_in_name`] is compared with it.
    ///
    /// # Errors
    /// [`HubError::Offline`] when only the cache may be used and has not got it,
    /// [`HubError::Damaged`] when what it has is not the file, [`HubError::Disk`] when the file
    /// cannot be kept, and the others when the hub does not give it whole.
    pub fn fetch(&self, file: HubFile, progress: &mut Progress<'_>) -> Result<PathBuf, HubError> {
        let cached = self.cached(file);
        if self.offline {
            let missing = || HubError::Offline(format!("{}/{}", file.repository, file.path));
            return cached.ok_or_else(missing).and_then(compared);
        }
        let url = self.url(file);
        let agent = self.agent(&url)?;
        let token = self.environment.token.as_deref();
        let about = match (transfer::about(&agent, &url, token), cached) {
            // What the hub has no longer is not what was asked for; anything else may pass.
            (Err(error @ HubError::Status { status: 404, .. }), Some(_)) => return Err(error),
            (
                Err(
                    error @ (HubError::Unreachable { .. }
                    | HubError::Status { .. }
                    | HubError::Answer { .. }),
                ),
                Some(path),
            ) => {
                tracing::warn!(
                    reason = %error,
                    file = file.path,
                    "the hub does not give it; using what the cache has"
                );
                return compared(path);
            }
            (about, _) => about?,
        };
        let repository = self.repository(file);
        let snapshot = repository.join("snapshots").join(&about.commit).join(file.path);
        let blob = repository.join("blobs").join(&about.etag);
        let sha256 = is_sha256(&about.etag).then(|| about.etag.to_ascii_lowercase());
        // A transfer that was cut leaves a shorter file, a disk that fails another one.
        let is_whole = |path: &Path| {
            let has_hash =
                |sha256: &String| transfer::sha256_of(path).is_ok_and(|found| found == *sha256);
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == about.size)
                && sha256.as_ref().is_none_or(has_hash)
        };
        if !is_whole(&snapshot) {
            let lock = self.environment.cache.join(".locks").join(repository_name(file));
            let lock = lock.join(format!("{}.lock", about.etag));
            let _lock = Lock::acquire(&lock, &mut || {
                tracing::info!(file = file.path, "another process fetches it; waiting");
            });
            // Meanwhile somebody else may have fetched it.
            if !is_whole(&blob) {
                if blob.exists() {
                    tracing::warn!(
                        file = file.path,
                        "what the cache has is cut off or damaged; fetching anew"
                    );
                    fs::remove_file(&blob).map_err(disk(&blob))?;
                }
                let expected = Expected { size: Some(about.size), sha256: sha256.clone() };
                transfer::fetch(&agent, &url, token, &blob, &expected, progress)?;
            }
            if !leads_to(&snapshot, &blob) {
                link(&blob, &snapshot, file)?;
            }
        }
        let reference = repository.join("refs/main");
        if fs::read_to_string(&reference).is_ok_and(|commit| commit.trim() == about.commit) {
            return Ok(snapshot);
        }
        if let Err(error) = write(&reference, about.commit.as_bytes()) {
            // The file is there all the same, in a cache that others fill.
            tracing::debug!(%error, "the cache's reference stays as it is");
        }
        Ok(snapshot)
    }

    /// A file from elsewhere, kept at `path`.
    ///
    /// # Errors
    /// As [`Hub::fetch`].
    pub fn fetch_from(
        &self,
        url: &str,
        path: &Path,
        sha256: &str,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        let begins = sha256.to_lowercase();
        let is_whole = || transfer::sha256_of(path).is_ok_and(|found| found.starts_with(&begins));
        if is_whole() {
            return Ok(());
        }
        if self.offline && path.is_file() {
            let reason = format!("its SHA-256 does not begin with {begins}");
            return Err(HubError::Damaged { path: path.to_owned(), reason });
        }
        if self.offline {
            return Err(HubError::Offline(path.display().to_string()));
        }
        if path.is_file() {
            tracing::warn!(file = %path.display(), "what is there is damaged; fetching anew");
        }
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".lock");
        let _lock = Lock::acquire(&path.with_file_name(name), &mut || {
            tracing::info!(file = %path.display(), "another process fetches it; waiting");
        })
        .removed_in_the_end();
        if is_whole() {
            return Ok(());
        }
        let expected = Expected { size: None, sha256: Some(sha256.to_owned()) };
        transfer::fetch(&self.agent(url)?, url, None, path, &expected, progress)
    }
}

/// The directory of a file's repository in the cache.
fn repository_name(file: HubFile) -> String {
    format!("models--{}", file.repository.replace('/', "--"))
}

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
    |source| HubError::Disk { path: path.to_owned(), missing: 0, source }
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The SHA-256 that a file of the cache must have, in hexadecimal: large ones lead to a blob that
/// is named by it.
pub fn hash_in_name(path: &Path) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let name = blob.file_name()?.to_str()?;
    is_sha256(name).then(|| name.to_ascii_lowercase())
}

/// A file of the cache, if it is the one that its name says.
fn compared(path: PathBuf) -> Result<PathBuf, HubError> {
    let Some(expected) = hash_in_name(&path) else { return Ok(path) };
    let reason = match transfer::sha256_of(&path) {
        Ok(found) if found == expected => return Ok(path),
        Ok(found) => format!("its SHA-256 is {found} and should be {expected}"),
        Err(error) => format!("it cannot be read: {error}"),
    };
    Err(HubError::Damaged { path, reason })
}

fn leads_to(link: &Path, file: &Path) -> bool {
    match (link.canonicalize(), file.canonicalize()) {
        (Ok(end), Ok(file)) => end == file,
        _ => false,
    }
}

/// Makes a snapshot's link to its blob, with a relative path as the hub's own client does.
fn link(blob: &Path, snapshot: &Path, file: HubFile) -> Result<(), HubError> {
    let directory = snapshot.parent().unwrap_or(snapshot);
    fs::create_dir_all(directory).map_err(disk(directory))?;
    // Up from the file's directory, the commit and `snapshots`.
    let up = "../".repeat(2 + file.path.matches('/').count());
    let name = blob.file_name().unwrap_or_default();
    let target = PathBuf::from(up).join("blobs").join(name);
    // A link to a blob that is gone, or a file that was cut off, gives way.
    match fs::remove_file(snapshot) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(disk(snapshot)(error)),
        _ => {}
    }
    std::os::unix::fs::symlink(target, snapshot).map_err(disk(snapshot))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(disk(directory))?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path)).map_err(disk(path))
}
