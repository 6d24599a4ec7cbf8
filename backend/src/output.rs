//! Standard output and the error stream, written so that nothing panics when nobody reads.
//!
//! `println!` panics when the reader of a pipe has gone or the disk behind a redirection is full.
//! Here both are errors: the one ends the program quietly, as of any tool in a pipe, the other with
//! a message.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

/// Standard output that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(io::Error);

impl OutputError {
    /// Whether the reader has gone: no reason to say anything, nor to whom.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes to standard output.
///
/// # Errors
/// When its reader has gone, or the disk is full.
pub fn write(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(OutputError)
}

/// Writes to standard output what is told beside the work. A reader who has gone is no reason to
/// leave the work undone.
///
/// # Errors
/// When the disk is full.
pub fn mention(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    match write(text) {
        Err(error) if error.is_closed() => Ok(()),
        outcome => outcome,
    }
}

/// Writes a line of a report to standard output; `kept` where the report is kept elsewhere too, so
/// that a reader who has gone is no reason to stop.
///
/// # Errors
/// As [`write()`] or [`mention`].
pub fn report(kept: bool, line: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let tell = if kept { mention } else { write };
    tell(format_args!("{line}\n"))
}

/// Writes a line to the error stream. Nobody to tell it to is no reason to stop.
pub fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a line to standard output: as `println!`, with a `Result`.
#[macro_export]
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::output::write(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Writes to standard output: as `print!`, with a `Result`.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => {
        $crate::output::write(format_args!($($text)*))
    };
}

/// Writes a line to standard output that is told beside the work: as [`outln!`], and goes on where
/// nobody reads.
#[macro_export]
macro_rules! mention {
    ($($text:tt)*) => {
        $crate::output::mention(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Writes a line to the error stream: as `eprintln!`, and never panics.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::output::tell(format_args!($($text)*))
    };
}
