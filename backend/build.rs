//! Gives the program a run path to libtorch, so that it runs when called directly.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        // RPATH and not RUNPATH: libtorch_cpu.so finds its own dependencies beside it too.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{libtorch}/lib");
    }
}
