//! Pictures of several results as one ZIP file. They are stored as they are: a PNG does not get
//! smaller.

use std::io::{self, Write};

use rawzip::{CompressionMethod, ZipArchiveWriter};

use var_dd_protocol::lowercase;

use super::mine::Own;

/// The name of a picture in the file.
pub(crate) fn file_name(own: &Own, picture: usize) -> String {
    let words = lowercase(&format!("{} {}", own.class_name, own.plan));
    let words: Vec<_> =
        words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let seed = own.request.seed.unwrap_or_default();
    // Two results may have the same settings.
    let id: String = own.id.to_string().chars().take(8).collect();
    let index = if own.request.count > 1 { format!("-{}", picture + 1) } else { String::new() };
    format!("{}-{seed}-{id}{index}.png", words.join("-"))
}

/// A ZIP file that is written file by file.
pub(crate) struct Bundle(ZipArchiveWriter<Vec<u8>>);

impl Bundle {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(ZipArchiveWriter::new(Vec::new()))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When the name or the size is out of what the format takes.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.0.new_file(name).compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start().map_err(io::Error::other)?;
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes)?;
        let (_, descriptor) = writer.finish().map_err(io::Error::other)?;
        entry.finish(descriptor).map_err(io::Error::other)?;
        Ok(())
    }

    /// The whole file.
    ///
    /// # Errors
    /// When it is out of what the format takes.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::JobId;

    use super::*;
    use crate::state::job::tests::{job, two_steps};

    #[test]
    fn what_is_put_in_comes_out() {
        let files = [("a.png", &b"first"[..]), ("雪.png", b""), ("c.png", &[7; 70_000])];
        let mut bundle = Bundle::new();
        for (name, bytes) in files {
            bundle.add(name, bytes).unwrap();
        }
        let bytes = bundle.finish().unwrap();
        let archive = rawzip::ZipArchive::from_slice(&bytes).unwrap();
        let mut entries = archive.entries();
        for (name, content) in files {
            let entry = entries.next_entry().unwrap().unwrap();
            assert_eq!(entry.file_path().try_normalize().unwrap().as_ref(), name);
            let data = archive.get_entry(entry.wayfinder()).unwrap();
            assert_eq!(data.data(), content);
        }
        assert!(entries.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_picture_is_called_by_its_settings() {
        let mut own = Own { id: JobId::from_bits(1), ..Own::of(&job(two_steps(), 2)) };
        (own.class_name, own.plan) = ("Owl, great grey".into(), "2 steps".into());
        own.request.seed = Some(5);
        let id: String = own.id.to_string().chars().take(8).collect();
        assert_eq!(file_name(&own, 1), format!("owl-great-grey-2-steps-5-{id}-2.png"));
    }
}
