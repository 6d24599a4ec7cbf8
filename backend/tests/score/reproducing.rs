//! `var-dd reproduce`.

use std::{fs, path::Path, process::Command, time::SystemTime};

use serde_json::Value;

use crate::{
    inputs::{folder, inception_weights, pictures},
    program::{count, demo_model, fail, kill_when, succeed, var_dd},
};

fn reproduce(home: &Path, arguments: &[&str]) -> Command {
    let mut command = var_dd(&["reproduce", "--device", "cpu", "--curve-points", "2"]);
    command.current_dir(home).env("HF_HOME", home.join("hf")).env("TORCH_HOME", home.join("torch"));
    command.args(arguments);
    command
}

#[test]
fn all_plans_of_a_model_make_a_table_that_goes_on_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    folder(&home.path().join("real"), &pictures(5, 40));
    let config: Value =
        serde_json::from_slice(&fs::read(demo_model().join("config.json")).unwrap()).unwrap();
    let plans: Vec<_> = config["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["name"].as_str().unwrap())
        .collect();
    assert!(plans.len() > 2);
    let run = || {
        let mut command =
            reproduce(home.path(), &["--sample-num", "5", "--bs", "2", "--reference", "real"]);
        command.arg("--model").arg(demo_model()).arg("--weights").arg(inception_weights());
        command
    };
    let output = home.path().join("reproduced");
    let finished = || -> Vec<(std::path::PathBuf, SystemTime)> {
        let rows = fs::read_dir(&output).into_iter().flatten().flatten();
        let scores = rows.map(|row| row.path().join("scores.json"));
        scores
            .filter_map(|path| Some((path.clone(), fs::metadata(&path).ok()?.modified().ok()?)))
            .collect()
    };
    assert!(kill_when(&mut run(), || !finished().is_empty()));
    let before = finished();
    let said = succeed(&mut run());
    for (path, written) in before {
        assert_eq!(
            fs::metadata(&path).unwrap().modified().unwrap(),
            written,
            "{} was made anew",
            path.display()
        );
    }
    assert_eq!(finished().len(), plans.len());
    let table: Value =
        serde_json::from_slice(&fs::read(output.join("table.json")).unwrap()).unwrap();
    let rows = table.as_array().unwrap();
    let named: Vec<_> = rows.iter().map(|row| row["plan"].as_str().unwrap()).collect();
    assert_eq!(named, plans);
    for row in rows {
        assert!(row["scores"]["fid"].as_f64().unwrap() > 0.0);
        assert_eq!(row["scores"]["pictures"].as_u64(), Some(5));
    }
    for plan in plans {
        assert!(said.contains(&format!("| {plan} | 5 |")), "{said}");
    }
    let text = fs::read_to_string(output.join("table.md")).unwrap();
    assert!(text.contains("Published scores are of 50000 pictures"), "{text}");

    let mut other = run();
    let (code, said) = fail(other.args(["--seed", "9"]));
    assert!(code == 2 && said.contains("seed is 0 there and 9 here"), "{said}");
}

#[test]
fn everything_that_is_missing_is_said_before_anything_starts() {
    let home = tempfile::tempdir().unwrap();
    let (code, said) = fail(&mut reproduce(home.path(), &[]));
    assert_eq!(code, 1);
    assert!(said.contains("nothing has been started"), "{said}");
    for part in [
        "d16, 1 step",
        "d16, 6 steps with teacher",
        "d20, 2 steps",
        "d24, 1 step",
        "models/d24/config.json cannot be read",
        "var-dd download inception",
        "var-dd download statistics",
        "var-dd download d16 d20 d24 teacher statistics inception",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("cannot be read").count(), 9, "nine published settings: {said}");
    assert_eq!(count(home.path()), 0);
    let (code, said) = fail(&mut reproduce(home.path(), &["--only", "d17"]));
    assert!(code == 2 && said.contains("d24 2 steps"), "{said}");
}
