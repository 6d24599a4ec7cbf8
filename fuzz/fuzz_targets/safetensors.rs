#![no_main]

#[path = "../bodies/safetensors.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
