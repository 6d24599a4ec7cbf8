//! `var-dd evaluate`.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    evaluate::{
        features::{FeatureNetwork, InceptionFeatures},
        frechet::Statistics,
        npz::write_tensors,
    },
    tensor_file,
};

use crate::{
    inputs::{archive, folder, inception_weights, pictures},
    program::{count, demo_model, fail, kill_when, succeed, var_dd},
};

fn evaluate(output: &Path, reference: &Path) -> Command {
    let mut command = var_dd(&["evaluate", "--device", "cpu", "--output"]);
    command.arg(output).arg("--reference").arg(reference).arg("--weights").arg(inception_weights());
    command
}

fn scores(output: &Path) -> Value {
    serde_json::from_slice(&fs::read(output.join("scores.json")).unwrap()).unwrap()
}

fn fid(output: &Path) -> f64 {
    scores(output)["fid"].as_f64().unwrap()
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}

#[test]
fn folder_archive_and_features_at_hand_give_the_same_scores() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let (drawn, real) = (pictures(13, 0), pictures(9, 40));
    folder(&at("drawn"), &drawn);
    archive(&at("drawn.npz"), &drawn);
    folder(&at("real/images"), &real);
    archive(&at("real.npz"), &real);
    succeed(evaluate(&at("a"), &at("real")).arg(at("drawn")).args(["--curve-points", "3"]));
    let said = succeed(evaluate(&at("b"), &at("real.npz")).arg(at("drawn.npz")));
    assert_eq!(scores(&at("a"))["fid"], scores(&at("b"))["fid"]);

    tch::set_num_threads(1);
    let network = InceptionFeatures::open(inception_weights(), Device::Cpu).unwrap();
    let features = |pictures: &[image::RgbImage]| {
        let bytes: Vec<u8> = pictures.iter().flat_map(|picture| picture.as_raw().clone()).collect();
        let stack = Tensor::from_slice(&bytes).view([pictures.len() as i64, 20, 24, 3]);
        network.describe(&stack).unwrap()
    };
    let (a, b) = (features(&drawn), features(&real));
    let distance = |a: &Tensor, b: &Tensor| {
        Statistics::of_features(a).unwrap().distance(&Statistics::of_features(b).unwrap()).unwrap()
    };
    let found = scores(&at("a"));
    assert!(relative(fid(&at("a")), distance(&a.pooled, &b.pooled)) < 1e-6);
    let sfid = found["sfid"].as_f64().unwrap();
    assert!(relative(sfid, distance(&a.spatial.unwrap(), &b.spatial.unwrap())) < 1e-6);
    let p = a.probabilities.unwrap().to_kind(Kind::Double);
    let mean = p.mean_dim([0].as_slice(), true, Kind::Double);
    let divergence =
        (&p * (p.log() - mean.log())).sum_dim_intlist([1].as_slice(), false, Kind::Double);
    let inception = divergence.mean(Kind::Double).exp().double_value(&[]);
    assert!(relative(found["inception_score"]["mean"].as_f64().unwrap(), inception) < 1e-6);
    let shares = &found["precision_and_recall"];
    assert_eq!(
        (shares["pictures"].as_u64(), shares["reference_pictures"].as_u64()),
        (Some(13), Some(9))
    );
    assert!((0.0..=1.0).contains(&shares["precision"].as_f64().unwrap()));

    let curve: Vec<_> = found["curve"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["pictures"].as_u64().unwrap())
        .collect();
    assert_eq!(curve.last(), Some(&13));
    assert!(
        said.contains("FID") && said.contains("note: Published scores are of 50000 pictures"),
        "{said}"
    );
    assert!(said.contains("this reference is another one"), "{said}");
    let page = fs::read_to_string(at("a/scores.html")).unwrap();
    assert!(page.contains("pytorch-fid") && page.contains("contact-sheet.png"));
    assert!(at("a/contact-sheet.png").is_file());
}

#[test]
fn drawn_without_files_and_from_files_the_scores_are_the_same_also_after_kills() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    folder(&at("real"), &pictures(9, 40));
    let draws = ["--bs", "4", "--seed", "7", "--labels", "random", "--curve-points", "4"];
    let drawing = |output: &Path| {
        let mut command = evaluate(output, &at("real"));
        command.arg("--model").arg(demo_model()).args(["--sample-num", "18"]).args(draws);
        command
    };
    succeed(&mut drawing(&at("whole")));
    let whole = fs::read_to_string(at("whole/scores.json")).unwrap();
    assert_eq!(scores(&at("whole"))["curve"].as_array().unwrap().len(), 4);

    let mut sample = var_dd(&["sample", "--device", "cpu", "--sample-num", "18"]);
    sample.args(&draws[..6]).arg("--model").arg(demo_model()).arg("--sample-dir").arg(at("files"));
    succeed(&mut sample);
    succeed(
        evaluate(&at("from-files"), &at("real")).arg(at("files")).args(["--curve-points", "0"]),
    );
    let off = relative(fid(&at("whole")), fid(&at("from-files")));
    assert!(off < 1e-6, "{off}");

    // While another process is at work there.
    fs::create_dir(at("killed")).unwrap();
    let lock = fs::File::create(at("killed/.lock")).unwrap();
    lock.lock().unwrap();
    let (code, said) = fail(&mut drawing(&at("killed")));
    assert!(code == 2 && said.contains("another var-dd is scoring"), "{said}");
    drop(lock);

    // Killed as soon as there is a checkpoint that it did not find when it began.
    let checkpoint = at("killed/checkpoint.safetensors");
    let mut kills = 0;
    loop {
        let before = fs::metadata(&checkpoint).and_then(|metadata| metadata.modified()).ok();
        let due =
            || fs::metadata(&checkpoint).and_then(|metadata| metadata.modified()).ok() != before;
        if !kill_when(&mut drawing(&at("killed")), due) {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "only {kills} kills happened before the end");
    assert_eq!(fs::read_to_string(at("killed/scores.json")).unwrap(), whole);
    assert!(!checkpoint.exists());
    assert_eq!(
        fs::read(at("killed/contact-sheet.png")).unwrap(),
        fs::read(at("whole/contact-sheet.png")).unwrap()
    );

    let said = succeed(&mut drawing(&at("killed")));
    assert!(said.contains("scored already"), "{said}");
    let (code, said) =
        fail(drawing(&at("killed")).args(["--t-list", "0,3", "--loss-split-t", "3"]));
    assert!(code == 2 && said.contains("plan is"), "{said}");
}

#[test]
fn statistics_that_were_saved_serve_as_a_reference() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    folder(&at("drawn"), &pictures(5, 0));
    folder(&at("real"), &pictures(6, 40));
    let statistics = at("real.npz");
    let mut saving = evaluate(&at("a"), &at("drawn"));
    succeed(
        saving
            .arg(at("real"))
            .arg("--save-statistics")
            .arg(&statistics)
            .args(["--curve-points", "0"]),
    );
    succeed(evaluate(&at("b"), &statistics).arg(at("drawn")).args(["--curve-points", "0"]));
    let (a, b) = (scores(&at("a")), scores(&at("b")));
    for score in ["fid", "sfid"] {
        let off = relative(a[score].as_f64().unwrap(), b[score].as_f64().unwrap());
        assert!(off < 1e-4, "the distance is the same both ways: {score} is off by {off}");
    }
    assert!(b["precision_and_recall"].is_null());
    assert_eq!(b["reference"]["kind"], "reference batch of ADM (mu, sigma, mu_s, sigma_s)");
}

#[test]
fn malformed_inputs_are_named_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let good = pictures(3, 0);
    folder(&at("good"), &good);
    archive(&at("good.npz"), &good);
    let whole = fs::read(at("good.npz")).unwrap();
    fs::write(at("truncated.npz"), &whole[..whole.len() / 2]).unwrap();
    let mut flipped = whole;
    flipped[1000] ^= 1;
    fs::write(at("flipped.npz"), flipped).unwrap();
    let numbers = |name: &str, shape: &[i64], count: i64| {
        let tensor = Tensor::arange(count, (Kind::Double, Device::Cpu)).reshape(shape);
        write_tensors(fs::File::create(at(name)).unwrap(), &[("arr_0", &tensor)]).unwrap();
    };
    numbers("floats.npz", &[2, 2, 2, 3], 24);
    let images = Tensor::zeros([2, 2, 2, 3], (Kind::Double, Device::Cpu));
    write_tensors(fs::File::create(at("named.npz")).unwrap(), &[("images", &images)]).unwrap();
    folder(&at("animated"), &good);
    fs::write(at("animated/1.png"), animation(&good)).unwrap();
    fs::create_dir(at("empty")).unwrap();
    folder(&at("grey"), &good);
    image::GrayImage::new(24, 20).save(at("grey/1.png")).unwrap();
    folder(&at("sizes"), &good);
    image::RgbImage::new(24, 21).save(at("sizes/2.png")).unwrap();
    folder(&at("cut"), &good);
    let cut = at("cut/2.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 60]).unwrap();
    folder(&at("one"), &good[..1]);
    let mean = Tensor::zeros([64], (Kind::Double, Device::Cpu));
    let covariance = Tensor::eye(64, (Kind::Double, Device::Cpu));
    write_tensors(
        fs::File::create(at("small.npz")).unwrap(),
        &[("mu", &mean), ("sigma", &covariance)],
    )
    .unwrap();

    for (pictures, reference, parts) in [
        ("truncated.npz", "good", &["truncated.npz", "no whole .npz"][..]),
        ("flipped.npz", "good", &["flipped.npz", "checksum"]),
        ("floats.npz", "good", &["floats.npz", "[2, 2, 2, 3]", "unsigned bytes"]),
        ("named.npz", "good", &["named.npz has no array arr_0", "images", "numpy.savez"]),
        ("animated", "good", &["animated/1.png is an animation"]),
        ("empty", "good", &["empty holds no pictures"]),
        ("grey", "good", &["grey/1.png", "grey with 8 bits"]),
        ("sizes", "good", &["sizes/2.png", "24×21", "24×20"]),
        ("cut", "good", &["cut/2.png", "not a whole picture"]),
        ("one", "good", &["there is 1 picture"]),
        ("nowhere", "good", &["nowhere is not there"]),
        ("good", "nowhere.npz", &["nowhere.npz is not there"]),
        ("good", "small.npz", &["64 features", "2048"]),
        ("good", "truncated.npz", &["truncated.npz", "no whole .npz"]),
        ("good", "good/0.png", &["0.png"]),
    ] {
        let before = count(home.path());
        let (code, said) = fail(evaluate(&at("scores"), &at(reference)).arg(at(pictures)));
        assert_eq!(code, 1, "{said}");
        assert!(
            parts.iter().all(|part| said.contains(part)),
            "{pictures} against {reference}: {said}"
        );
        assert_eq!(count(home.path()), before, "{pictures} against {reference} left something");
    }
    let mut weights = var_dd(&["evaluate", "--weights"]);
    weights
        .arg(demo_model().join("vae.safetensors"))
        .arg(at("good"))
        .arg("--reference")
        .arg(at("good"));
    let (_, said) = fail(weights.arg("--output").arg(at("scores")));
    assert!(said.contains("vae.safetensors does not fit the network"), "{said}");
    assert!(!at("scores").exists());
}

/// An animated PNG.
fn animation(pictures: &[image::RgbImage]) -> Vec<u8> {
    let (width, height) = pictures[0].dimensions();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(pictures.len() as u32, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    pictures.iter().for_each(|picture| writer.write_image_data(picture).unwrap());
    writer.finish().unwrap();
    bytes
}

#[test]
fn scores_of_given_pictures_and_of_drawn_ones_are_never_taken_for_each_other() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    folder(&at("real"), &pictures(3, 40));
    folder(&at("given"), &pictures(3, 0));
    let drawing = |count: &str| {
        let mut command = evaluate(&at("scores"), &at("real"));
        command.arg("--model").arg(demo_model()).args(["--sample-num", count, "--bs", "2"]);
        command
    };
    let given = || {
        let mut command = evaluate(&at("scores"), &at("real"));
        command.arg(at("given"));
        command
    };
    succeed(&mut drawing("2"));
    let drawn = scores(&at("scores"));
    let (code, said) = fail(&mut given());
    assert!(code == 2 && said.contains("were drawn") && said.contains("--overwrite"), "{said}");
    assert_eq!(scores(&at("scores")), drawn);
    succeed(given().arg("--overwrite"));
    assert_ne!(scores(&at("scores")), drawn);
    let said = succeed(&mut drawing("2"));
    assert!(!said.contains("scored already"), "{said}");
    assert_eq!(scores(&at("scores")), drawn);

    // What an interrupted drawing leaves has no scores of others beside it.
    succeed(given().arg("--overwrite"));
    let parameters = at("scores/parameters.json");
    if kill_when(&mut drawing("18"), || parameters.exists()) {
        assert!(!at("scores/scores.json").exists());
    }
}

#[test]
fn places_that_cannot_be_written_are_refused_first_and_no_score_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    folder(&at("real"), &pictures(3, 40));
    folder(&at("drawn"), &pictures(3, 0));
    fs::write(at("file"), "").unwrap();
    for output in ["file", "file/scores"] {
        let (code, said) = fail(evaluate(&at(output), &at("real")).arg(at("drawn")));
        assert!(code == 1 && said.contains("file is no directory"), "{said}");
    }
    let reference = at("reference.npz");
    fs::write(&reference, "statistics").unwrap();
    let picture = fs::read(at("drawn/0.png")).unwrap();
    for (place, words) in [
        ("drawn/0.png", "holds anything but statistics"),
        ("reference.npz", "the file that pictures are compared with"),
    ] {
        let mut saving = evaluate(&at("scores"), &reference);
        let (code, said) = fail(saving.arg(at("drawn")).arg("--save-statistics").arg(at(place)));
        assert!(code == 2 && said.contains(words), "{said}");
    }
    assert_eq!(fs::read(at("drawn/0.png")).unwrap(), picture);
    assert!(!at("scores").exists());

    // What shows only in the end: the scores have been told by then, and nothing is half there.
    let failed = |command: &mut Command| {
        let output = command.arg(at("drawn")).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && told.contains("FID"), "{told}");
        String::from_utf8(output.stderr).unwrap()
    };
    fs::create_dir_all(at("blocked/scores.json")).unwrap();
    let said = failed(&mut evaluate(&at("blocked"), &at("real")));
    assert!(said.contains("cannot write the scores to") && said.contains("blocked"), "{said}");
    assert_eq!(count(&at("blocked")), 1);
    let full = ["--save-statistics", "/dev/full"];
    let said = failed(evaluate(&at("scores"), &at("real")).args(full));
    assert!(said.contains("cannot write /dev/full") && !said.contains("ZipWriter"), "{said}");
}

/// A judge of two classes; the weights of its classifier are all the same.
fn judge(directory: &Path, name: &str, side: i64, weight: f64) {
    let config = serde_json::json!({ "classes": ["a", "b"], "side": side, "channels": [8] });
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("judge.json"), config.to_string()).unwrap();
    let full = |shape: &[i64], value: f64| Tensor::full(shape, value, (Kind::Float, Device::Cpu));
    let tensors = [
        ("levels.0.conv.weight", full(&[8, 3, 3, 3], 0.1)),
        ("levels.0.conv.bias", full(&[8], 0.0)),
        ("levels.0.norm.weight", full(&[8], 1.0)),
        ("levels.0.norm.bias", full(&[8], 9.0)),
        ("classifier.weight", full(&[2, 8], weight)),
        ("classifier.bias", full(&[2], 0.0)),
    ];
    let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
    tensor_file::write(&directory.join(name), &tensors).unwrap();
}

#[test]
fn a_judge_that_cannot_judge_the_pictures_is_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let square = |shift: u8| {
        image::RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([x as u8 * 9 + shift, y as u8 * 7, (x * y) as u8])
        })
    };
    folder(&at("drawn"), &[0, 20, 40].map(square));
    judge(&at("judge"), "judge.safetensors", 16, 0.1);
    judge(&at("judge"), "overflows.safetensors", 16, 3e38);
    fs::write(at("judge/other.safetensors"), "<html>").unwrap();
    judge(&at("small"), "judge.safetensors", 8, 0.1);
    let scoring = |weights: &str| {
        let mut command = var_dd(&["evaluate", "--device", "cpu", "--features", "judge"]);
        command.arg("--weights").arg(at(weights)).arg("--reference").arg(at("drawn"));
        command.arg(at("drawn")).arg("--output").arg(at("scores"));
        command
    };
    for (weights, words) in [
        ("judge/overflows.safetensors", "class probabilities are no numbers"),
        ("judge/other.safetensors", "judge/other.safetensors"),
        ("small/judge.safetensors", "drawn/0.png is 16×16, and the judge network takes"),
    ] {
        let (code, said) = fail(&mut scoring(weights));
        assert!(code == 1 && said.contains(words), "{weights}: {said}");
        assert!(!at("scores").exists());
    }
    succeed(&mut scoring("judge/judge.safetensors"));
}

/// Scores pictures, which may fail; code and what was said on the error stream.
fn score(home: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = evaluate(&home.join("scores"), &home.join("real"));
    let output = command.args(arguments).current_dir(home).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_jpeg_that_ends_too_early_is_refused_by_name_as_other_formats_are() {
    let home = tempfile::tempdir().unwrap();
    folder(&home.path().join("real"), &pictures(3, 40));
    for ending in ["jpg", "png", "webp"] {
        let drawn = home.path().join(ending);
        fs::create_dir(&drawn).unwrap();
        for (index, picture) in pictures(3, 0).iter().enumerate() {
            picture.save(drawn.join(format!("{index}.{ending}"))).unwrap();
        }
        let victim = drawn.join(format!("1.{ending}"));
        let bytes = fs::read(&victim).unwrap();
        for length in [bytes.len() / 2, bytes.len() * 9 / 10, bytes.len() - 1] {
            // A PNG without its last byte says all there is to say of the picture.
            if ending == "png" && length == bytes.len() - 1 {
                continue;
            }
            fs::write(&victim, &bytes[..length]).unwrap();
            let (code, said) = score(home.path(), &[ending]);
            assert_eq!(code, 1, "{ending} {length}: {said}");
            assert!(said.contains(&format!("1.{ending} is not a whole picture")), "{said}");
            assert!(!home.path().join("scores").exists());
        }
    }
}

#[test]
fn folders_below_are_scored_on_request_and_what_is_left_out_is_said() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let all = pictures(7, 0);
    folder(&at("real"), &pictures(4, 40));
    folder(&at("flat"), &all);
    folder(&at("classes/a"), &all[..3]);
    folder(&at("classes/b/deep"), &all[3..5]);
    folder(&at("classes"), &all[5..]);
    fs::write(at("classes/labels.txt"), "a b").unwrap();
    fs::write(at("classes/0.tif"), "other").unwrap();
    let (code, said) = score(home.path(), &["classes", "--curve-points", "0"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("left out 2 folders (--recursive looks into them)"), "{said}");
    assert!(said.contains("1 .tif file") && said.contains("1 .txt file"), "{said}");
    assert_eq!(scores(&at("scores"))["pictures"], 2);
    let (code, said) = score(home.path(), &["classes", "--recursive", "--curve-points", "0"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(scores(&at("scores"))["pictures"], 7);
    let recursive = fid(&at("scores"));
    score(home.path(), &["flat", "--curve-points", "0"]);
    assert!(relative(recursive, fid(&at("scores"))) < 1e-9);
    // Nothing but folders is said with the flag that helps.
    fs::create_dir_all(at("empty/inside")).unwrap();
    let (_, said) = score(home.path(), &["empty"]);
    assert!(said.contains("holds no pictures") && said.contains("--recursive"), "{said}");
}

#[test]
fn scores_may_be_written_into_the_folder_of_pictures_itself() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    folder(&at("real"), &pictures(3, 40));
    folder(&at("drawn"), &pictures(3, 0));
    let run = || succeed(evaluate(&at("drawn"), &at("real")).arg(at("drawn")));
    run();
    let first = scores(&at("drawn"));
    let said = run();
    assert_eq!(scores(&at("drawn")), first, "its own sheet is no picture");
    assert_eq!(first["pictures"], 3);
    assert!(said.lines().any(|line| line.starts_with("FID ")), "{said}");
}
