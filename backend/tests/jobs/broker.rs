//! A NATS server of a test.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

use crate::ports::free_port;

/// A server with JetStream that ends with the test.
pub(crate) struct Broker {
    program: PathBuf,
    port: u16,
    directory: TempDir,
    child: Child,
}

impl Broker {
    /// A new one with nothing in it.
    ///
    /// # Panics
    /// When there is no nats-server.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines of configuration.
    ///
    /// # Panics
    /// When there is no nats-server.
    pub(crate) async fn start_with(more: &str) -> Self {
        let mut broker = Self::start_at(free_port().unwrap(), more);
        broker.ready().await;
        broker
    }

    fn start_at(port: u16, more: &str) -> Self {
        let program =
            std::env::var_os("VAR_DD_NATS_SERVER").map_or("nats-server".into(), PathBuf::from);
        let directory = TempDir::new().unwrap();
        configure(port, directory.path(), more);
        let child = spawn(&program, directory.path());
        Self { program, port, directory, child }
    }

    /// Three servers that keep a copy of everything each.
    ///
    /// # Panics
    /// When there is no nats-server.
    pub(crate) async fn start_three() -> Vec<Self> {
        let ports: Vec<u16> = (0..6).map(|_| free_port().unwrap()).collect();
        let (ports, routes) = ports.split_at(3);
        let all: Vec<_> =
            routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let all = all.join(", ");
        let mut brokers = Vec::new();
        for (at, (port, route)) in ports.iter().zip(routes).enumerate() {
            let more = format!(
                "server_name: \"server-{at}\"\ncluster {{ name: three, listen: \
                 \"127.0.0.1:{route}\", routes: [{all}] }}"
            );
            brokers.push(Self::start_at(*port, &more));
        }
        for broker in &mut brokers {
            broker.ready().await;
        }
        brokers
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The same for a user, whose password is the name.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("nats://{user}:{user}@127.0.0.1:{}", self.port)
    }

    async fn ready(&mut self) {
        for _ in 0..3_000 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("nats-server has ended ({status}):\n{}", self.log());
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("nats-server does not listen on {}:\n{}", self.port, self.log());
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.directory.path())).unwrap_or_default()
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on what it had kept.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.program, self.directory.path());
        self.ready().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("nats.log")
}

fn configure(port: u16, directory: &Path, more: &str) {
    // As the page on scale says: every message is on the disk before it is acknowledged.
    let store = directory.join("jetstream");
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
         {more}\n"
    );
    std::fs::write(directory.join("nats.conf"), text).unwrap();
}

fn spawn(program: &Path, directory: &Path) -> Child {
    Command::new(program)
        .arg("-c")
        .arg(directory.join("nats.conf"))
        .stdout(Stdio::null())
        .stderr(File::options().create(true).append(true).open(log_file(directory)).unwrap())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{} cannot be run ({error}); `cargo xtask test` fetches nats-server and names it in \
                 VAR_DD_NATS_SERVER",
                program.display()
            )
        })
}
