//! A cluster of real programs: a broker, an object store, gateways and workers.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    ports::free_port,
    process::{PATIENCE, Process},
    program::{address_in, demo_model, var_dd},
};

const BUCKET: &str = "pictures";

/// The parts between the machines.
pub struct Cluster {
    /// The broker.
    pub broker: Process,
    /// The object store.
    pub store: Process,
    nats_port: u16,
    s3_port: u16,
    _directory: TempDir,
}

/// A gateway and where it listens.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// `127.0.0.1:port`.
    pub address: String,
}

fn variable(name: &str) -> Result<PathBuf> {
    env::var_os(name).map(PathBuf::from).with_context(|| {
        format!("the variable {name} is not set; `cargo xtask test` fetches what it names")
    })
}

impl Cluster {
    /// A broker and an object store with nothing in them.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let (nats_port, s3_port) = (free_port()?, free_port()?);
        let config = directory.path().join("nats.conf");
        let kept = directory.path().join("jetstream");
        std::fs::write(
            &config,
            format!(
                "listen: \"127.0.0.1:{nats_port}\"\njetstream {{ store_dir: {kept:?}, \
                 sync_interval: always }}\n"
            ),
        )?;
        let mut nats = Command::new(variable("VAR_DD_NATS_SERVER")?);
        let broker = Process::start(nats.arg("-c").arg(config))?;
        let mut s3 = Command::new("python3");
        s3.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &s3_port.to_string()]);
        s3.env("PYTHONPATH", variable("VAR_DD_S3_PACKAGES")?);
        let store = Process::start(&mut s3)?;
        let cluster = Self { broker, store, nats_port, s3_port, _directory: directory };
        cluster.until(|| TcpStream::connect(("127.0.0.1", nats_port)).is_ok())?;
        cluster.until(|| cluster.make_bucket().unwrap_or(false))?;
        Ok(cluster)
    }

    fn until(&self, is_so: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > PATIENCE {
                bail!("no answer:\n{}\n{}", self.broker.log(), self.store.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn make_bucket(&self) -> Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.s3_port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: \
             close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer[9..] == b"200")
    }

    /// The program in a role of this cluster.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn member(&self, role: &str) -> Result<Command> {
        let mut command = var_dd()?;
        command.arg(role).arg(format!("--nats=nats://127.0.0.1:{}", self.nats_port));
        command.arg(format!("--results=s3://{BUCKET}/playground"));
        command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.s3_port));
        command.env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
        Ok(command)
    }

    /// A worker with the demo model; jobs of workers that say nothing for a second are given to
    /// others.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn worker(&self, name: &str) -> Result<Process> {
        let mut command = self.member("worker")?;
        command.arg("--model").arg(demo_model()).arg(format!("--name={name}"));
        command.args(["--ack-wait-s=1", "--threads=1"]);
        let mut worker = Process::start(&mut command)?;
        worker.until(|line| line.contains("takes jobs").then_some(()))?;
        Ok(worker)
    }

    /// A gateway, once a worker is there.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn gateway(&self) -> Result<Gateway> {
        let mut command = self.member("gateway")?;
        command.args(["--listen=127.0.0.1:0", "--jobs-per-minute=0"]);
        let mut process = Process::start(&mut command)?;
        let address = process.until(address_in).context("it did not say where it listens")?;
        Ok(Gateway { process, address })
    }
}

impl Gateway {
    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
