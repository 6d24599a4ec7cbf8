//! Gives the program a run path to libtorch, so that it runs when called directly.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // Release programs embed the page as it is now; others read it when asked.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo:rerun-if-changed=../frontend/dist");
    }
    // Migrations are compiled in; without this line a new one would be missed.
    println!("cargo:rerun-if-changed=src/storage/migrations");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        // RPATH and not RUNPATH: libtorch_cpu.so finds its own dependencies beside it too.
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{libtorch}/lib");
    }
}
