//! The log: lines on the error stream that cost nobody anything.
//!
//! A line is handed to a thread of its own. Where the reader of the log has gone, its disk is full
//! or it does not keep up, lines are dropped: whoever caused them goes on all the same.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Lines that may wait for the thread that writes them.
const WAITING_LINES: usize = 4096;

/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

enum Message {
    Line(Vec<u8>),
    /// Everything before this is written.
    Reached(Sender<()>),
}

/// The log as long as the program needs it; waits for the last lines when dropped.
pub(crate) struct Log(SyncSender<Message>);

impl Log {
    /// Begins to log what `RUST_LOG` asks for, else everything from `info` on; in colours at a
    /// terminal, unless `NO_COLOR` is set.
    ///
    /// A `RUST_LOG` that cannot be read is told of in the log's first line.
    pub(crate) fn start() -> Self {
        let (sender, receiver) = sync_channel(WAITING_LINES);
        // Without threads there is no log; the program may do without.
        let _ = thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&receiver, &mut io::stderr()));
        let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (filter, wrong) = match filter(env::var_os(EnvFilter::DEFAULT_ENV)) {
            Ok(filter) => (filter, None),
            Err(wrong) => (EnvFilter::new("info"), Some(wrong)),
        };
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Lines(sender.clone()))
            // It would complain by a macro that panics.
            .log_internal_errors(false)
            .with_ansi(colours && io::stderr().is_terminal());
        // There is one already in tests that start the program twice; it serves as well.
        let _ = subscriber.try_init();
        if let Some(wrong) = wrong {
            tracing::warn!("{wrong}");
        }
        Self(sender)
    }
}

/// What `RUST_LOG` asks for: everything from `info` on where it is not set, or blank. Else what is
/// wrong with it.
fn filter(variable: Option<OsString>) -> Result<EnvFilter, String> {
    let value = variable.unwrap_or_default();
    let read = match value.to_str() {
        Some(text) => {
            // The library takes blanks for a part of names, and may panic at wide ones.
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let parts: Vec<&str> = parts.collect();
            if parts.is_empty() {
                return Ok(EnvFilter::new("info"));
            }
            EnvFilter::try_new(parts.join(",")).map_err(|error| error.to_string())
        }
        None => Err("it is no text in UTF-8".to_owned()),
    };
    read.map_err(|reason| {
        format!(
            "the variable RUST_LOG ({value:?}) counts for nothing: {reason}; give it as in info, \
             or as in warn,var_dd=debug"
        )
    })
}

impl Drop for Log {
    fn drop(&mut self) {
        let (reached, written) = channel();
        if self.0.try_send(Message::Reached(reached)).is_ok() {
            // A reader that does not keep up does not keep the program either.
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

fn write_lines(lines: &Receiver<Message>, stream: &mut impl Write) {
    for message in lines {
        match message {
            // Dropped if it cannot be written.
            Message::Line(line) => drop(stream.write_all(&line)),
            Message::Reached(reached) => drop(reached.send(())),
        }
    }
}

/// Makes writers that hand each event over as a whole.
struct Lines(SyncSender<Message>);

/// An event on its way.
struct Line {
    bytes: Vec<u8>,
    lines: SyncSender<Message>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new(), lines: self.0.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            // Where thousands wait already, nobody reads them.
            let _ = self.lines.try_send(Message::Line(std::mem::take(&mut self.bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose disk is full until so many lines were tried.
    struct Full(usize, Vec<u8>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_dropped_and_the_next_one_is_tried() {
        let (sender, receiver) = sync_channel(8);
        for text in ["one\n", "two\n", "three\n"] {
            let mut line = Line { bytes: Vec::new(), lines: sender.clone() };
            line.write_all(text.as_bytes()).unwrap();
        }
        drop(sender);
        let mut stream = Full(2, Vec::new());
        write_lines(&receiver, &mut stream);
        assert_eq!(stream.1, b"three\n");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_told_with_its_value() {
        for value in ["", " ,", "debug", "warn, var_dd=debug", "\u{3000}warn,\u{3000}a=info"] {
            let read = filter(Some(value.into()));
            assert!(read.is_ok(), "{value:?}: {read:?}");
        }
        let unset = filter(None).map(|filter| filter.to_string());
        assert_eq!(unset.as_deref(), Ok("info"));
        let wrong = filter(Some("var_dd=loud".into())).unwrap_err();
        assert!(wrong.contains("RUST_LOG (\"var_dd=loud\")"), "{wrong}");
    }

    #[test]
    fn whoever_logs_never_waits_for_a_reader() {
        // Nobody takes lines from the queue.
        let (sender, _receiver) = sync_channel(2);
        for _ in 0..100 {
            let mut line = Line { bytes: Vec::new(), lines: sender.clone() };
            line.write_all(b"text\n").unwrap();
        }
    }
}
