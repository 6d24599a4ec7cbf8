//! Which weights a picture was drawn with.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::input_file;

/// Bytes looked at in one place.
const PIECE: u64 = 64 << 10;

/// Places looked at in a file.
const PIECES: u64 = 64;

/// A digest of files in the order given, 16 hexadecimal digits. Of a large file it takes the length
/// and 64 places evenly spread: training or converting anew changes every one of them, and a model
/// of gigabytes need not be read whole.
///
/// # Errors
/// When a file cannot be read, or is none: a pipe is never waited for.
pub fn fingerprint<'a>(files: impl IntoIterator<Item = &'a Path>) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    for path in files {
        let mut file = input_file::open(path)?;
        let length = file.metadata()?.len();
        digest.update(length.to_le_bytes());
        let mut piece = Vec::with_capacity(PIECE as usize);
        let places = if length <= PIECE * PIECES { length.div_ceil(PIECE) } else { PIECES };
        for place in 0..places {
            // The first place holds the header, the last one the end.
            let start = if length <= PIECE * PIECES {
                place * PIECE
            } else {
                (u128::from(length - PIECE) * u128::from(place) / u128::from(PIECES - 1)) as u64
            };
            file.seek(SeekFrom::Start(start))?;
            piece.clear();
            (&file).take(PIECE).read_to_end(&mut piece)?;
            digest.update(&piece);
        }
    }
    Ok(digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn other_weights_lengths_and_orders_have_other_fingerprints() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut large = vec![1; (PIECE * PIECES) as usize + 12_345];
        let a = file("a", b"weights");
        let same = file("same", b"weights");
        let b = file("b", &large);
        *large.last_mut().unwrap() = 2;
        let c = file("c", &large);
        let empty = file("empty", b"");
        let of = |paths: &[&Path]| fingerprint(paths.iter().copied()).unwrap();
        assert_eq!(of(&[&a, &b]), of(&[&same, &b]));
        let different =
            [of(&[&a]), of(&[&b]), of(&[&c]), of(&[&empty]), of(&[&a, &b]), of(&[&b, &a])];
        for (i, one) in different.iter().enumerate() {
            assert_eq!(one.len(), 16);
            assert!(different[i + 1..].iter().all(|other| other != one), "{different:?}");
        }
        assert!(fingerprint([Path::new("nowhere")]).is_err());
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(fingerprint([pipe.as_path()]).unwrap_err().to_string().contains("it is a pipe"));
    }
}
