//! Files that people have: what is given to a command in place of what it wants.

use std::{fs, path::Path, process::Command};

use tch::{Kind, Tensor};
use var_dd_engine::bundle::Bundle;

use super::{demo_model, error, var_dd};

/// Runs `convert` with this file as the student.
fn convert(directory: &Path, student: &str) -> (Option<i32>, String) {
    let vae = demo_model().join("vae.safetensors");
    let output = var_dd(
        directory,
        &["convert", "--student", student, "--vae", vae.to_str().unwrap(), "--output", "model"],
    );
    (output.status.code(), error(&output))
}

#[test]
fn what_is_no_checkpoint_is_named_for_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1243923456\n";
    for (bytes, words) in [
        (b"<!DOCTYPE html><title>Sign in</title>".to_vec(), "web page (\"Sign in\")"),
        (pointer.into(), "git lfs pull"),
        (br#"{"error":"Repository not found"}"#.to_vec(), "Repository not found"),
        (b"<?xml version=\"1.0\"?><Error/>".to_vec(), "XML"),
        (b"\x1f\x8b\x08\x00\x00\x00".to_vec(), "gunzip"),
        (vec![], "it is empty"),
        (vec![0; 4096], "zero bytes"),
        (b"PK\x03\x04\x00".to_vec(), "cut off or damaged"),
    ] {
        fs::write(at("student.pth"), &bytes).unwrap();
        let (code, said) = convert(directory.path(), "student.pth");
        assert_eq!(code, Some(1));
        assert!(said.contains("student.pth") && said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!at("model").exists());
    }
    fs::create_dir(at("folder.pth")).unwrap();
    let (_, said) = convert(directory.path(), "folder.pth");
    assert!(said.contains("it is a directory"), "{said}");
    // Another network of the same model.
    let teacher = demo_model().join("teacher.safetensors");
    let (_, said) = convert(directory.path(), teacher.to_str().unwrap());
    assert!(said.contains("holds no student") && said.contains("give it with --teacher"), "{said}");
    let vae = demo_model().join("vae.safetensors");
    let (_, said) = convert(directory.path(), vae.to_str().unwrap());
    assert!(said.contains("it holds a VAE; give it with --vae"), "{said}");
}

#[test]
fn a_model_becomes_itself_again_by_its_safetensors_also_where_one_stands() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("here");
    fs::create_dir(&empty).unwrap();
    let file = |name: &str| demo_model().join(name).to_str().unwrap().to_owned();
    let (student, vae) = (file("student.safetensors"), file("vae.safetensors"));
    let config = Bundle::open(&demo_model()).unwrap().config;
    let sides: Vec<_> = config.patch_nums.iter().map(i64::to_string).collect();
    let (sides, groups) = (sides.join(","), config.vae.norm_groups.to_string());
    let files = ["--student", &student, "--vae", &vae, "--output", "."];
    let sizes = ["--patch-nums", &sides, "--norm-groups", &groups];
    let output = var_dd(&empty, &[&["convert"][..], &files, &sizes].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let converted = Bundle::open(&empty).unwrap().config;
    assert_eq!((converted.patch_nums, converted.vae), (config.patch_nums, config.vae));
    // The directory is the same one, and a shell that stands in it sees its files.
    let listed = Command::new("ls").current_dir(&empty).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("config.json"));
    let output = var_dd(&empty, &["info", "--model", ".", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
}

#[test]
fn a_model_with_a_weight_that_is_no_number_does_not_load() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "vae.safetensors"] {
        fs::copy(demo_model().join(name), model.join(name)).unwrap();
    }
    let file =
        var_dd_engine::tensor_file::TensorFile::open(&demo_model().join("student.safetensors"))
            .unwrap();
    let tensors: Vec<(String, Tensor)> = file
        .names()
        .into_iter()
        .map(|name| {
            let tensor = file.tensor(&name).unwrap().to_kind(Kind::Float);
            if name == "head.weight" {
                let _ = tensor.get(0).get(0).fill_(f64::NAN);
            }
            (name, tensor)
        })
        .collect();
    var_dd_engine::tensor_file::write(&model.join("student.safetensors"), &tensors).unwrap();
    for command in ["info", "sample"] {
        let output = var_dd(directory.path(), &[command, "--model", "model", "--device", "cpu"]);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("head.weight holds a number that is not finite (NaN)"), "{said}");
    }
    assert!(!directory.path().join("samples/images/0.png").exists());
}

#[test]
fn a_full_disk_s_empty_leftovers_do_not_bar_the_command_that_left_them() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("x.npz.parts")).unwrap();
    let output = var_dd(
        directory.path(),
        &["sample", "--sample-num", "1", "--npz", "x.npz", "--device", "cpu"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    assert!(directory.path().join("x.npz").is_file());
    assert!(!directory.path().join("x.npz.parts").exists());
}
