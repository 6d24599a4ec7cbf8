//! Files of the page: names with a hash of the content, references to them, compressed copies.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// Endings of files that are small already; compressing them again gains nothing.
const COMPRESSED: [&str; 6] = ["png", "jpg", "webp", "woff2", "br", "gz"];

/// The output directory and the addresses of what was written to it, relative to the page.
pub(crate) struct Assets<'a> {
    directory: &'a Path,
    addresses: BTreeMap<&'static str, String>,
}

impl<'a> Assets<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        Self { directory, addresses: BTreeMap::new() }
    }

    /// Adds a file under a name with a hash; other files refer to it as `{{reference}}`.
    pub(crate) fn add_bytes(
        &mut self,
        reference: &'static str,
        name: &str,
        content: &[u8],
    ) -> Result<()> {
        let path = format!("assets/{}", hashed_name(name, content));
        self.write(&path, content)?;
        self.addresses.insert(reference, path);
        Ok(())
    }

    /// Adds a text after filling in its references to earlier files.
    pub(crate) fn add_text(
        &mut self,
        reference: &'static str,
        name: &str,
        content: &str,
    ) -> Result<()> {
        let content = fill(content, &self.addresses).with_context(|| format!("in {name}"))?;
        self.add_bytes(reference, name, content.as_bytes())
    }

    /// Adds a file as it is.
    pub(crate) fn add_copy(&mut self, reference: &'static str, source: &Path) -> Result<()> {
        let name = source.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name", source.display()))?;
        let content =
            fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.add_bytes(reference, name, &content)
    }

    /// Adds the program: the module that starts it, what it runs at once, and its parts. They name
    /// each other as they are, so that the directory carries the hash.
    pub(crate) fn add_program(&mut self, bindings: &Path) -> Result<()> {
        let mut digest = Sha256::new();
        let files = files_below(bindings)?;
        for file in &files {
            let content =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            digest.update(file.strip_prefix(bindings)?.as_os_str().as_encoded_bytes());
            digest.update(content);
        }
        let directory = format!("assets/app-{}", digits(&digest.finalize()));
        self.add_directory(bindings, &directory)?;
        let mut parts = Vec::new();
        for file in &files {
            let path = format!("{directory}/{}", file.strip_prefix(bindings)?.to_string_lossy());
            match path.rsplit('/').next() {
                Some("app.js") => drop(self.addresses.insert("module", path)),
                Some("app_bg.wasm") => drop(self.addresses.insert("wasm", path)),
                _ => parts.push(path),
            }
        }
        self.addresses.insert("parts", parts.join(" "));
        Ok(())
    }

    /// Adds all files of a directory, if it exists, under their own names.
    pub(crate) fn add_directory(&mut self, source: &Path, target: &str) -> Result<()> {
        if !source.exists() {
            return Ok(());
        }
        let entries =
            fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let path = format!("{target}/{}", name.to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.add_directory(&entry.path(), &path)?;
            } else {
                let content = fs::read(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.write(&path, &content)?;
            }
        }
        Ok(())
    }

    /// Adds `favicon.ico`, which browsers and readers of links ask for whatever a page says: a PNG
    /// of at most 256 pixels as the one picture of an icon.
    pub(crate) fn add_favicon(&mut self, png: &Path) -> Result<()> {
        let png = fs::read(png).with_context(|| format!("cannot read {}", png.display()))?;
        self.write("favicon.ico", &icon(&png)?)
    }

    /// Adds `index.html`, the one file that is never cached and so keeps its name.
    pub(crate) fn add_index(&mut self, template: &str) -> Result<()> {
        let page = fill(template, &self.addresses).context("in index.html")?;
        for place in ["<!-- open-graph -->", "<!-- without-scripts -->"] {
            if !page.contains(place) {
                bail!("index.html lacks the line `{place}`, where the server puts what it adds");
            }
        }
        self.write("index.html", page.as_bytes())
    }

    /// Adds a page beside the index, under its own name.
    pub(crate) fn add_page(&mut self, name: &str, template: &str) -> Result<()> {
        let page = fill(template, &self.addresses).with_context(|| format!("in {name}"))?;
        self.write(name, page.as_bytes())
    }

    /// Adds the service worker, which must lie beside the page; it changes with every file that it
    /// may refer to.
    pub(crate) fn add_service_worker(&mut self, template: &str) -> Result<()> {
        let names: Vec<_> = self.addresses.values().map(String::as_str).collect();
        self.addresses.insert("version", hash(names.join(" ").as_bytes()));
        let script = fill(template, &self.addresses).context("in service-worker.js")?;
        self.write("service-worker.js", script.as_bytes())
    }

    /// Writes a file and, where that makes it smaller, its compressed copies.
    fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let target = self.directory.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let save = |path: PathBuf, content: &[u8]| {
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        let ending = path.rsplit('.').next().unwrap_or_default();
        if !COMPRESSED.contains(&ending) {
            for (suffix, packed) in [("br", pack_brotli(content)?), ("gz", pack_gzip(content)?)] {
                save(self.directory.join(format!("{path}.{suffix}")), &packed)?;
            }
        }
        save(target, content)
    }
}

/// Replaces `{{reference}}` by the address of the file.
fn fill(template: &str, addresses: &BTreeMap<&'static str, String>) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        // Generated scripts hold braces of their own; a reference is a lower-case word.
        let reference = after.split_once("}}").filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        match reference {
            Some((name, after)) => {
                let Some(address) = addresses.get(name) else {
                    let known: Vec<_> = addresses.keys().copied().collect();
                    bail!("{{{{{name}}}}} refers to no file; known here are {}", known.join(", "));
                };
                text.push_str(address);
                rest = after;
            }
            None => {
                text.push_str("{{");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// An icon file whose one picture is a PNG.
fn icon(png: &[u8]) -> Result<Vec<u8>> {
    let side = |at: usize| -> Option<u8> {
        let side = u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?);
        // A side of 256 is written as 0.
        (1..=256).contains(&side).then_some((side % 256) as u8)
    };
    let (width, height) = side(16).zip(side(20)).context("the icon is no PNG of 256 pixels")?;
    let length = u32::try_from(png.len()).context("the icon is too large")?;
    let head = [0, 0, 1, 0, 1, 0, width, height, 0, 0, 1, 0, 32, 0];
    let after_head = 22_u32.to_le_bytes();
    Ok([&head[..], &length.to_le_bytes(), &after_head, png].concat())
}

/// `app_bg.wasm` becomes `app-0123456789abcdef_bg.wasm`, `style.css` becomes
/// `style-0123456789abcdef.css`.
fn hashed_name(name: &str, content: &[u8]) -> String {
    let hash = hash(content);
    let at = name.find(['_', '.']).unwrap_or(name.len());
    let (stem, rest) = name.split_at(at);
    format!("{stem}-{hash}{rest}")
}

/// Every file in a directory and below, in the order of their paths.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Sixteen digits that change with the content.
fn hash(content: &[u8]) -> String {
    digits(&Sha256::digest(content))
}

fn digits(digest: &[u8]) -> String {
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pack_brotli(content: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 11,
        size_hint: content.len(),
        ..Default::default()
    };
    brotli::BrotliCompress(&mut &content[..], &mut packed, &parameters)?;
    Ok(packed)
}

fn pack_gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(content)?;
    Ok(packer.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_name_of_a_file_changes_with_its_content_and_keeps_its_ending() {
        let name = hashed_name("app_bg.wasm", b"one");
        assert!(name.starts_with("app-") && name.ends_with("_bg.wasm"), "{name}");
        assert_ne!(name, hashed_name("app_bg.wasm", b"two"));
        assert!(hashed_name("style.css", b"").ends_with(".css"));
    }

    #[test]
    fn an_icon_is_its_png_behind_22_bytes() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend([0, 0, 0, 180, 0, 0, 1, 0]);
        let made = icon(&png).unwrap();
        assert_eq!(made[..8], [0, 0, 1, 0, 1, 0, 180, 0]);
        assert_eq!((made[14], made[18]), (24, 22));
        assert_eq!(made[22..], png);
        png[18] = 2;
        assert!(icon(&png).is_err(), "wider than an icon may be");
    }

    #[test]
    fn references_become_addresses_and_other_braces_stay() {
        let addresses = BTreeMap::from([("style", "assets/style-1.css".to_owned())]);
        assert_eq!(
            fill("a ./{{style}} b {{}} {{ x }}", &addresses).unwrap(),
            "a ./assets/style-1.css b {{}} {{ x }}"
        );
        let error = fill("{{stlye}}", &addresses).unwrap_err().to_string();
        assert!(error.contains("stlye") && error.contains("style"), "{error}");
    }

    #[test]
    fn a_written_file_has_compressed_copies_of_the_same_content() {
        let directory = tempfile::tempdir().unwrap();
        let content = b"body { color: black }\n".repeat(50);
        let mut assets = Assets::new(directory.path());
        assets.add_bytes("style", "style.css", &content).unwrap();
        let path = directory.path().join(&assets.addresses["style"]);
        let mut unpacked = Vec::new();
        let packed = fs::read(path.with_extension("css.gz")).unwrap();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, content);
        unpacked.clear();
        let packed = fs::read(path.with_extension("css.br")).unwrap();
        brotli::BrotliDecompress(&mut &packed[..], &mut unpacked).unwrap();
        assert_eq!(unpacked, content);
    }

    #[test]
    fn the_program_lies_in_a_directory_that_changes_with_any_of_its_parts() {
        let directory = tempfile::tempdir().unwrap();
        let bindings = directory.path().join("bindings");
        fs::create_dir_all(bindings.join("snippets")).unwrap();
        let mut places = Vec::new();
        for part in ["one", "two"] {
            for (name, content) in [
                ("app.js", "import"),
                ("app_bg.wasm", "start"),
                ("learn.wasm", part),
                ("snippets/a.js", "a"),
            ] {
                fs::write(bindings.join(name), content).unwrap();
            }
            let mut assets = Assets::new(directory.path());
            assets.add_program(&bindings).unwrap();
            let module = assets.addresses["module"].clone();
            let place = module.strip_suffix("/app.js").unwrap().to_owned();
            assert_eq!(assets.addresses["wasm"], format!("{place}/app_bg.wasm"));
            assert_eq!(
                assets.addresses["parts"],
                format!("{place}/learn.wasm {place}/snippets/a.js")
            );
            assert!(directory.path().join(&place).join("snippets/a.js").exists());
            places.push(place);
        }
        assert_ne!(places[0], places[1]);
    }

    #[test]
    fn the_service_worker_changes_with_the_files_that_it_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let worker = |content: &[u8]| {
            let mut assets = Assets::new(directory.path());
            assets.add_bytes("style", "style.css", content).unwrap();
            assets.add_service_worker("{{version}} {{style}}").unwrap();
            fs::read_to_string(directory.path().join("service-worker.js")).unwrap()
        };
        let (one, two) = (worker(b"one"), worker(b"two"));
        assert!(one.contains(" assets/style-"), "{one}");
        assert_ne!(one.split_once(' ').unwrap().0, two.split_once(' ').unwrap().0);
    }

    #[test]
    fn an_index_without_the_place_for_shared_links_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut assets = Assets::new(directory.path());
        assert!(assets.add_index("<html></html>").is_err());
        assert!(!directory.path().join("index.html").exists());
    }
}
