//! `trace-encode` and `trace --reroll-from`, from the outside. That their numbers are the released
//! method's is for the engine's tests; here is what the files hold.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::{demo_model, error, var_dd};
use var_dd_engine::ops::Ops;
use var_dd_engine::{bundle::Bundle, tensor_file};

type Tensors = HashMap<String, Tensor>;

fn read(path: &std::path::Path) -> Tensors {
    let file = tensor_file::TensorFile::open(path).unwrap();
    file.names().into_iter().map(|name| (name.clone(), file.tensor(&name).unwrap())).collect()
}

fn written(directory: &std::path::Path, tensors: &[(&str, Tensor)]) {
    let tensors: Vec<_> =
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect();
    tensor_file::write(&directory.join("in.safetensors"), &tensors).unwrap();
}

/// Runs a command on `in.safetensors` and reads what it wrote.
fn traced(directory: &std::path::Path, command: &str) -> Tensors {
    let line = format!("{command} --input in.safetensors --output out.safetensors --device cpu");
    let output = var_dd(directory, &line.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{line}: {}", error(&output));
    read(&directory.join("out.safetensors"))
}

fn refused(directory: &std::path::Path, command: &str) -> (Option<i32>, String) {
    let line = format!("{command} --input in.safetensors --output out.safetensors --device cpu");
    let output = var_dd(directory, &line.split(' ').collect::<Vec<_>>());
    assert!(!directory.join("out.safetensors").exists(), "{line} left a file");
    (output.status.code(), error(&output))
}

#[test]
fn encoded_pictures_come_back_from_their_codes() {
    let directory = tempfile::tempdir().unwrap();
    let config = Bundle::open(&demo_model()).unwrap().config;
    let (side, map) = (config.image_size(), config.latent_side());
    let pictures = Tensor::linspace(-1.0, 1.0, 2 * 3 * side * side, (Kind::Float, Device::Cpu))
        .view([2, 3, side, side]);
    written(directory.path(), &[("pictures", pictures)]);
    let traced = traced(directory.path(), "trace-encode");
    let latent = [2, config.latent_channels, map, map];
    assert_eq!((traced["f"].size(), traced["f_hat"].size()), (latent.into(), latent.into()));
    assert_eq!(traced["codes"].size(), [2, config.tokens()]);
    assert_eq!(traced["codes"].kind(), Kind::Int64);
    assert_eq!(traced["picture"].size(), [2, 3, side, side]);
    let sampler = Bundle::open(&demo_model())
        .unwrap()
        .sampler(&Ops::plain(Device::Cpu), Kind::Float)
        .unwrap();
    let tokens = sampler.tokens_of(&traced["codes"]).unwrap();
    let f_hat = sampler.f_hats(&tokens).pop().unwrap();
    assert!((f_hat - &traced["f_hat"]).abs().max().double_value(&[]) < 1e-5);
    let (least, most) = (traced["picture"].min(), traced["picture"].max());
    assert!(least.double_value(&[]) >= -1.0 && most.double_value(&[]) <= 1.0);
}

#[test]
fn a_re_roll_with_the_same_noise_keeps_codewords_and_with_other_noise_keeps_what_comes_before() {
    let directory = tempfile::tempdir().unwrap();
    let config = Bundle::open(&demo_model()).unwrap().config;
    let noise = |seed| {
        tch::manual_seed(seed);
        Tensor::randn([2, config.tokens(), config.latent_channels], (Kind::Float, Device::Cpu))
    };
    let labels = Tensor::from_slice(&[3i64, 9]);
    written(directory.path(), &[("labels", labels), ("noise", noise(1)), ("noise_2", noise(2))]);
    let plan = "trace --t-list 0 --loss-split-t 3";
    let whole = traced(directory.path(), plan);
    for from in [0usize, 2, 4] {
        let again = traced(directory.path(), &format!("{plan} --reroll-from {from}"));
        let kept = config.tokens_before(from);
        let split = config.tokens_before(from.min(3));
        let before = |tensors: &Tensors, n| tensors["sequence"].narrow(1, 0, n);
        // Tokens before the split are codewords already.
        assert!(before(&again, split).equal(&before(&whole, split)), "from {from}");
        let rest = |tensors: &Tensors| tensors["sequence"].narrow(1, kept, config.tokens() - kept);
        assert!(!rest(&again).equal(&rest(&whole)), "from {from}");
        for k in 0..config.scales() {
            assert!(
                again.contains_key(&format!("fhat{k}")) && again.contains_key(&format!("image{k}"))
            );
        }
        if from > 0 && from <= 3 {
            let frame = format!("image{}", from - 1);
            assert!(again[&frame].equal(&whole[&frame]), "frame before {from}");
        }
    }
}

#[test]
fn what_cannot_be_encoded_or_rolled_anew_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = Bundle::open(&demo_model()).unwrap().config;
    let (side, scales) = (config.image_size(), config.scales());
    let at = directory.path();
    written(at, &[("pictures", Tensor::zeros([1, 3, side, side / 2], (Kind::Float, Device::Cpu)))]);
    let (code, said) = refused(at, "trace-encode");
    assert_eq!(code, Some(1));
    assert!(said.contains("pictures") && said.contains(&format!("{side}, {side}")), "{said}");
    written(at, &[("pictures", Tensor::full([1, 3, side, side], 1.5, (Kind::Float, Device::Cpu)))]);
    let (_, said) = refused(at, "trace-encode");
    assert!(said.contains("1.5") && said.contains("-1 to 1"), "{said}");
    let labels = Tensor::from_slice(&[3i64]);
    let shape = [1, config.tokens(), config.latent_channels];
    let noise = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    written(at, &[("labels", labels), ("noise", noise)]);
    let plan = "trace --t-list 0 --loss-split-t 3 --reroll-from";
    let (_, said) = refused(at, &format!("{plan} 2"));
    assert!(said.contains("noise_2"), "{said}");
    let (code, said) = refused(at, &format!("{plan} {scales}"));
    assert_eq!(code, Some(2));
    let parts = [format!("--reroll-from is {scales}"), format!("0 to {}", scales - 1)];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    let (code, said) = refused(at, &format!("{plan} -1"));
    assert_eq!(code, Some(2));
    assert!(said.contains("from 0 on"), "{said}");
}
