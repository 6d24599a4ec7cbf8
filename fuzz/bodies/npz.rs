//! NumPy's archives and single arrays: opened, and every array read as numbers and as pictures.

use std::io::Write;

use var_dd_engine::evaluate::npz::Npz;

/// Pictures read at a time.
const TOGETHER: usize = 3;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(archive) = Npz::open(file.path()) else { return };
    let names: Vec<String> = archive.names().map(str::to_owned).collect();
    for name in names {
        if let Ok(array) = archive.array(&name) {
            let shape: Vec<i64> = array.header.shape.iter().map(|&size| size as i64).collect();
            if let Ok(tensor) = array.tensor() {
                assert_eq!(tensor.size(), shape);
            }
        }
        if let Ok(mut pictures) = archive.array(&name).and_then(|array| array.pictures()) {
            let (mut read, count) = (0, pictures.count);
            while let Ok(Some(piece)) = pictures.next(TOGETHER) {
                assert_eq!(piece.size()[3], 3);
                read += piece.size()[0] as usize;
            }
            assert!(read <= count);
        }
    }
}
