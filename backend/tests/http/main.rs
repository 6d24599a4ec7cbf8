//! The HTTP and WebSocket interface on real sockets, over the real scheduler and store and a
//! stand-in for the engine.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod connections;
mod conversation;
mod cors;
mod described;
mod embed;
mod explore;
mod export;
mod hostile;
mod pages;
mod refusals;
mod results;
mod server;
mod walk;
mod websocket;
