//! One file over HTTP: resumed where it broke off, and checked before it gets its name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};
use ureq::{Agent, Body, http::Response};
use url::Url;

use super::HubError;
use var_dd_engine::input_file;

/// Attempts without a further byte after which a transfer is given up.
const ATTEMPTS: u32 = 5;

/// Wait after the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Redirects within the hub that are followed for metadata, as of a repository that was renamed.
const MAX_REDIRECTS: usize = 5;

/// Told of the bytes that are there, and of how many there will be.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) + 'a;

/// What a file must be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Bytes, if known.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal, or how it begins.
    pub sha256: Option<String>,
}

/// What a hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) commit: String,
    pub(super) etag: String,
    pub(super) size: u64,
}

/// Where a redirect leads, if that is the same host, whatever the scheme and port.
fn on_same_host(place: &str, location: &str) -> Option<String> {
    let place = Url::parse(place).ok()?;
    let next = place.join(location).ok()?;
    let same = matches!(next.scheme(), "http" | "https") && next.host() == place.host();
    same.then(|| next.into())
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether a name from the network can be a file name: a digest in any notation that needs no
/// slash.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+=".contains(&byte))
}

/// Asks a hub about a file. Large ones lie elsewhere; what the hub itself says of them counts, so
/// redirects to other places are not followed.
pub(super) fn about(agent: &Agent, url: &str, token: Option<&str>) -> Result<About, HubError> {
    let mut place = url.to_owned();
    let mut token = token;
    for _ in 0..=MAX_REDIRECTS {
        let mut request =
            agent.head(&place).config().max_redirects(0).max_redirects_will_error(false).build();
        request = request.header("Accept-Encoding", "identity");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| unreachable(url, &error))?;
        let status = response.status().as_u16();
        let describes =
            ["x-linked-etag", "x-repo-commit"].iter().all(|name| header(&response, name).is_some());
        let next =
            header(&response, "location").and_then(|location| on_same_host(&place, location));
        match (status, next) {
            (300..=399, Some(next)) if !describes => {
                if place.starts_with("https:") && next.starts_with("http:") {
                    // Nobody on the way is to read it.
                    token = None;
                }
                place = next;
            }
            (200..=399, _) => return read_about(url, &response),
            _ => return Err(HubError::Status { url: url.to_owned(), status }),
        }
    }
    Err(HubError::Answer { url: url.to_owned(), reason: "it redirects in a circle" })
}

fn read_about(url: &str, response: &Response<Body>) -> Result<About, HubError> {
    let missing = |reason| HubError::Answer { url: url.to_owned(), reason };
    let commit = header(response, "x-repo-commit").ok_or_else(|| missing("no commit is named"))?;
    let etag = header(response, "x-linked-etag").or_else(|| header(response, "etag"));
    let etag = etag.ok_or_else(|| missing("no etag is named"))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let size = header(response, "x-linked-size").or_else(|| header(response, "content-length"));
    let size =
        size.and_then(|size| size.parse().ok()).ok_or_else(|| missing("no size is named"))?;
    if !is_plain(commit) || !is_plain(etag) {
        return Err(missing("commit or etag is no plain name"));
    }
    Ok(About { commit: commit.to_owned(), etag: etag.to_owned(), size })
}

fn unreachable(url: &str, error: &ureq::Error) -> HubError {
    HubError::Unreachable { url: url.to_owned(), reason: error.to_string() }
}

/// How one attempt ended.
enum Attempt {
    /// With the last byte.
    Whole,
    /// The connection broke, or the server has trouble; another attempt may help.
    Broken(String),
}

/// Fetches a file to `path`. What is under way lies beside it as `….incomplete`, and another call
/// goes on with it.
///
/// # Errors
/// When it cannot be fetched whole and right.
pub(super) fn fetch(
    agent: &Agent,
    url: &str,
    token: Option<&str>,
    path: &Path,
    expected: &Expected,
    progress: &mut Progress<'_>,
) -> Result<(), HubError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(super::disk(directory))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".incomplete");
    let mut unfinished = Unfinished::open(PathBuf::from(name))?;
    let mut size = expected.size;
    let mut fruitless = 0;
    let mut wait = FIRST_WAIT;
    loop {
        let before = unfinished.length;
        let attempt = unfinished.receive(agent, url, token, &mut size, progress)?;
        let reason = match attempt {
            Attempt::Whole => break,
            Attempt::Broken(reason) => reason,
        };
        fruitless = if unfinished.length > before { 0 } else { fruitless + 1 };
        if fruitless == ATTEMPTS {
            let received = unfinished.length;
            if received == 0 {
                return Err(HubError::Unreachable { url: url.to_owned(), reason });
            }
            let size = size.unwrap_or(received);
            return Err(HubError::Cut {
                url: url.to_owned(),
                received,
                size,
                attempts: ATTEMPTS,
                reason,
            });
        }
        tracing::info!(reason, received = unfinished.length, "the transfer broke off; going on");
        wait = if fruitless == 0 { FIRST_WAIT } else { wait * 2 };
        thread::sleep(wait);
    }
    unfinished.check(url, size, expected.sha256.as_deref())?;
    fs::rename(&unfinished.path, path).map_err(super::disk(&unfinished.path))
}

/// The SHA-256 of a regular file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    hexadecimal_digest(&mut input_file::open(path)?)
}

fn hexadecimal_digest(stream: &mut impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file under way. The caller holds a lock that keeps a second process from writing to it.
struct Unfinished {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Unfinished {
    fn open(path: PathBuf) -> Result<Self, HubError> {
        let open = || -> io::Result<(File, u64)> {
            let file = OpenOptions::new()
                .create(true)
                .read(true)
                .write(true)
                .truncate(false)
                .open(&path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().map_err(super::disk(&path))?;
        Ok(Self { file, length, path })
    }

    fn disk(&self, size: Option<u64>) -> impl Fn(io::Error) -> HubError + use<> {
        let (path, missing) = (self.path.clone(), size.unwrap_or(0).saturating_sub(self.length));
        move |source| HubError::Disk { path: path.clone(), missing, source }
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file
            .set_len(0)
            .or_else(|error| {
                // Devices have no length to set.
                if error.kind() == ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
            })
            .map_err(self.disk(None))?;
        self.length = 0;
        Ok(())
    }

    /// Receives what is missing.
    fn receive(
        &mut self,
        agent: &Agent,
        url: &str,
        token: Option<&str>,
        size: &mut Option<u64>,
        progress: &mut Progress<'_>,
    ) -> Result<Attempt, HubError> {
        if size.is_some_and(|size| self.length > size) {
            self.restart()?;
        }
        if *size == Some(self.length) {
            return Ok(Attempt::Whole);
        }
        let mut request = agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if self.length > 0 {
            request = request.header("Range", format!("bytes={}-", self.length));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Attempt::Broken(error.to_string())),
        };
        let announced =
            header(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
        match response.status().as_u16() {
            206 => {}
            // The server does not resume.
            200 => self.restart()?,
            416 => {
                self.restart()?;
                return Ok(Attempt::Broken("what was there is not part of the file".into()));
            }
            status @ (408 | 429 | 500..) => return Ok(Attempt::Broken(format!("status {status}"))),
            status => return Err(HubError::Status { url: url.to_owned(), status }),
        }
        if size.is_none() {
            *size = announced.map(|announced| announced + self.length);
        }
        self.file.seek(SeekFrom::Start(self.length)).map_err(self.disk(*size))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.file.write_all(&buffer[..count]).map_err(self.disk(*size))?;
                    self.length += count as u64;
                    progress(self.length, *size);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Attempt::Broken(error.to_string())),
            }
        }
        match *size {
            Some(size) if self.length < size => {
                Ok(Attempt::Broken("the connection was closed".into()))
            }
            _ => Ok(Attempt::Whole),
        }
    }

    /// Compares size and hash with what they should be; what is wrong is discarded.
    fn check(
        &mut self,
        url: &str,
        size: Option<u64>,
        sha256: Option<&str>,
    ) -> Result<(), HubError> {
        let discard = |error| {
            // What cannot be removed is overwritten by the next call, which finds it too long or
            // wrong again.
            let _ = fs::remove_file(&self.path);
            Err(error)
        };
        if let Some(expected) = size.filter(|&size| size != self.length) {
            return discard(HubError::Size { url: url.to_owned(), expected, found: self.length });
        }
        self.file.sync_all().map_err(self.disk(size))?;
        let Some(expected) = sha256 else { return Ok(()) };
        self.file.seek(SeekFrom::Start(0)).map_err(self.disk(size))?;
        let found = hexadecimal_digest(&mut self.file).map_err(self.disk(size))?;
        if found.starts_with(&expected.to_lowercase()) {
            return Ok(());
        }
        discard(HubError::Hash { url: url.to_owned(), expected: expected.to_owned(), found })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn a_transfer_that_stalls_goes_on_over_another_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                // As far as the empty line after the headers.
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                // The first one gives half, then nothing for ever.
                let answer = match open.len() {
                    0 => "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf",
                    _ => "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nmore",
                };
                stream.write_all(answer.as_bytes()).unwrap();
                open.push(stream);
            }
        });
        let config = Agent::config_builder()
            .proxy(None)
            .timeout_per_read(Some(Duration::from_millis(200)))
            .build();
        let agent: Agent = config.into();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let expected = Expected { size: Some(8), sha256: None };
        fetch(&agent, &url, None, &path, &expected, &mut |_, _| {}).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"halfmore");
    }

    #[test]
    fn an_etag_of_any_store_is_a_name_and_none_leads_out_of_its_directory() {
        for name in ["0a1b-2", "dGVzdA==", "a.b+c", "5d41_4"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", ".lock", "a/b", "a\\b", "a b", "ä"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
