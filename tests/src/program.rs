//! The real program as a child process.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use var_dd_protocol::ServerInfo;

pub use crate::process::PATIENCE;
use crate::process::Process;

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
    process: Process,
    address: String,
    data: TempDir,
    model: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// Starts a server with the demo model, further arguments and an empty data directory on a free
    /// port.
    ///
    /// # Errors
    /// When it does not come up; with what it said.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_with(&demo_model(), arguments)
    }

    /// The same with another model.
    ///
    /// # Errors
    /// When it does not come up; with what it said.
    pub fn start_with(model: &Path, arguments: &[&str]) -> Result<Self> {
        let (data, model) = (TempDir::new()?, model.to_owned());
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut process =
            Process::start(&mut server(&model, &arguments, data.path(), "127.0.0.1:0")?)?;
        let address = process.until(address_in)?;
        Ok(Self { process, address, data, model, arguments })
    }

    /// Kills the server at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks the server to stop, as Ctrl-C and service managers do.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn terminate(&self) -> Result<()> {
        self.process.signal("TERM")
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
        self.process.wait().context("the server did not stop")
    }

    /// Starts the server again at the same address with the same data directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        let mut server = server(&self.model, &self.arguments, self.data.path(), &self.address)?;
        self.process.restart(&mut server)?;
        self.address = self.process.until(address_in)?;
        Ok(())
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
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
        self.process.log()
    }

    /// What the server offers.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn info(&self) -> Result<ServerInfo> {
        Ok(reqwest::get(self.url("/api/info")).await?.error_for_status()?.json().await?)
    }
}

/// The program as a server.
fn server(model: &Path, arguments: &[String], data: &Path, listen: &str) -> Result<Command> {
    let mut command = var_dd()?;
    command.args(["serve", "--listen", listen, "--model"]).arg(model);
    command.arg("--data-dir").arg(data).args(arguments);
    Ok(command)
}

/// The `127.0.0.1:port` of an address in a line.
pub(crate) fn address_in(line: &str) -> Option<String> {
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
