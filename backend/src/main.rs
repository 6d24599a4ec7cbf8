//! The `var-dd` program.
fn main() {}
