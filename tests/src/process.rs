//! A child process, and what it says.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Longer than anything here takes on a slow, busy machine; ends a test that would hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

/// What a process, and those that came before it in its place, have said on both outputs.
type Said = Arc<Mutex<String>>;

/// A process that ends with the test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Said,
    /// Where in it the words of this process begin.
    begins: usize,
}

impl Process {
    /// Starts it without input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::start_after(command, Said::default())
    }

    /// Starts it anew, as this command, in the place of one that has ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, command: &mut Command) -> Result<()> {
        *self = Self::start_after(command, self.said.clone())?;
        Ok(())
    }

    fn start_after(command: &mut Command, said: Said) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let begins = said.lock().unwrap_or_else(PoisonError::into_inner).len();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let said = said.clone();
            // Read to the end whoever listens: a full pipe would stop the process.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.push_str(&format!("{line}\n"));
                }
            });
        }
        Ok(Self { child, said, begins })
    }

    /// What it has said so far, and what those before it said.
    pub fn log(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said a line from which `wanted` takes something.
    ///
    /// # Errors
    /// When it does not, or ends before; with what it said.
    pub fn until<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let began = Instant::now();
        let mut ended = None;
        while began.elapsed() < PATIENCE {
            if let Some(found) = self.log()[self.begins..].lines().find_map(&wanted) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("it ended ({status}); it said:\n{}", self.log());
            }
            // Its last words may be read after its end.
            ended = self.child.try_wait()?;
            thread::sleep(LOOK);
        }
        bail!("it did not say what was waited for; it said:\n{}", self.log());
    }

    /// Sends a signal, as `STOP`.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.id().to_string();
        let told = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if !told.success() {
            bail!("kill -{name}: {told}");
        }
        Ok(())
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
        bail!("it did not end; it said:\n{}", self.log());
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.kill();
    }
}
