//! `var-dd download` against a hub on loopback.

use std::{fs, path::Path, process::Command};

use crate::{
    checkpoints,
    program::{count, fail, succeed, var_dd},
    stand_in::{COMMIT, Fault, StandIn, sha256},
};

const STATISTICS: &str = "microsoft/distilled_decoding/ImageNet-256_FID_Statistic/statistic.pth";

fn download(home: &Path, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = var_dd(&["download"]);
    command.args(arguments).current_dir(home).env("HF_ENDPOINT", endpoint);
    command.env("HF_HOME", home.join("hf")).env("TORCH_HOME", home.join("torch"));
    command
}

fn repository(home: &Path) -> std::path::PathBuf {
    home.join("hf/hub/models--microsoft--distilled_decoding")
}

fn some_bytes(count: u32) -> Vec<u8> {
    (0..count).map(|i| (i * 37 % 253) as u8).collect()
}

#[test]
fn a_student_becomes_a_model_and_the_cache_is_laid_out_as_the_hub_s_own() {
    let home = tempfile::tempdir().unwrap();
    let (student, teacher, vae) =
        (checkpoints::student(), checkpoints::teacher(), checkpoints::vae());
    let hub = StandIn::start(
        &[
            ("microsoft/distilled_decoding/VAR-DD/var-d16.pth", &student),
            ("FoundationVision/var/var_d16.pth", &teacher),
            ("FoundationVision/var/vae_ch160v4096z32.pth", &vae),
        ],
        Fault::None,
    );
    let said = succeed(&mut download(home.path(), &hub.address, &["d16"]));
    assert_eq!(said.trim(), "models/d16");
    let model = home.path().join("models/d16");
    assert!(
        model.join("student.safetensors").is_file() && !model.join("teacher.safetensors").exists()
    );

    let repository = repository(home.path());
    let blob = repository.join("blobs").join(sha256(&student));
    assert_eq!(fs::read(&blob).unwrap(), student);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let snapshot = repository.join("snapshots").join(COMMIT).join("VAR-DD/var-d16.pth");
    assert!(fs::read_link(&snapshot).unwrap().is_relative());
    assert_eq!(snapshot.canonicalize().unwrap(), blob.canonicalize().unwrap());
    assert_eq!(count(&repository.join("blobs")), 1, "nothing unfinished is left");

    // With the teacher the model is made anew, and only the teacher is fetched.
    let before = hub.requests().len();
    succeed(&mut download(home.path(), &hub.address, &["d16", "teacher"]));
    assert!(model.join("teacher.safetensors").is_file());
    let further = hub.requests().split_off(before);
    let fetched: Vec<_> =
        further.iter().filter(|request| request.starts_with("GET /elsewhere")).collect();
    assert_eq!(fetched, ["GET /elsewhere/FoundationVision/var/var_d16.pth"]);
    assert_eq!(count(&home.path().join("models")), 1);
    let said = succeed(&mut download(home.path(), &hub.address, &["d16", "teacher"]));
    assert!(said.contains("is there already"), "{said}");

    // Without a network the cache will do.
    fs::remove_dir_all(&model).unwrap();
    succeed(download(home.path(), &hub.address, &["d16"]).env("HF_HUB_OFFLINE", "1"));
    assert!(model.join("config.json").is_file());
    let nobody = "http://127.0.0.1:9";
    succeed(&mut download(home.path(), nobody, &["vae"]));
    let info = succeed(var_dd(&["info", "--device", "cpu", "--model"]).arg(&model));
    assert!(info.contains("d16") && info.contains("680 tokens"), "{info}");
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(1_000_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::Cuts(300_000));
    let said = succeed(&mut download(home.path(), &hub.address, &["statistics"]));
    assert_eq!(fs::read(said.trim()).unwrap(), bytes);
    let ranges: Vec<_> =
        hub.requests().into_iter().filter(|request| request.contains("/elsewhere/")).collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert!(
        ranges[1].ends_with(" from 300000") && ranges[3].ends_with(" from 900000"),
        "{ranges:?}"
    );
}

#[test]
fn a_connection_that_breaks_for_good_is_an_error_and_the_next_call_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(500_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::Stops(200_000));
    let (code, said) = fail(&mut download(home.path(), &hub.address, &["statistics"]));
    assert!(
        code == 1 && said.contains("200000 of 500000 bytes") && said.contains("goes on there"),
        "{said}"
    );
    assert!(!repository(home.path()).join("snapshots").exists());
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::None);
    let said = succeed(&mut download(home.path(), &hub.address, &["statistics"]));
    assert_eq!(fs::read(said.trim()).unwrap(), bytes);
    assert!(
        hub.requests().iter().any(|request| request.ends_with(" from 200000")),
        "{:?}",
        hub.requests()
    );
}

#[test]
fn wrong_bytes_are_discarded_and_both_hashes_named() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(10_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::Damages);
    let (code, said) = fail(&mut download(home.path(), &hub.address, &["statistics"]));
    let mut damaged = bytes.clone();
    damaged[0] ^= 1;
    assert!(
        code == 1 && said.contains(&sha256(&bytes)) && said.contains(&sha256(&damaged)),
        "{said}"
    );
    assert_eq!(count(&repository(home.path()).join("blobs")), 0);
    assert!(!repository(home.path()).join("snapshots").exists());

    // The Inception weights carry the beginning of their hash in their name.
    let hub = StandIn::start(&[("inception", &bytes)], Fault::None);
    let url = format!("{}/elsewhere/inception", hub.address);
    let (_, said) = fail(&mut download(home.path(), "", &["inception", "--inception-url", &url]));
    assert!(said.contains("should be 6726825d") && said.contains(&sha256(&bytes)), "{said}");
    assert_eq!(count(&home.path().join("torch/hub/checkpoints")), 0);
}

#[test]
fn what_cannot_be_fetched_is_named_with_the_way_to_do_it_by_hand() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("by-hand")).unwrap();
    let hub = StandIn::start(&[], Fault::None);
    for (endpoint, offline, part) in [
        (hub.address.as_str(), "0", "status 404: there is no such file"),
        ("http://127.0.0.1:9", "0", "cannot be reached"),
        (hub.address.as_str(), "1", "is not in the cache"),
    ] {
        let mut command = download(home.path(), endpoint, &["statistics", "--files", "by-hand"]);
        let (code, said) = fail(command.env("HF_HUB_OFFLINE", offline));
        let address = format!(
            "{endpoint}/microsoft/distilled_decoding/resolve/main/ImageNet-256_FID_Statistic"
        );
        for part in [part, &address, "by-hand/statistic.pth", "download statistics --files by-hand"]
        {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(code, 1);
    }
}

#[test]
fn files_fetched_by_hand_are_looked_at_and_kept_where_the_other_commands_look() {
    let home = tempfile::tempdir().unwrap();
    let by_hand = home.path().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let nobody = "http://127.0.0.1:9";
    let run = |name: &str| download(home.path(), nobody, &[name, "--files", "by-hand"]);
    let page = "<!DOCTYPE html><html><title>Sign in</title></html>";
    for (name, file) in [
        ("statistics", "statistic.pth"),
        ("inception", "pt_inception-2015-12-05-6726825d.pth"),
        ("vae", "vae_ch160v4096z32.pth"),
    ] {
        fs::write(by_hand.join(file), page).unwrap();
        let (code, said) = fail(&mut run(name));
        assert!(code == 1 && said.contains(file) && said.contains("web page"), "{said}");
    }
    assert!(!home.path().join("torch").exists());
    let other = by_hand.join("pt_inception-2015-12-05-6726825d.pth");
    fs::write(other, checkpoints::vae()).unwrap();
    let (_, said) = fail(&mut run("inception"));
    assert!(said.contains("should begin with 6726825d"), "{said}");

    // Sound files of something else.
    let vae = by_hand.join("vae_ch160v4096z32.pth");
    fs::write(&vae, checkpoints::student()).unwrap();
    let (_, said) = fail(&mut run("vae"));
    assert!(said.contains("holds no VAE: it holds a student"), "{said}");
    fs::write(&vae, checkpoints::vae()).unwrap();
    assert_eq!(succeed(&mut run("vae")).trim(), "by-hand/vae_ch160v4096z32.pth");
    fs::write(by_hand.join("statistic.pth"), checkpoints::statistics(4)).unwrap();
    let (_, said) = fail(&mut run("statistics"));
    assert!(said.contains("statistics of 4 features") && said.contains("2048"), "{said}");
    // What is no file is not passed over, nor what is no directory.
    fs::remove_file(&vae).unwrap();
    std::os::unix::fs::symlink("gone", &vae).unwrap();
    let (_, said) = fail(&mut run("vae"));
    assert!(said.contains("a link that leads to no file"), "{said}");
    for files in ["nowhere", "by-hand/statistic.pth"] {
        let (code, said) = fail(&mut download(home.path(), nobody, &["vae", "--files", files]));
        assert!(code == 2 && said.contains(&format!("--files is {files}, which is no")), "{said}");
    }

    let statistics = checkpoints::statistics(2048);
    fs::write(by_hand.join("statistic.pth"), &statistics).unwrap();
    let kept = succeed(run("statistics").env("XDG_CACHE_HOME", home.path().join("cache")));
    assert!(fs::read(kept.trim()).unwrap() == statistics);
    // Evaluating finds them there, and misses the weights alone.
    let mut evaluate = var_dd(&["evaluate", "--sample-num", "2"]);
    evaluate.current_dir(home.path()).env("XDG_CACHE_HOME", home.path().join("cache"));
    evaluate.env("HF_HOME", home.path().join("hf")).env("TORCH_HOME", home.path().join("torch"));
    let (_, said) = fail(&mut evaluate);
    assert!(said.contains("download inception") && !said.contains("statistics"), "{said}");
}

#[test]
fn two_downloads_of_one_file_at_once_fetch_it_once() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(400_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::Dawdles);
    let running: Vec<_> = (0..3)
        .map(|_| {
            let mut command = download(home.path(), &hub.address, &["statistics"]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let path = String::from_utf8(output.stdout).unwrap();
        assert_eq!(fs::read(path.trim()).unwrap(), bytes);
    }
    let fetched = hub.requests().iter().filter(|request| request.contains("GET /else")).count();
    assert_eq!(fetched, 1, "{:?}", hub.requests());
    assert_eq!(count(&repository(home.path()).join("blobs")), 1);
    // The lock is a file of its own, where the hub's own client has it.
    let lock = home.path().join("hf/hub/.locks/models--microsoft--distilled_decoding");
    assert!(lock.join(format!("{}.lock", sha256(&bytes))).is_file());
}

#[test]
fn two_downloads_of_one_model_at_once_both_end_well() {
    let home = tempfile::tempdir().unwrap();
    let (student, vae) = (checkpoints::student(), checkpoints::vae());
    let hub = StandIn::start(
        &[
            ("microsoft/distilled_decoding/VAR-DD/var-d16.pth", &student),
            ("FoundationVision/var/vae_ch160v4096z32.pth", &vae),
        ],
        Fault::None,
    );
    // Of calls that were killed.
    for left in [".d16.123", ".var-dd-convert-.d16.123"] {
        fs::create_dir_all(home.path().join("models").join(left).join("half")).unwrap();
    }
    let running: Vec<_> =
        (0..3).map(|_| download(home.path(), &hub.address, &["d16"]).spawn().unwrap()).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(count(&home.path().join("models")), 1, "neither lock nor half a model is left");
    assert!(home.path().join("models/d16/config.json").is_file());
}

#[test]
fn what_the_cache_has_only_half_is_fetched_anew() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(50_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::None);
    let run = || succeed(&mut download(home.path(), &hub.address, &["statistics"]));
    let path = run();
    let blob = repository(home.path()).join("blobs").join(sha256(&bytes));
    // Cut off, as by a full disk.
    fs::File::options().write(true).open(&blob).unwrap().set_len(1000).unwrap();
    assert_eq!(run(), path);
    assert_eq!(fs::read(path.trim()).unwrap(), bytes);
    // A link that leads nowhere.
    fs::remove_file(path.trim()).unwrap();
    std::os::unix::fs::symlink("../../blobs/gone", path.trim()).unwrap();
    run();
    assert_eq!(fs::read(path.trim()).unwrap(), bytes);
}

#[test]
fn what_the_cache_has_is_compared_with_its_hash_where_the_hub_is_out_of_reach_too() {
    let home = tempfile::tempdir().unwrap();
    let vae = checkpoints::vae();
    let hub = StandIn::start(&[("FoundationVision/var/vae_ch160v4096z32.pth", &vae)], Fault::None);
    let path = succeed(&mut download(home.path(), &hub.address, &["vae"]));
    let blob = fs::canonicalize(path.trim()).unwrap();
    let mut flipped = vae.clone();
    flipped[vae.len() / 2] ^= 1;
    let unreachable = "http://127.0.0.1:9";
    for damaged in [flipped.as_slice(), &vae[..vae.len() / 2], b"<html>"] {
        fs::write(&blob, damaged).unwrap();
        for (endpoint, offline) in [(hub.address.as_str(), "1"), (unreachable, "0")] {
            let mut command = download(home.path(), endpoint, &["vae"]);
            let (code, said) = fail(command.env("HF_HUB_OFFLINE", offline));
            assert!(code == 1 && said.contains("is damaged"), "{said}");
            assert!(said.contains(&sha256(damaged)) && said.contains(&sha256(&vae)), "{said}");
        }
        assert_eq!(succeed(&mut download(home.path(), &hub.address, &["vae"])), path);
        assert_eq!(fs::read(&blob).unwrap(), vae);
    }
    // A copy in the place of the link, which no hash names.
    fs::remove_file(path.trim()).unwrap();
    fs::write(path.trim(), "<html>").unwrap();
    let (_, said) = fail(&mut download(home.path(), unreachable, &["vae"]));
    assert!(said.contains("web page") && said.contains("cannot be used; fetch"), "{said}");
    let torch = home.path().join("torch/hub/checkpoints");
    fs::create_dir_all(&torch).unwrap();
    fs::write(torch.join("pt_inception-2015-12-05-6726825d.pth"), "half").unwrap();
    let (_, said) = fail(&mut download(home.path(), unreachable, &["inception", "--offline"]));
    assert!(said.contains("is damaged") && said.contains("6726825d"), "{said}");
}

#[test]
fn a_cache_that_cannot_be_written_is_used_if_it_has_the_file() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(5_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::None);
    let path = succeed(&mut download(home.path(), &hub.address, &["statistics"]));
    // As for a user who may only read: nothing can be made where the reference goes, and there is
    // no reference yet of this commit.
    let references = repository(home.path()).join("refs");
    fs::remove_dir_all(&references).unwrap();
    fs::write(&references, "in the way").unwrap();
    fs::remove_dir_all(home.path().join("hf/hub/.locks")).unwrap();
    fs::write(home.path().join("hf/hub/.locks"), "in the way").unwrap();
    assert_eq!(succeed(&mut download(home.path(), &hub.address, &["statistics"])), path);
}

#[test]
fn a_mirror_s_redirect_to_its_own_host_is_followed() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(5_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::HasMoved);
    let said = succeed(&mut download(home.path(), &hub.address, &["statistics"]));
    assert_eq!(fs::read(said.trim()).unwrap(), bytes);
    assert!(hub.requests().iter().any(|request| request.starts_with("HEAD /moved")));
}

#[test]
fn variables_of_the_hub_are_honoured_or_named() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(5_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::None);
    let without_scheme = hub.address.trim_start_matches("http://");
    let (code, said) = fail(&mut download(home.path(), without_scheme, &["statistics"]));
    assert!(code == 1 && said.contains("HF_ENDPOINT") && said.contains("no scheme"), "{said}");
    // A proxy that is not there, around which the list leads.
    let mut command = download(home.path(), &hub.address, &["statistics"]);
    command.env("http_proxy", "http://127.0.0.1:9").env("NO_PROXY", "localhost , 127.0.0.1");
    command.env("HF_HOME", "~/own").env("HOME", home.path()).env("HF_TOKEN", "hf_abc\n");
    let path = succeed(&mut command);
    assert!(path.starts_with(&*home.path().join("own/hub").to_string_lossy()), "{path}");
    let (_, said) = fail(
        download(home.path(), "http://127.0.0.1:9", &["vae"]).env("TRANSFORMERS_OFFLINE", "1"),
    );
    assert!(said.contains("is not in the cache"), "{said}");
}

#[test]
fn a_full_disk_is_told_with_what_is_missing() {
    let home = tempfile::tempdir().unwrap();
    let bytes = some_bytes(100_000);
    let hub = StandIn::start(&[(STATISTICS, &bytes)], Fault::None);
    let blobs = repository(home.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    // A device that has no room for any byte, in the place of the file under way.
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{}.incomplete", sha256(&bytes))))
        .unwrap();
    let (code, said) = fail(&mut download(home.path(), &hub.address, &["statistics"]));
    assert!(code == 1 && said.contains("No space left"), "{said}");
    assert!(said.contains("100000 more bytes are needed") && said.contains("HF_HOME"), "{said}");
    assert!(!repository(home.path()).join("snapshots").exists());
}

#[test]
fn a_file_that_is_no_checkpoint_makes_no_model() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("microsoft/distilled_decoding/VAR-DD/var-d20.pth", b"no checkpoint".as_slice()),
        ("FoundationVision/var/vae_ch160v4096z32.pth", b"neither"),
    ];
    let hub = StandIn::start(&files, Fault::None);
    let (_, said) = fail(&mut download(home.path(), &hub.address, &["d20"]));
    assert!(said.contains("cannot be converted") && said.contains("var-d20.pth"), "{said}");
    assert_eq!(count(&home.path().join("models")), 0);
}
