//! Whoever runs jobs keeps the same promises: one program with its own queue, and gateways and
//! workers with a broker between them. A stand-in draws; the broker, store and files are real.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod broker;
mod cluster;
mod conformance;
#[expect(unreachable_pub, reason = "another crate has this file too, where it is reached")]
#[path = "../../../tests/src/ports.rs"]
mod ports;
mod setting;
