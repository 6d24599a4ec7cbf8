//! A file of weights, whatever it is: opened, listed, and its small tensors read.

use std::io::Write;

use var_dd_engine::{bundle::weight_file::WeightFile, weights::first_not_finite};

/// Tensors up to so many bytes are read.
const READ: usize = 1 << 20;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(opened) = WeightFile::open(file.path()) else { return };
    for dictionary in opened.dictionaries() {
        let unwrapped = dictionary.unwrapped(&["pos_1LC", "a"]).pop();
        let dictionary = unwrapped.unwrap_or(dictionary);
        let _ = dictionary.wrapping();
        for entry in dictionary.tensors() {
            let Ok((_, Some(tensor))) = entry else { continue };
            if tensor.byte_length() > READ {
                continue;
            }
            if let Ok(read) = tensor.read() {
                assert_eq!(read.len(), tensor.byte_length());
                let _ = first_not_finite(tensor.dtype(), &read);
            }
        }
    }
}
