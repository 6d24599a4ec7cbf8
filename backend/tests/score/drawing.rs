//! `var-dd sample` at scale.

use std::{
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
};

use image::RgbImage;
use tch::Tensor;
use var_dd_engine::{
    bundle::Bundle,
    evaluate::npz::Npz,
    ops::{Ops, Settings},
    sample::{
        Batch, Frames, noise::PictureSeed, plan::Plan, released_stream::ReleasedStream, to_rgb8,
    },
};

use crate::program::{count, demo_model, fail, files, kill_when, succeed, var_dd};

/// 38 pictures in batches of 4, the last of which is smaller.
const PICTURES: usize = 38;

fn sample(directory: &Path, arguments: &[&str]) -> Command {
    let mut command =
        var_dd(&["sample", "--sample-num", "38", "--bs", "4", "--device", "cpu", "--seed", "5"]);
    command.arg("--model").arg(demo_model()).arg("--sample-dir").arg(directory).args(arguments);
    command
}

fn archive(path: &Path, arguments: &[&str]) -> Command {
    let mut command =
        var_dd(&["sample", "--sample-num", "38", "--bs", "4", "--device", "cpu", "--seed", "5"]);
    command.arg("--model").arg(demo_model()).arg("--npz").arg(path).args(arguments);
    command
}

fn pictures_of(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = Npz::open(path).unwrap().array("arr_0").unwrap().pictures().unwrap();
    let mut pictures = Vec::new();
    while let Some(piece) = reader.next(1).unwrap() {
        pictures.push(Vec::try_from(piece.view([-1])).unwrap());
    }
    pictures
}

fn pixels(directory: &Path, index: usize) -> RgbImage {
    image::open(directory.join(format!("images/{index}.png"))).unwrap().to_rgb8()
}

#[test]
fn a_set_is_the_same_whole_in_shards_and_after_many_kills() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    succeed(&mut sample(&at("whole"), &[]));
    let whole = files(&at("whole/images"));
    assert_eq!(whole.len(), PICTURES);

    let killed = at("killed");
    let images = killed.join("images");
    let mut kills = 0;
    loop {
        let before = count(&images);
        // In the middle of a batch, and sometimes in the middle of a file.
        if !kill_when(&mut sample(&killed, &[]), || count(&images) > before + kills % 3) {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills happened before the end");
    assert_eq!(files(&images), whole);
    assert_eq!(files(&killed), files(&at("whole")), "parameters and contact sheet");

    for shard in ["0/4", "3/4", "1/4", "2/4"] {
        succeed(&mut sample(&at("shards"), &["--shard", shard]));
    }
    assert_eq!(files(&at("shards/images")), whole);
    // Nothing is left to draw: a model that cannot be loaded is not missed.
    let said = succeed(&mut sample(&at("shards"), &[]));
    assert!(said.contains("all 38 pictures are there already"), "{said}");
    assert_eq!(files(&at("shards")), files(&at("whole")));
}

#[test]
fn an_archive_holds_the_pictures_of_the_folder_however_it_came_about() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    succeed(&mut sample(&at("folder"), &[]));
    succeed(&mut archive(&at("whole.npz"), &[]));
    let pictures = pictures_of(&at("whole.npz"));
    let expected: Vec<_> =
        (0..PICTURES).map(|index| pixels(&at("folder"), index).into_raw()).collect();
    assert_eq!(pictures, expected);
    assert_eq!(count(home.path()), 3, "folder, archive and parameters; no parts are left");

    let parts = at("cut.npz.parts");
    assert!(kill_when(&mut archive(&at("cut.npz"), &[]), || count(&parts) >= 3));
    assert!(!at("cut.npz").exists());
    succeed(&mut archive(&at("cut.npz"), &["--shard", "1/2"]));
    assert!(!at("cut.npz").exists(), "a shard alone is no archive");
    succeed(&mut archive(&at("cut.npz"), &[]));
    assert!(!parts.exists());
    assert_eq!(fs::read(at("cut.npz")).unwrap(), fs::read(at("whole.npz")).unwrap());
    let said = succeed(&mut archive(&at("cut.npz"), &[]));
    assert!(said.contains("all 38 pictures are there already"), "{said}");
}

#[test]
fn calls_for_one_archive_at_once_all_end_well_and_none_discards_another_s_pictures() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("x.npz");
    let running: Vec<_> = (0..3)
        .map(|_| archive(&path, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(count(home.path()), 2, "archive and parameters; no parts are left");
    assert_eq!(pictures_of(&path).len(), PICTURES);

    // Somebody at work, as far as the lock tells.
    let parts = home.path().join("x.npz.parts");
    fs::create_dir(&parts).unwrap();
    let at_work = fs::File::open(&parts).unwrap();
    at_work.lock_shared().unwrap();
    let (code, said) = fail(&mut archive(&path, &["--class", "3", "--overwrite"]));
    assert!(code == 2 && said.contains("another var-dd is drawing"), "{said}");
    assert_eq!(pictures_of(&path).len(), PICTURES);
}

#[test]
fn other_parameters_are_refused_by_name_and_nothing_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("set");
    succeed(&mut sample(&directory, &["--class", "3"]));
    let before = (files(&directory), files(&directory.join("images")));
    for (arguments, differences) in [
        (&["--class", "4"][..], vec!["labels is"]),
        (&["--class", "3", "--dtype", "bf16"], vec!["dtype is f32 there and bf16 here"]),
        (&["--class", "3", "--plan", "2 steps"], vec!["plan is"]),
        (&["--labels", "random"], vec!["labels is"]),
        (&["--rng", "torch"], vec!["labels is", "rng is picture there and torch here"]),
    ] {
        let (code, said) = fail(&mut sample(&directory, arguments));
        assert_eq!(code, 2);
        for difference in differences {
            assert!(said.contains(difference) && said.contains("--overwrite"), "{said}");
        }
    }
    assert_eq!((files(&directory), files(&directory.join("images"))), before);

    fs::remove_file(directory.join("parameters.json")).unwrap();
    let (_, said) = fail(&mut sample(&directory, &["--class", "3"]));
    assert!(said.contains("parameters.json is missing"), "{said}");
    let mut fewer =
        var_dd(&["sample", "--sample-num", "2", "--class", "4", "--device", "cpu", "--overwrite"]);
    succeed(fewer.arg("--model").arg(demo_model()).arg("--sample-dir").arg(&directory));
    assert_eq!(count(&directory.join("images")), 2, "pictures of the other set are gone");
}

#[test]
fn a_picture_that_was_cut_off_is_drawn_again() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("set");
    succeed(&mut sample(&directory, &[]));
    let before = files(&directory.join("images"));
    for (index, length) in [(3, 0), (20, 100)] {
        let path = directory.join(format!("images/{index}.png"));
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    }
    fs::write(directory.join("images/.left-behind.tmp"), "half").unwrap();
    let said = succeed(&mut sample(&directory, &[]));
    // Two batches of four, drawn whole.
    assert!(said.contains("8 pictures after 30"), "{said}");
    assert_eq!(files(&directory.join("images")), before);
}

#[test]
fn the_torch_stream_gives_the_released_script_s_labels_and_noise() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("set");
    let mut command =
        var_dd(&["sample", "--sample-num", "5", "--bs", "2", "--device", "cpu", "--rng", "torch"]);
    command.arg("--model").arg(demo_model()).arg("--sample-dir").arg(&directory);
    succeed(command.args(["--t-list", "0", "--loss-split-t", "3"]));

    let settings = Settings { threads: NonZeroUsize::new(1), ..Settings::default() };
    let ops = Ops::open(tch::Device::Cpu, settings);
    let bundle = Bundle::open(&demo_model()).unwrap();
    let sampler = bundle.sampler(&ops, tch::Kind::Float).unwrap();
    let config = &sampler.config;
    let classes = config.num_classes as u64;
    let mut stream = ReleasedStream::new(0, 5, classes, 2, config.tokens(), config.latent_channels);
    let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 3 };
    for batch in 0..3 {
        let numbers = batch * 2..(batch * 2 + 2).min(5);
        let labels = Tensor::from_slice(&stream.labels()[numbers.clone()]);
        let noise = stream.noise(batch);
        let seeds: Vec<_> =
            numbers.clone().map(|index| PictureSeed { seed: 0, index: index as u64 }).collect();
        let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
        let tokens = sampler
            .run(&plan, &batch, Frames::None, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        let pictures = sampler.pictures(sampler.f_hats(&tokens).last().unwrap());
        for (index, bytes) in numbers.zip(to_rgb8(&pictures).unwrap()) {
            assert_eq!(pixels(&directory, index).into_raw(), bytes, "picture {index}");
        }
    }
    for arguments in [["--class", "1"], ["--labels", "turn"]] {
        let mut command = var_dd(&["sample", "--rng", "torch"]);
        let (code, said) = fail(command.arg("--model").arg(demo_model()).args(arguments));
        assert_eq!(code, 2);
        assert!(said.contains("--rng torch draws the labels"), "{said}");
    }
}

#[test]
fn a_place_that_cannot_be_written_ends_the_run_with_its_name() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let (_, said) = fail(&mut sample(&file, &[]));
    assert!(said.contains("cannot make") && said.contains("file/images"), "{said}");
    let full = home.path().join("full.npz");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let (_, said) = fail(&mut archive(&full, &[]));
    assert!(said.contains("cannot write") && !said.contains("ZipWriter"), "{said}");
    fs::write(home.path().join("x.npz.parts"), "").unwrap();
    let (code, said) = fail(&mut archive(&home.path().join("x.npz"), &[]));
    assert!(code == 2 && said.contains("x.npz.parts is no directory"), "{said}");
    let (code, said) = fail(&mut sample(home.path(), &["--shard", "4/4"]));
    assert!(code == 2 && said.contains("I/N"), "{said}");
}
