//! Pictures that say how they were drawn.

use std::{fs, io::Cursor};

use image::{ImageFormat, RgbImage};

use super::{error, var_dd};

#[test]
fn a_file_that_does_not_say_how_it_was_drawn_is_told_of_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut plain = Vec::new();
    RgbImage::new(4, 4).write_to(&mut Cursor::new(&mut plain), ImageFormat::Png).unwrap();
    let half = plain[..plain.len() / 2].to_vec();
    for (name, bytes, words) in [
        ("plain.png", Some(plain), "does not say how it was drawn"),
        ("half.png", Some(half), "cut off"),
        ("text.png", Some(b"hello".to_vec()), "no PNG file"),
        ("missing.png", None, "No such file"),
    ] {
        if let Some(bytes) = bytes {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        let output = var_dd(directory.path(), &["read", name]);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(name) && said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let output = var_dd(directory.path(), &["read", "."]);
    assert!(error(&output).contains("directory"), "{}", error(&output));
}
