//! Compiles the engine's kernels for GPUs of several ages, which needs none:
//! `cargo run -p var-dd-engine --example compile_kernels -- .../libnvrtc.so.13`, where the library
//! is that of the package `nvidia-cuda-nvrtc`.

use std::{env, path::PathBuf, process::ExitCode};

use var_dd_engine::ops::kernels;

/// Compute capabilities: those with names, and one that no compiler knows yet.
const CAPABILITIES: [i32; 8] = [75, 80, 86, 89, 90, 100, 120, 999];

fn main() -> ExitCode {
    let Some(compiler) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("give the path of libnvrtc.so.13");
        return ExitCode::FAILURE;
    };
    let mut all_are_well = true;
    for capability in CAPABILITIES {
        match kernels::compile(&compiler, capability) {
            // Code for a GPU is an ELF file, the intermediate form a text that its driver compiles.
            Ok(code) if code.starts_with(b"\x7fELF") => {
                println!("{capability}: {} bytes of code", code.len())
            }
            Ok(text) if text.ends_with(b"\0") => {
                println!("{capability}: {} bytes of text", text.len())
            }
            Ok(other) => {
                all_are_well = false;
                eprintln!("{capability}: {} bytes that the driver would not take", other.len());
            }
            Err(reason) => {
                all_are_well = false;
                eprintln!("{capability}: {reason}");
            }
        }
    }
    if all_are_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
