//! End-to-end tests of the VAR-DD playground: the real program, spoken to as its users do.
//!
//! `cargo xtask test` builds the program and the page first and says where they are; without it the tests take the
//! program beside their own (`target/debug/var-dd`).

pub mod browser;
pub mod client;
pub mod playground;
pub mod program;

use sha2::{Digest, Sha256};

/// A picture or message by its SHA-256, short enough for a message of a failed test.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
