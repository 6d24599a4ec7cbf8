//! Ports for programs that must be told theirs before they start.

use std::{
    io,
    net::TcpListener,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below what Linux gives to outgoing connections and to port 0 (32768 to 60999), so that no
/// connection of another test takes the port between this answer and its use.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of this machine that nothing listens on and that this process has not given away before.
///
/// # Errors
/// When every port is in use.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Another test program at the same time begins elsewhere.
    let start = process::id().wrapping_mul(211) % u32::from(COUNT);
    for _ in 0..COUNT {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = (start + given) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
