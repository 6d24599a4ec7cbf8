//! What the commands refuse, and how they say it: as the program does, from the outside.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod explore;
mod files;
mod prompt;
mod reading;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tch::{Kind, Tensor};
use tempfile::TempDir;
use var_dd_engine::{bundle::Bundle, tensor_file};

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../static/demo-model")
}

fn var_dd(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_var-dd"));
    command
        .current_dir(directory)
        .env("VAR_DD_MODEL", demo_model())
        .args(arguments)
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with an input that fits the demo model.
fn with_input() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let config = Bundle::open(&demo_model()).unwrap().config;
    let shape = [1, config.tokens(), config.latent_channels];
    let tensors = [
        ("noise".to_owned(), Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu))),
        ("labels".to_owned(), Tensor::from_slice(&[9i64])),
        ("logits".to_owned(), Tensor::from_slice(&[0.5f32, 1.0])),
    ];
    tensor_file::write(&directory.path().join("in.safetensors"), &tensors).unwrap();
    directory
}

/// What is in a directory beside the input.
fn made(directory: &TempDir) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "in.safetensors")
        .collect()
}

#[test]
fn what_cannot_be_drawn_is_refused_with_value_and_bound_before_anything_is_written() {
    let directory = with_input();
    let config = Bundle::open(&demo_model()).unwrap().config;
    let (scales, classes) = (config.scales(), config.num_classes);
    // The command, its flags, and what the message must say; of the sizes of the demo model.
    let table: &[(&str, &str, &[&str])] = &[
        ("trace", "--t-list -1 --loss-split-t 0", &["--t-list", "'-1'", "from 0 on"]),
        ("trace", "--t-list 0,x --loss-split-t 0", &["--t-list", "'x'", "whole numbers"]),
        ("trace", "--t-list 0 --loss-split-t -2", &["--loss-split-t", "'-2'", "from 0 on"]),
        (
            "trace",
            "--t-list 0 --loss-split-t SCALES+1",
            &["loss_split_t is SCALES+1", "from 0 to SCALES"],
        ),
        ("trace", "--t-list 0,SCALES --loss-split-t 0", &["step SCALES", "from 0 to SCALES-1"]),
        (
            "trace",
            "--t-list 0,3 --loss-split-t 0 --teacher-start -1",
            &["start", "'-1'", "from 0 on"],
        ),
        ("trace", "--t-list 0,3 --loss-split-t 0 --teacher-start 4", &["scale 4", "at most 3"]),
        ("trace", "--autoregressive --cfg -1", &["cfg is -1", "from 0 to 100"]),
        ("trace", "--autoregressive --top-p -0.1", &["top_p is -0.1", "to 1"]),
        ("trace", "--autoregressive --top-k -5", &["--top-k", "'-5'", "0 or more"]),
        ("trace", "--autoregressive --seed -5", &["--seed", "-5"]),
        ("trace", "--autoregressive --loss-split-t 2", &["--autoregressive", "--loss-split-t"]),
        ("trace", "--autoregressive --causal-prefix", &["--autoregressive", "--causal-prefix"]),
        // Without effect on a plan without teacher, but no numbers all the same.
        ("trace", "--t-list 0 --loss-split-t 0 --cfg nan", &["cfg is NaN"]),
        ("trace", "--t-list 0 --loss-split-t 0 --top-p 7", &["top_p is 7", "to 1"]),
        ("trace-filter", "--top-k -1 --top-p 0", &["--top-k", "'-1'", "0 or more"]),
        ("trace-filter", "--top-k 1 --top-p -1", &["top_p is -1", "to 1"]),
        ("sample", "--sample-num 0", &["--sample-num", "0 is not in 1..=10000000"]),
        ("sample", "--bs -4", &["--bs", "-4 is not in 1..=4096"]),
        ("sample", "--class -1", &["class -1", "0 to CLASSES-1"]),
        ("sample", "--class lighthuose", &["lighthuose", "did you mean lighthouse?"]),
        ("sample", "--seed -1", &["--seed", "whole numbers from 0 to 9007199254740991"]),
        ("sample", "--seed 9007199254740992", &["--seed", "to 9007199254740991"]),
        ("sample", "--seed x", &["--seed", "whole numbers from 0"]),
        ("sample", "--classes 3,CLASSES", &["class CLASSES", "0 to CLASSES-1"]),
        ("sample", "--cfg nan", &["cfg is NaN"]),
        ("sample", "--classes -1,2", &["class -1", "0 to CLASSES-1"]),
        ("sample", "--t-list -1,2 --loss-split-t 0", &["--t-list", "'-1'", "from 0 on"]),
        ("convert", "--student a --vae b --name=", &["--name"]),
        (
            "convert",
            "--student a --vae b --patch-nums -1,2",
            &["--patch-nums is [-1, 2]", "the first one 1"],
        ),
    ];
    let of_model = |text: &str| {
        let text = text.replace("SCALES+1", &(scales + 1).to_string());
        let text = text.replace("SCALES-1", &(scales - 1).to_string());
        let text = text.replace("SCALES", &scales.to_string());
        let text = text.replace("CLASSES-1", &(classes - 1).to_string());
        text.replace("CLASSES", &classes.to_string())
    };
    for (command, flags, parts) in table {
        let flags = of_model(flags);
        let mut arguments = vec![*command];
        match *command {
            "sample" => arguments.extend(["--sample-dir", "out"]),
            "convert" => arguments.extend(["--output", "out"]),
            _ => arguments.extend(["--input", "in.safetensors", "--output", "out"]),
        }
        arguments.extend(flags.split(' '));
        let output = var_dd(directory.path(), &arguments);
        let error = error(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        for part in parts.iter().map(|part| of_model(part)) {
            assert!(error.contains(&part), "{arguments:?}: {part:?} is missing in {error}");
        }
        assert_eq!(made(&directory), [""; 0], "{arguments:?}");
    }
}

#[test]
fn a_failure_is_one_line_that_tells_its_cause_once_and_nothing_is_written() {
    let directory = with_input();
    let few = "--t-list 0 --loss-split-t 0";
    let table = [
        (
            format!("trace --model none --input in.safetensors --output out {few}"),
            "none/config.json",
        ),
        (format!("trace --input none.st --output out {few}"), "none.st"),
        (format!("trace --input in.safetensors --output none/out {few}"), "no directory none"),
        (format!("trace --input in.safetensors --output . {few}"), "is a directory"),
        (
            "trace-filter --top-k 1 --top-p 0 --input in.safetensors --output none/out".into(),
            "none",
        ),
        ("trace-frechet --input in.safetensors --output none/out".into(), "none"),
        ("sample --model none --sample-dir out".into(), "none/config.json"),
        ("convert --student none.pth --vae none.pth --output out".into(), "none.pth"),
    ];
    for (line, part) in table {
        let output = var_dd(directory.path(), &line.split(' ').collect::<Vec<_>>());
        let error = error(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {error}");
        assert!(error.starts_with("error: ") && error.contains(part), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
        assert!(error.matches("os error").count() <= 1, "{line}: {error}");
        assert_eq!(made(&directory), [""; 0], "{line}");
    }
}

#[test]
fn a_gpu_that_is_not_there_costs_no_directory() {
    let directory = with_input();
    let arguments = ["sample", "--sample-num", "1", "--sample-dir", "out", "--device", "cuda:99"];
    let output = var_dd(directory.path(), &arguments);
    let error = error(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("GPU"), "{error}");
    assert_eq!(made(&directory), [""; 0]);
}

#[test]
fn the_help_of_trace_spells_the_names_of_its_tensors_and_flags() {
    let output = var_dd(Path::new("."), &["trace", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for name in
        ["`step0.sequence`", "`fhat0`", "`image0`", "`draft`", "`after_teacher`", "--teacher-start"]
    {
        assert!(help.contains(name), "{name} is missing in {help}");
    }
}

#[test]
fn a_served_picture_is_measured_beside_the_engine_alone() {
    let directory = tempfile::tempdir().unwrap();
    let flags =
        "bench serve --clients 1,2 --rate 4 --busy 0,1 --jobs 3 --warm-up 1 --json out.json";
    let output = var_dd(directory.path(), &flags.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", error(&output));
    let text = fs::read_to_string(directory.path().join("out.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let batches: Vec<_> =
        report["offline"].as_array().unwrap().iter().map(|row| &row["batch"]).collect();
    assert_eq!(batches, [1, 2]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "three loads, without and beside a busy loop: {report:#}");
    for row in rows {
        let number = |pointer: &str| row.pointer(pointer).unwrap().as_f64().unwrap();
        assert_eq!(row["jobs"], 3, "{row}");
        assert!(number("/pictures_per_s") > 0.0, "{row}");
        let order = ["/first_frame_ms/p50", "/last_frame_ms/p50", "/last_frame_ms/max"];
        assert!(order.map(number).is_sorted() && number(order[0]) > 0.0, "{row}");
        assert!(number("/late_ms/max") > 0.0, "frames come after they are made: {row}");
        let open = row["load"].as_str().unwrap().contains("a second");
        assert_eq!(row["rate_ratio"].is_null(), open, "{row}");
        assert_eq!(row["beside_idle"].is_null(), row["busy"] == 0, "{row}");
    }
}

#[test]
fn a_server_that_cannot_be_measured_is_told_of_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let table = [
        ("bench serve --plan none", "none"),
        ("bench serve --model none", "none/config.json"),
        ("bench serve --clients 0", "--clients"),
        ("bench serve --rate 0", "0.001 to 100000"),
    ];
    for (line, part) in table {
        let output = var_dd(directory.path(), &line.split(' ').collect::<Vec<_>>());
        let error = error(&output);
        assert!(!output.status.success() && error.contains(part), "{line}: {error}");
    }
}
