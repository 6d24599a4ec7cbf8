//! `var-dd train` as a program: killed, without room, and wrongly asked.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

fn train(arguments: &[&str], run: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_var-dd"));
    command.arg("train").args(arguments).arg("--output").arg(run);
    // Networks this small lose more to a second thread than they gain.
    command.env("OMP_NUM_THREADS", "1");
    command
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Every step and its loss.
fn losses(run: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join("vae/metrics.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())).collect()
}

const SMOKE: [&str; 5] = ["vae", "--preset", "smoke", "--device", "cpu"];

#[test]
fn a_killed_stage_goes_on_and_a_full_disk_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (straight, killed) = (directory.path().join("straight"), directory.path().join("killed"));
    let output = succeeds(&mut train(&SMOKE, &straight));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("24 steps of 16")
            && log.contains("held_out_psnr_db")
            && log.contains("per second"),
        "{log}"
    );

    let mut child = train(&SMOKE, &killed).stderr(std::process::Stdio::null()).spawn().unwrap();
    let patience = Instant::now();
    while losses(&killed).len() < 6 {
        assert!(patience.elapsed() < Duration::from_secs(300), "the stage never reached step 6");
        assert!(child.try_wait().unwrap().is_none(), "the stage ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoint = killed.join("vae/checkpoint.safetensors");
    let kept = fs::read(&checkpoint).unwrap();

    // No file may grow beyond a few hundred kilobytes: a full disk as far as a checkpoint is
    // concerned.
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 400; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_var-dd"),
        "train",
    ]);
    let output = limited
        .args(SMOKE)
        .arg("--output")
        .arg(&killed)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("cannot write")
            && error.contains("checkpoint.safetensors")
            && error.contains("nothing"),
        "{error}"
    );
    assert!(fs::read(&checkpoint).unwrap() == kept, "the checkpoint before is whole");
    let left: Vec<_> =
        fs::read_dir(killed.join("vae")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");

    let output = succeeds(&mut train(&SMOKE, &killed));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("goes on after"), "{log}");
    assert_eq!(losses(&killed), losses(&straight));
    let model = |run: &Path| fs::read(run.join("model/vae.safetensors")).unwrap();
    assert!(model(&killed) == model(&straight));
    // What is done is not done again.
    let output = succeeds(&mut train(&SMOKE, &killed));
    assert!(String::from_utf8_lossy(&output.stderr).contains("done already"));
}

#[test]
fn a_whole_run_can_be_rehearsed_and_carried_on_from_an_unfinished_stage() {
    let directory = tempfile::tempdir().unwrap();
    let (short, on) = (directory.path().join("short"), directory.path().join("on"));
    let all = ["all", "--preset", "smoke", "--rehearse", "--device", "cpu"];
    let output = succeeds(&mut train(&all, &short));
    let (log, table) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(log.contains("2 steps of 4") && table.contains("naive 1 step"), "{log}{table}");
    for stage in ["eye", "vae", "teacher", "student", "decoder", "judge"] {
        let lines = fs::read_to_string(short.join(stage).join("metrics.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 2, "{stage}");
        // It begins with the second step.
        let is_judged = lines.lines().nth(1).is_some_and(|line| line.contains("discriminator"));
        assert_eq!(is_judged, ["vae", "decoder"].contains(&stage), "{stage}: {lines}");
    }
    // Each checkpoint leaves the averaged weights, and a run that has only those of the VAE begins
    // the other networks anew.
    let start = short.join("vae");
    let start = start.to_str().unwrap();
    let output = succeeds(&mut train(&[&all[..], &["--start", start]].concat(), &on));
    assert!(output.status.success());
    let first = |run: &Path| losses(run)[0].1;
    assert_ne!(first(&on), first(&short));

    let nothing = directory.path().join("nothing");
    let arguments = [&all[..], &["--start", directory.path().to_str().unwrap()]].concat();
    let output = train(&arguments, &nothing).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--start") && error.contains("vae.safetensors"), "{error}");
}

#[test]
fn what_cannot_be_trained_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = train(arguments, directory.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
    };
    refused(&["vae", "--preset", "huge"], 2, &["huge", "demo, smoke"]);
    refused(&["vae", "--preset", "smoke", "--dtype", "f16"], 2, &["f16", "bf16 or f32"]);
    refused(&["student", "--preset", "smoke"], 1, &["config.json", "cannot be read"]);
    refused(
        &["teacher", "--preset", "smoke"],
        1,
        &["vae.safetensors is missing", "var-dd train vae"],
    );
    refused(&["trajectories", "--pairs", "0"], 2, &["--pairs is 0", "at least 1"]);
    let recipe = directory.path().join("recipe.json");
    let text = succeeds(
        Command::new(env!("CARGO_BIN_EXE_var-dd")).args(["train", "recipe", "--preset", "smoke"]),
    )
    .stdout;
    let mut value: Value = serde_json::from_slice(&text).unwrap();
    value["sizes"]["num_classes"] = 99.into();
    fs::write(&recipe, value.to_string()).unwrap();
    refused(
        &["vae", "--recipe", recipe.to_str().unwrap()],
        2,
        &["num_classes is 99", "from 2 to 20"],
    );
    value["sizes"]["numclasses"] = 3.into();
    fs::write(&recipe, value.to_string()).unwrap();
    refused(&["vae", "--recipe", recipe.to_str().unwrap()], 1, &["is not a recipe", "numclasses"]);
}

#[test]
fn pictures_are_drawn_to_files_with_a_sheet() {
    let directory = tempfile::tempdir().unwrap();
    succeeds(&mut train(
        &["pictures", "--count", "5", "--side", "16", "--class", "fish"],
        directory.path(),
    ));
    let sheet = image::open(directory.path().join("contact-sheet.png")).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (5 * 20 + 4, 24));
    let images = fs::read_dir(directory.path().join("images")).unwrap().count();
    assert_eq!(images, 5);
    let picture = image::open(directory.path().join("images/4-fish.png")).unwrap().to_rgb8();
    let drawn = var_dd_engine::train::pictures::draw(1, 4, 9, 16, 1.0).unwrap();
    assert_eq!(picture.into_raw(), drawn);
}
