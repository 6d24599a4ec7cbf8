//! A proxy between browser and server, with the faults that proxies have.

use std::sync::Arc;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What a proxy does to the head of a request.
type Edit = Arc<dyn Fn(Head) -> Head + Send + Sync>;

/// The head of a request.
pub struct Head {
    /// Method, target and version.
    pub line: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// Whether the server gets the request and the client no answer.
    pub loses_answer: bool,
}

impl Head {
    fn of(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Self { line, headers: headers.collect(), loses_answer: false }
    }

    fn text(&self) -> String {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{}\r\n{}\r\n", self.line, headers.collect::<String>())
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Without the headers of a name.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// With one header of a name.
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut head = self.without(name);
        head.headers.push((name.to_owned(), value.to_owned()));
        head
    }
}

/// A running proxy. Stops when dropped.
pub struct Proxy {
    address: String,
    silenced: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `target` that passes everything on.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: &str) -> Result<Self> {
        Self::editing(target, |head| head).await
    }

    /// A proxy that changes the head of every request.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn editing(
        target: &str,
        edit: impl Fn(Head) -> Head + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (silenced, silence) = watch::channel(0);
        let (target, edit): (String, Edit) = (target.to_owned(), Arc::new(edit));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, edit, silence) = (target.clone(), edit.clone(), silence.clone());
                tokio::spawn(async move {
                    // A connection that breaks is the business of its two ends.
                    let _ = pass_on(client, &target, &edit, silence).await;
                });
            }
        });
        Ok(Self { address, silenced, task })
    }

    /// Where it listens, as the origin of a page.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets every connection there is go silent without closing it; new ones work.
    pub fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(
    mut client: TcpStream,
    target: &str,
    edit: &Edit,
    mut silence: watch::Receiver<u64>,
) -> Result<()> {
    silence.mark_unchanged();
    let mut server = TcpStream::connect(target).await?;
    let mut read = Vec::new();
    let end = loop {
        let mut some = [0; 4096];
        let count = client.read(&mut some).await?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&some[..count]);
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = edit(Head::of(&String::from_utf8_lossy(&read[..end])));
    let loses_answer = head.loses_answer;
    // One request a connection, so that no other head has to be found in what follows.
    let head = if head.has("upgrade") { head } else { head.with("Connection", "close") };
    server.write_all(head.text().as_bytes()).await?;
    server.write_all(&read[end + 4..]).await?;
    if loses_answer {
        let (mut rest, _) = client.split();
        let (mut answer, mut to_server) = server.split();
        let mut nowhere = sink();
        tokio::select! {
            lost = copy(&mut answer, &mut nowhere) => drop(lost?),
            passed = copy(&mut rest, &mut to_server) => drop(passed?),
        }
        return Ok(());
    }
    tokio::select! {
        passed = copy_bidirectional(&mut client, &mut server) => drop(passed?),
        _ = silence.changed() => std::future::pending().await,
    }
    Ok(())
}
