#![no_main]

#[path = "../bodies/picture_text.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
