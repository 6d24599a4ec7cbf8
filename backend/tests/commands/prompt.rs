//! What happens at the edges of a terminal: pipes that close, disks that are full, variables.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
};

use super::{demo_model, error};

fn var_dd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_var-dd"));
    command.args(arguments).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    for name in ["VAR_DD_MODEL", "VAR_DD_DEVICE", "VAR_DD_DTYPE", "VAR_DD_DATA_DIR", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

/// Every kind of command that writes to standard output without much work.
const COMMANDS: [&[&str]; 6] = [
    &["info", "--device", "cpu"],
    &["train", "recipe"],
    &["download"],
    &["--help"],
    &["serve", "--help"],
    &["--version"],
];

/// A pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    for arguments in COMMANDS {
        let output = var_dd(arguments).stdout(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", error(&output));
        assert_eq!(error(&output), "", "{arguments:?}");
    }
}

/// Activations for `trace-frechet`.
fn activations(directory: &Path) {
    let some = tch::Tensor::randn([8, 3], (tch::Kind::Double, tch::Device::Cpu));
    let tensors = [("act_a".to_owned(), some.shallow_clone()), ("act_b".to_owned(), some + 1.0)];
    var_dd_engine::tensor_file::write(&directory.join("in.safetensors"), &tensors).unwrap();
}

#[test]
fn a_reader_that_has_gone_leaves_no_work_undone() {
    let directory = tempfile::tempdir().unwrap();
    activations(directory.path());
    let frechet =
        ["trace-frechet", "--input", "in.safetensors", "--output", "distance.safetensors"];
    let bench = ["bench", "--plan", "1 step", "--runs", "1", "--json", "bench.json"];
    for (arguments, output) in [(&frechet[..], frechet[4]), (&bench[..], bench[6])] {
        let mut command = var_dd(arguments);
        command.current_dir(&directory).stdout(closed_pipe()).env("VAR_DD_DEVICE", "cpu");
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", error(&done));
        assert!(directory.path().join(output).is_file(), "{arguments:?}");
    }
}

#[test]
fn what_is_no_file_is_written_to_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    activations(directory.path());
    for (device, code) in [("/dev/null", 0), ("/dev/full", 1)] {
        let mut command =
            var_dd(&["trace-frechet", "--input", "in.safetensors", "--output", device]);
        let done = command.current_dir(&directory).output().unwrap();
        let said = error(&done);
        assert_eq!(done.status.code(), Some(code), "{device}: {said}");
        assert!(code == 0 || said.contains("No space left"), "{said}");
        assert!(!fs::metadata(device).unwrap().is_file(), "{device} is a file now");
    }
}

#[test]
fn what_is_no_number_is_told_in_words() {
    for (arguments, words) in [
        (["sample", "--sample-num", "1e3"], "it is no whole number"),
        (["sample", "--bs", ""], "a whole number is needed"),
        (["info", "--threads", "four"], "it is no whole number"),
        (["sample", "--cfg", "x"], "it is no number"),
    ] {
        let output = var_dd(&arguments).output().unwrap();
        let said = error(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words) && said.contains(arguments[1]), "{arguments:?}: {said}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_named() {
    let no_text = OsStr::from_bytes(b"\xff");
    for (command, name) in
        [("serve", "VAR_DD_LISTEN"), ("info", "VAR_DD_DTYPE"), ("sample", "VAR_DD_DEVICE")]
    {
        let output = var_dd(&[command]).env(name, no_text).output().unwrap();
        let said = error(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(name) && said.contains(r#""\xFF""#), "{name}: {said}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    for arguments in COMMANDS {
        let output = var_dd(arguments).stdout(full_disk()).output().unwrap();
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.contains("cannot write to standard output") && said.contains("No space left"),
            "{said}"
        );
    }
}

#[test]
fn an_error_that_nobody_reads_ends_with_its_own_code() {
    let arguments = ["info", "--model", "/nowhere"];
    for stream in [closed_pipe(), full_disk().into()] {
        let status = var_dd(&arguments).stdout(Stdio::null()).stderr(stream).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
    // Lines of the log have nobody either.
    let mut command = var_dd(&["sample", "--sample-num", "1", "--t-list", "0", "--device", "cpu"]);
    command.args(["--loss-split-t", "0", "--cfg", "2"]);
    let directory = tempfile::tempdir().unwrap();
    command.current_dir(&directory).stdout(Stdio::null()).stderr(closed_pipe());
    assert_eq!(command.status().unwrap().code(), Some(0));
    assert!(directory.path().join("samples/images/0.png").is_file());
}

#[test]
fn an_empty_variable_is_none_and_a_wrong_one_is_named() {
    let mut command = var_dd(&["info"]);
    command.env("VAR_DD_DEVICE", "").env("VAR_DD_MODEL", "").env("VAR_DD_DTYPE", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));

    let output = var_dd(&["info"]).env("VAR_DD_DEVICE", "gpu").output().unwrap();
    let said = error(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("The value of --device is that of the variable VAR_DD_DEVICE."),
        "{said}"
    );
    let output = var_dd(&["info", "--device=gpu"]).output().unwrap();
    assert!(!error(&output).contains("variable"), "{}", error(&output));

    let output = var_dd(&["info"]).env("VAR_DD_MODEL", "/nowhere").output().unwrap();
    let said = error(&output);
    assert!(said.contains("The model is that of the variable VAR_DD_MODEL."), "{said}");

    // What the command itself refuses, too.
    let mut command = var_dd(&["serve"]);
    let output = command.env("VAR_DD_LISTEN", "nowhere").output().unwrap();
    let said = error(&output);
    assert!(
        said.contains("The value of --listen is that of the variable VAR_DD_LISTEN."),
        "{said}"
    );
    // Every variable of the server may be empty.
    let mut command = var_dd(&["serve", "--listen", "nowhere"]);
    for name in ["PUBLIC_URL", "ALLOW_ORIGIN", "TRUSTED_PROXY", "QUEUE_LIMIT", "DATA_DIR"] {
        command.env(format!("VAR_DD_{name}"), "");
    }
    let said = error(&command.output().unwrap());
    assert!(said.contains("--listen") && !said.contains("VAR_DD"), "{said}");
}

#[test]
fn info_lists_every_model_of_the_variable() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other");
    std::os::unix::fs::symlink(demo_model(), &other).unwrap();
    let both = format!("{},{}", demo_model().display(), other.display());
    let output = var_dd(&["info", "--device", "cpu"]).env("VAR_DD_MODEL", &both).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    assert_eq!(said.matches("\nmodel ").count(), 2, "{said}");
    assert!(said.contains(&*other.to_string_lossy()), "{said}");
    assert!(said.contains("1 pass (") && !said.contains("1 passes"), "{said}");
    // With a flag, that one alone; a comma in it is a letter like any other.
    let with_comma = directory.path().join("a,b");
    std::os::unix::fs::symlink(demo_model(), &with_comma).unwrap();
    let output =
        var_dd(&["info", "--model"]).arg(&with_comma).env("VAR_DD_MODEL", &both).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.matches("\nmodel ").count() == 1 && said.contains("a,b"), "{said}");
}

#[test]
fn the_flags_of_the_device_are_the_same_in_the_help_of_every_command() {
    let help_of = |command: &[&str]| {
        let output = var_dd(&[command, &["--help"]].concat()).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let start = help.find("--dtype").unwrap_or_else(|| panic!("{command:?}: {help}"));
        let rest = &help[start..];
        rest[..rest.find("VAR_DD_DTYPE").unwrap()].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let serve = help_of(&["serve"]);
    assert!(serve.contains("for large models, on a CPU that multiplies it natively"), "{serve}");
    for command in [
        &["sample"][..],
        &["info"],
        &["bench"],
        &["evaluate"],
        &["trace"],
        &["train", "all"],
        &["train", "score"],
    ] {
        assert_eq!(help_of(command), serve, "{command:?}");
    }
}

#[test]
fn download_without_a_name_lists_what_there_is() {
    let output = var_dd(&["download"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for name in ["d16", "d20", "d24", "vae", "teacher", "statistics", "inception"] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(name)), "{said}");
    }
}

#[test]
fn a_server_that_cannot_start_leaves_nothing_and_says_where_the_trouble_is() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = var_dd(&["serve", "--listen", "127.0.0.1:0", "--device", "cpu"]);
        command.args(arguments).current_dir(&directory).output().unwrap()
    };
    let output = run(&["--model", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("nowhere"), "{}", error(&output));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

    fs::write(directory.path().join("file"), "").unwrap();
    let output = run(&["--data-dir", "file/data"]);
    let said = error(&output);
    assert!(
        said.contains("nothing can be kept in file/data") && said.contains("--data-dir"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);

    let not_text = std::ffi::OsStr::from_bytes(b"d\xff");
    let mut command = var_dd(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let output = command.arg(not_text).current_dir(&directory).output().unwrap();
    assert!(error(&output).contains("UTF-8"), "{}", error(&output));
}

#[test]
fn colours_are_for_terminals_and_no_color_forbids_them() {
    // Not a terminal here: no colours whatever the variable says.
    for value in ["", "1"] {
        let mut command = var_dd(&["sample", "--sample-num", "1", "--device", "cpu", "--cfg", "2"]);
        command.args(["--t-list", "0", "--loss-split-t", "0"]).env("NO_COLOR", value);
        let directory = tempfile::tempdir().unwrap();
        let said = error(&command.current_dir(&directory).output().unwrap());
        assert!(said.contains("--cfg has no effect") && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn no_command_waits_for_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = pipe.to_str().unwrap();
    let out = directory.path().join("out");
    let out = out.to_str().unwrap();
    for arguments in [
        &["convert", "--student", pipe, "--vae", pipe, "--output", out][..],
        &["trace-filter", "--top-k", "1", "--top-p", "0", "--input", pipe, "--output", out],
        &["evaluate", pipe, "--reference", pipe, "--weights", pipe],
        &["read", pipe],
    ] {
        let output = var_dd(arguments).current_dir(&directory).output().unwrap();
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("pipe") || said.contains("not there"), "{said}");
    }
    assert!(!Path::new(out).exists());
}

#[test]
fn what_stands_beside_a_series_says_changes_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let sample = |more: &[&str]| {
        let mut command = var_dd(&["sample", "--sample-num", "1", "--device", "cpu"]);
        command.args(more).current_dir(&directory).output().unwrap()
    };
    assert!(sample(&["--seed", "1"]).status.success());
    let said = error(&sample(&["--seed", "2"]));
    assert!(said.contains("seed is 1 there and 2 here"), "{said}");
    assert!(!said.contains('{') && !said.contains("\\\""), "{said}");
}
