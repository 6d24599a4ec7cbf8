//! A hub on loopback: what the real one answers, and what can go wrong on the way.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

/// The commit that `main` is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a hub does to the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// Closes the connection after that many bytes of each answer.
    Cuts(usize),
    /// Closes the connection once that many bytes of the file are there.
    Stops(usize),
    /// Changes one byte.
    Damages,
    /// Sends the bytes in many pieces, with a rest between them.
    Dawdles,
    /// Has moved to another path, named by its full address.
    HasMoved,
}

pub(crate) struct StandIn {
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl StandIn {
    /// Serves files by `owner/name/path` until the test ends.
    pub(crate) fn start(files: &[(&str, &[u8])], fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::<Mutex<Vec<String>>>::default();
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let stand_in = Self { address: address.clone(), log: log.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that has gone needs no answer.
                let _ = answer(stream, &address, &files, fault, &log);
            }
        });
        stand_in
    }

    /// Requests so far: method, path, and where a range begins.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    address: &str,
    files: &BTreeMap<String, Vec<u8>>,
    fault: Fault,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut start = None;
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let range = start.map(|start| format!(" from {start}")).unwrap_or_default();
    log.lock().unwrap().push(format!("{method} {path}{range}"));
    let (place, elsewhere) = match path.strip_prefix("/elsewhere/") {
        Some(place) => (place.to_owned(), true),
        None => (path.trim_start_matches('/').replace("/resolve/main", ""), false),
    };
    let place = match place.strip_prefix("moved/") {
        Some(place) => place.to_owned(),
        None if matches!(fault, Fault::HasMoved) && !elsewhere => {
            return write!(
                stream,
                "HTTP/1.1 308 Permanent Redirect\r\nLocation: {address}/moved{path}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        None => place,
    };
    let Some(bytes) = files.get(&place) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    if !elsewhere {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {address}/elsewhere/{place}\r\nX-Repo-Commit: {COMMIT}\r\n\
             X-Linked-Size: {}\r\nX-Linked-Etag: \"{}\"\r\nETag: \"of-the-redirect\"\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            bytes.len(),
            sha256(bytes)
        );
    }
    let from = start.unwrap_or(0).min(bytes.len());
    let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len() - from
    )?;
    let mut sent = bytes[from..].to_vec();
    match fault {
        Fault::None | Fault::HasMoved => {}
        Fault::Dawdles => {
            for piece in sent.chunks(sent.len().div_ceil(40).max(1)) {
                stream.write_all(piece)?;
                thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
        Fault::Cuts(count) => sent.truncate(count),
        Fault::Stops(count) => sent.truncate(count.saturating_sub(from)),
        Fault::Damages => sent[0] ^= 1,
    }
    stream.write_all(&sent)
}
