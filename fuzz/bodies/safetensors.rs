//! The header of a safetensors file, before 64 bytes of data.

#[path = "weight_file.rs"]
mod weight_file;

pub(crate) fn run(header: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    weight_file::run(&[length.as_slice(), header, &[1; 64]].concat());
}
