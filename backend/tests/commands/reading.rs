//! Pictures that say how they were drawn.

use std::{fs, io::Cursor};

use image::{ImageFormat, RgbImage};
use serde_json::Value;

use super::{error, var_dd};

/// Puts pixels in place of those of a PNG file and leaves its texts.
fn with_pixels_of(png: &[u8], picture: &RgbImage) -> Vec<u8> {
    let mut other = Vec::new();
    picture.write_to(&mut Cursor::new(&mut other), ImageFormat::Png).unwrap();
    let data = |bytes: &[u8]| bytes.windows(4).position(|name| name == b"IDAT").unwrap() - 4;
    [&png[..data(png)], &other[data(&other)..]].concat()
}

#[test]
fn a_picture_says_how_it_was_drawn_and_is_drawn_again_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let sample = "sample --sample-num 2 --seed 5 --class snowman --plan 2|steps --device cpu";
    let sample: Vec<_> = sample.split(' ').map(|word| word.replace('|', " ")).collect();
    let output = var_dd(directory.path(), &sample.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", error(&output));
    let file = "samples/images/1.png";

    let output = var_dd(directory.path(), &["read", file]);
    assert!(output.status.success(), "{}", error(&output));
    let kept: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&kept["request"]["seed"], &kept["picture"]), (&5.into(), &1.into()), "{kept}");

    let verify = |file: &str| var_dd(directory.path(), &["read", file, "--verify", "--device=cpu"]);
    let output = verify(file);
    assert!(output.status.success(), "{}", error(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1.png: equal to the bit"));

    let bytes = fs::read(at(file)).unwrap();
    let mut picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
    let red = &mut picture.get_pixel_mut(3, 3).0[0];
    *red = if *red > 100 { *red - 9 } else { *red + 9 };
    fs::write(at("changed.png"), with_pixels_of(&bytes, &picture)).unwrap();
    let output = verify("changed.png");
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("difference of a colour value is 9 of 255"), "{output:?}");

    fs::write(at("small.png"), with_pixels_of(&bytes, &RgbImage::new(8, 8))).unwrap();
    let output = verify("small.png");
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("cannot be read"), "{output:?}");
}

#[test]
fn a_file_that_does_not_say_how_it_was_drawn_is_told_of_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut plain = Vec::new();
    RgbImage::new(4, 4).write_to(&mut Cursor::new(&mut plain), ImageFormat::Png).unwrap();
    let half = plain[..plain.len() / 2].to_vec();
    for (name, bytes, words) in [
        ("plain.png", Some(plain), "does not say how it was drawn"),
        ("half.png", Some(half), "cut off"),
        ("text.png", Some(b"hello".to_vec()), "no PNG, WebP, GIF or MP4 file"),
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
