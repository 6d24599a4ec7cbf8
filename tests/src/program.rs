//! The real program as a child process.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use var_dd_protocol::ServerInfo;

/// Longer than anything here takes on a slow, busy machine; ends a test that would hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The demo model.
pub fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../static/demo-model")
}

/// `var-dd` with (next to) no environment: it must run when called directly.
///
/// # Errors
/// When the program is not there.
pub fn var_dd() -> Result<Command> {
    let path = match env::var_os("VAR_DD_PROGRAM") {
        Some(path) => PathBuf::from(path),
        // Tests lie in target/debug/deps, binaries in target/debug.
        None => {
            let own = env::current_exe()?;
            own.ancestors()
                .skip(1)
                .take(2)
                .map(|directory| directory.join("var-dd"))
                .find(|path| path.is_file())
                .context("there is no var-dd beside the tests")?
        }
    };
    if !path.is_file() {
        bail!("{} is not there; run `cargo xtask test`, which builds it", path.display());
    }
    let mut command = Command::new(path);
    // Several programs share the cores here, and threads of libtorch that wait for each other spin.
    command.env_clear().env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    Ok(command)
}

/// A running `var-dd serve` with a data directory of its own. Killed when dropped.
pub struct Program {
    child: Child,
    address: String,
    data: TempDir,
    arguments: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Program {
    /// Starts a server with the demo model, further arguments and an empty data directory on a free
    /// port.
    ///
    /// # Errors
    /// When it does not come up; with what it said.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let data = TempDir::new()?;
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let log = Arc::default();
        let (child, address) = spawn(&arguments, data.path(), "127.0.0.1:0", &log)?;
        Ok(Self { child, address, data, arguments, log })
    }

    /// Kills the server at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the server to stop, as Ctrl-C and service managers do.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn terminate(&self) -> Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !told.success() {
            bail!("kill: {told}");
        }
        Ok(())
    }

    /// Asks the server to stop and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// Waits for the end of the server.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the server did not stop; it said:\n{}", self.log());
    }

    /// Starts the server again at the same address with the same data directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        (self.child, self.address) =
            spawn(&self.arguments, self.data.path(), &self.address, &self.log)?;
        Ok(())
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path on the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the server offers.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn info(&self) -> Result<ServerInfo> {
        Ok(reqwest::get(self.url("/api/info")).await?.error_for_status()?.json().await?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.kill();
    }
}

fn spawn(
    arguments: &[String],
    data: &Path,
    listen: &str,
    log: &Arc<Mutex<String>>,
) -> Result<(Child, String)> {
    let mut command = var_dd()?;
    command.args(["serve", "--listen", listen, "--model"]).arg(demo_model());
    command.arg("--data-dir").arg(data).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let (lines, received) = mpsc::channel();
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|output| Box::new(output) as _),
        child.stderr.take().map(|output| Box::new(output) as _),
    ];
    for output in outputs.into_iter().flatten() {
        let (lines, log) = (lines.clone(), log.clone());
        // Read to the end whoever listens: a full pipe would stop the server.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
                let _ = lines.send(line);
            }
        });
    }
    drop(lines);
    let start = Instant::now();
    while let Ok(line) = received.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
        if let Some(address) = address_in(&line) {
            return Ok((child, address));
        }
    }
    let _ = child.kill();
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    bail!("the server did not say where it listens; it said:\n{log}");
}

/// The `127.0.0.1:port` of an address in a line.
fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (digits > 0 && &rest[..digits] != "0").then(|| format!("127.0.0.1:{}", &rest[..digits]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_the_server_says() {
        let line = "INFO serving the playground on http://127.0.0.1:40123/ with 1 model";
        assert_eq!(address_in(line).as_deref(), Some("127.0.0.1:40123"));
        assert_eq!(address_in("INFO loading static/demo-model"), None);
    }
}
