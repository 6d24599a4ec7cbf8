//! Compiles the engine's CUDA code, and gives tests and benches a run path to libtorch.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The C++ files of the shared object that the program opens where a GPU is.
const CUDA: [&str; 4] = [
    "src/cuda/graph.cpp",
    "src/cuda/memory.cpp",
    "src/cuda/stream.cpp",
    "src/ops/linear/linear.cpp",
];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for path in CUDA.iter().chain(&["src/cuda/guarded.h", "src/cuda/crt"]) {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rustc-check-cfg=cfg(avx512)");
    let is_x86 = env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    if is_x86 && env::var_os("CARGO_FEATURE_PORTABLE").is_none() {
        println!("cargo:rustc-cfg=avx512");
    }
    let libtorch = env::var_os("LIBTORCH").map(PathBuf::from);
    if let Some(libtorch) = &libtorch {
        // RPATH and not RUNPATH: libtorch_cpu.so finds its own dependencies beside it too.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{}/lib", libtorch.display());
    }
    name_compiler();
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let object = out.join("cuda.so");
    // A program without it serves CPUs as well, and GPUs in the plain way.
    let lack = compile_cuda(libtorch.as_deref(), &object).err().unwrap_or_default();
    if !lack.is_empty() {
        fs::write(&object, []).expect("the build directory can be written to");
    }
    println!("cargo:rustc-env=VAR_DD_CUDA_LACK={}", lack.replace('\n', " "));
}

/// The C++ compiler of this machine, for tests: they compile the kernels for the CPU.
fn name_compiler() {
    let compiler = cc::Build::new().cpp(true).try_get_compiler();
    let path = compiler.map_or_else(|_| PathBuf::from("c++"), |found| found.path().to_owned());
    println!("cargo:rustc-env=VAR_DD_CXX={}", path.display());
}

/// Compiles [`CUDA`] to one shared object. What it uses of libtorch's CUDA half stays undefined
/// until the program, which has opened that half by then, opens the object; says why there is none.
fn compile_cuda(libtorch: Option<&Path>, object: &Path) -> Result<(), String> {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return Err("it is for Linux alone".into());
    }
    let include =
        libtorch.ok_or("LIBTORCH was not set when the program was built")?.join("include");
    let has = |directory: &PathBuf, header: &str| directory.join(header).is_file();
    if !has(&include, "c10/cuda/CUDAStream.h") {
        return Err(format!("{} has no headers for CUDA", include.display()));
    }
    let runtime =
        runtime_directories(&include).into_iter().find(|place| has(place, "cuda_runtime_api.h"));
    let runtime = runtime
        .ok_or("the headers of the CUDA runtime were not found when the program was built")?;
    let compiler = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .debug(false)
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    // Headers of others, whose warnings are theirs; NVIDIA's own `crt`, where there is one, comes
    // before ours.
    let outcome = compiler
        .to_command()
        .args(["-shared", "-fPIC"])
        // As torch-sys is compiled.
        .arg(format!(
            "-D_GLIBCXX_USE_CXX11_ABI={}",
            env::var("LIBTORCH_CXX11_ABI").unwrap_or("1".into())
        ))
        .arg("-isystem")
        .arg(&include)
        .arg("-isystem")
        .arg(&runtime)
        .args(["-isystem", "src/cuda"])
        .args(CUDA)
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|error| format!("{}: {error}", compiler.path().display()))?;
    if !outcome.status.success() {
        let said = String::from_utf8_lossy(&outcome.stderr);
        let first = said
            .lines()
            .find(|line| line.contains("error"))
            .unwrap_or("no reason given")
            .to_owned();
        println!("cargo:warning=graphs on a GPU are left out of this build: {first}");
        return Err(format!("its code could not be compiled: {first}"));
    }
    Ok(())
}

/// Where the headers of the CUDA runtime may be: beside those of a libtorch from Python's package
/// index, or with CUDA.
fn runtime_directories(include: &Path) -> Vec<PathBuf> {
    for name in ["CUDA_HOME", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let beside = fs::canonicalize(include).unwrap_or_default().join("../../nvidia/cu13/include");
    let own = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("include"));
    std::iter::once(beside).chain(own).collect()
}
