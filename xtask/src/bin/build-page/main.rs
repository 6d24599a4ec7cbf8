//! Turns the compiled page and the static files into the directory that the server delivers.
//!
//! Started by `cargo xtask page`: `build-page <page.wasm> <static directory> <method.md> <output
//! directory>`.

mod assets;
mod document;

use std::{env, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use wasm_bindgen_cli_support::Bindgen;
use wasm_split_cli_support as split;

use crate::assets::Assets;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [wasm, sources, method, output] = &arguments[..] else {
        bail!(
            "build-page is called by `cargo xtask page` with four paths: page.wasm, static files, \
             the text on the method, output"
        );
    };
    build(Path::new(wasm), Path::new(sources), Path::new(method), Path::new(output))
}

/// Writes the page into the (new, empty) directory `output`.
fn build(wasm: &Path, sources: &Path, method: &Path, output: &Path) -> Result<()> {
    let bindings = output.join("bindings");
    let rest = output.join("rest.wasm");
    split(wasm, &bindings, &rest)?;
    bind(&rest, &bindings)?;
    fs::remove_file(&rest).with_context(|| format!("cannot remove {}", rest.display()))?;

    let mut assets = Assets::new(output);
    // In the order of their references: what is referred to gets its name first.
    assets.add_copy("icon", &sources.join("icons/favicon.svg"))?;
    assets.add_copy("theme", &sources.join("theme.js"))?;
    assets.add_copy("translation", &sources.join("translation.js"))?;
    assets.add_text("style", "style.css", &style_sheet(sources)?)?;
    assets.add_program(&bindings)?;
    assets.add_text("script", "start.js", &read_text(&sources.join("start.js"))?)?;
    assets.add_directory(&sources.join("icons"), "icons")?;
    assets.add_favicon(&sources.join("icons/apple-touch.png"))?;
    assets.add_service_worker(&read_text(&sources.join("service-worker.js"))?)?;
    let template = read_text(&sources.join("method.html"))?;
    assets.add_page("method.html", &document::page(&template, &read_text(method)?)?)?;
    assets.add_index(&read_text(&sources.join("index.html"))?)?;
    fs::remove_dir_all(&bindings).with_context(|| format!("cannot remove {}", bindings.display()))
}

/// Takes out of the program what `wasm_split` marks in its source: a file a part, and the module
/// that fetches them. `rest` becomes what is left, which starts the page.
fn split(wasm: &Path, directory: &Path, rest: &Path) -> Result<()> {
    let program = read(wasm)?;
    let mut options = split::Options::new(&program);
    options.output_dir = directory;
    options.main_out_path = rest;
    options.link_name = "./parts.js";
    options.main_module = "./app.js";
    split::transform(options)
        .map_err(|error| anyhow!("{error:?}"))
        .with_context(|| format!("{} cannot be split", wasm.display()))?;
    Ok(())
}

/// Runs wasm-bindgen: `app_bg.wasm` and the module `app.js` that loads it.
fn bind(wasm: &Path, directory: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(wasm)
        .out_name("app")
        .web(true)?
        .typescript(false)
        // The module's own guess of the address would miss the hash in the name; `start.js` gives
        // it.
        .omit_default_module_path(true)
        // The parts share memory, stack and table of functions.
        .keep_lld_exports(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(directory)
        .with_context(|| format!("wasm-bindgen cannot read {}", wasm.display()))
}

/// `style.css`, or the files of `style/` one after the other in the order of their names.
fn style_sheet(sources: &Path) -> Result<String> {
    let one = sources.join("style.css");
    if one.exists() {
        return read_text(&one);
    }
    let directory = sources.join("style");
    let entries = fs::read_dir(&directory).with_context(|| {
        format!("there is neither {} nor {}", one.display(), directory.display())
    })?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "css"));
    files.sort();
    files.iter().map(|path| read_text(path)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
