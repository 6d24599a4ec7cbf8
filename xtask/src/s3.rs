//! An S3 server for trying and testing clusters: moto (Apache 2.0), which keeps objects in memory.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{python, stage::stage};

/// The server with what it needs.
const PACKAGES: [&str; 3] = ["moto[s3]==5.2.5", "flask==3.1.2", "flask-cors==6.0.1"];

/// For the server to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds or fetches the packages; returns the directory that they lie in.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn ensure() -> Result<PathBuf> {
    stage("s3", "looking for the object store of a cluster", || {
        let directory = python::packages("moto-5.2.5", &PACKAGES)?;
        let said = directory.display().to_string();
        Ok((directory, said))
    })
}

/// Starts the server on a port of this machine and makes a bucket in it.
///
/// # Errors
/// When it does not come up.
pub(crate) fn start(packages: &Path, port: u16, bucket: &str) -> Result<Child> {
    let mut command = Command::new(python::interpreter()?);
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.env("PYTHONPATH", packages).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("the S3 server cannot be started")?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if make_bucket(port, bucket).is_ok_and(|made| made) {
            return Ok(child);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the S3 server ended ({status}); is port {port} free?");
        }
        thread::sleep(Duration::from_millis(100));
    }
    // What does not answer is of no use.
    let _ = child.kill();
    bail!("the S3 server does not answer on port {port}");
}

fn make_bucket(port: u16, bucket: &str) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "PUT /{bucket} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: \
         close\r\n\r\n"
    )?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(&answer[9..] == b"200")
}
