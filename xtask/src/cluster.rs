//! `cargo xtask cluster`: a whole cluster on this machine.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGTERM};

use crate::{chores, libtorch, page, s3, tool, workspace};

const NATS_PORT: u16 = 4222;
const S3_PORT: u16 = 9555;
const GATEWAYS: [u16; 2] = [8080, 8081];
const WORKERS: usize = 2;
const BUCKET: &str = "var-dd";

/// Processes that end with this one.
struct Children(Vec<(String, Child)>);

impl Drop for Children {
    fn drop(&mut self) {
        // Those who came last first: workers give their jobs back to a broker that is there.
        for (_, child) in self.0.iter_mut().rev() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

/// Starts a broker, an S3 server, two gateways and two workers, and waits for Ctrl-C or another
/// signal to stop, or until one of them ends.
///
/// # Errors
/// When one does not start, or ends by itself.
pub(crate) fn run(debug: bool) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    let nats = tool::NATS_SERVER.ensure()?;
    let packages = s3::ensure()?;
    page::ensure()?;
    let program = chores::program(&libtorch, !debug)?;
    let directory = workspace::target().join("cluster");
    fs::create_dir_all(&directory)?;

    // Ctrl-C reaches all of them; a signal to this process alone is passed on by ending.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut children = Children(Vec::new());
    let config = directory.join("nats.conf");
    fs::write(&config, nats_config(&directory.join("jetstream")))?;
    let mut broker = Command::new(nats);
    broker.arg("-c").arg(&config).arg("-l").arg(directory.join("nats.log"));
    children.start("broker", &mut broker)?;
    children.0.push(("S3 server".into(), s3::start(&packages, S3_PORT, BUCKET)?));
    for port in GATEWAYS {
        let mut gateway = member(&program, "gateway");
        gateway.arg(format!("--listen=127.0.0.1:{port}"));
        children.start(&format!("gateway {port}"), &mut gateway)?;
    }
    for number in 1..=WORKERS {
        let mut worker = member(&program, "worker");
        worker.arg(format!("--name=worker-{number}")).args(["--threads", "1"]);
        children.start(&format!("worker {number}"), &mut worker)?;
    }
    let urls: Vec<_> = GATEWAYS.iter().map(|port| format!("http://127.0.0.1:{port}/")).collect();
    eprintln!("{:>10}  {} (Ctrl-C stops all)", "cluster", urls.join(" and "));
    while !stop.load(Ordering::Relaxed) {
        for (name, child) in &mut children.0 {
            if let Some(status) = child.try_wait()? {
                // Ctrl-C reaches all of them at once.
                if status.success() {
                    return Ok(());
                }
                bail!("the {name} ended: {status}; what it said stands above");
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

impl Children {
    fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("the {name} cannot be started"))?;
        self.0.push((name.to_owned(), child));
        Ok(())
    }
}

/// The program in a role.
fn member(program: &Path, role: &str) -> Command {
    let mut command = Command::new(program);
    workspace::without_cargo_run(&mut command);
    command.arg(role);
    command.arg(format!("--nats=nats://127.0.0.1:{NATS_PORT}"));
    command.arg(format!("--results=s3://{BUCKET}/playground"));
    command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{S3_PORT}"));
    command.env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
    command
}

/// A broker of this machine alone, that has every message on the disk before it says so.
fn nats_config(store: &Path) -> String {
    format!(
        "listen: \"127.0.0.1:{NATS_PORT}\"\njetstream {{ store_dir: {store:?}, sync_interval: \
         always }}\n"
    )
}
