//! A cluster of real programs: a broker, an object store, gateways and workers.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::program::{PATIENCE, demo_model, var_dd};

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

/// A process that ends with the test.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// A gateway and where it listens.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// `127.0.0.1:port`.
    pub address: String,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn variable(name: &str) -> Result<PathBuf> {
    env::var_os(name).map(PathBuf::from).with_context(|| {
        format!("the variable {name} is not set; `cargo xtask test` fetches what it names")
    })
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let log = log.clone();
            // Read to the end: a full pipe would stop the process.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_str(&format!("{line}\n"));
                }
            });
        }
        Ok(Self { child, log })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said something.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_said(&mut self, text: &str) -> Result<String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}) before it said {text:?}:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("it did not say {text:?}; it said:\n{}", self.log());
    }

    /// Sends a signal, as `STOP`.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if !told.success() {
            bail!("kill -{name}: {told}");
        }
        Ok(())
    }

    /// Kills it at once.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.kill();
    }
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
        worker.until_said("takes jobs")?;
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
        let line = process.until_said("http://127.0.0.1:")?;
        let (_, rest) = line.split_once("http://").context("an address")?;
        let address = rest.split('/').next().context("an address")?.to_owned();
        Ok(Gateway { process, address })
    }
}

impl Gateway {
    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
