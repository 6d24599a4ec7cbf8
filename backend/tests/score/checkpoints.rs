//! Checkpoints as `torch.save` writes them, of small networks whose weights follow from their
//! names.

use std::io::{Cursor, Write};

use tch::{Device, Kind};
use var_dd_engine::{
    config::{Config, TransformerConfig, VaeConfig},
    net::{student::Student, teacher::Teacher, vae::Vae},
    ops::Ops,
    weights::Weights,
    weights::formula,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// The ten published scales, all else small.
fn config() -> Config {
    Config {
        name: "small".into(),
        patch_nums: vec![1, 2, 3, 4, 5, 6, 8, 10, 13, 16],
        vocabulary: 32,
        latent_channels: 4,
        vae: VaeConfig {
            channels: 32,
            channel_multipliers: vec![1, 1],
            residual_blocks: 1,
            norm_groups: 32,
        },
        transformer: TransformerConfig { depth: 1, width: 64, heads: 1 },
        num_classes: 10,
        classes: (0..10).map(|class| format!("class {class}")).collect(),
        plans: Vec::new(),
    }
}

fn state_dict(ask: impl Fn(&Weights)) -> Vec<u8> {
    let weights = Weights::from_formula(&Ops::plain(Device::Cpu), Kind::Float);
    ask(&weights);
    checkpoint(&weights.finish().unwrap())
}

pub(crate) fn student() -> Vec<u8> {
    state_dict(|weights| drop(Student::load(&weights.root(), &config())))
}

pub(crate) fn teacher() -> Vec<u8> {
    state_dict(|weights| drop(Teacher::load(&weights.root(), &config())))
}

pub(crate) fn vae() -> Vec<u8> {
    state_dict(|weights| drop(Vae::load(&weights.root(), &config())))
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn integer(pickle: &mut Vec<u8>, integer: i64) {
    pickle.push(b'J');
    pickle.extend((integer as i32).to_le_bytes());
}

fn tuple(pickle: &mut Vec<u8>, integers: impl Iterator<Item = i64>) {
    pickle.push(b'(');
    integers.for_each(|number| integer(pickle, number));
    pickle.push(b't');
}

/// Mean 0 and covariance 1 of that many features, as `statistic.pth` has them.
pub(crate) fn statistics(features: i64) -> Vec<u8> {
    let one = (0..features * features).map(|i| f32::from(i % (features + 1) == 0)).collect();
    checkpoint_of(&[
        ("m".into(), vec![features], vec![0.0; features as usize]),
        ("s".into(), vec![features, features], one),
    ])
}

/// A dictionary of tensors of these names and shapes, whose numbers follow from them.
fn checkpoint(tensors: &[(String, Vec<i64>)]) -> Vec<u8> {
    let with_numbers = tensors.iter().map(|(name, shape)| {
        let numbers = Vec::<f32>::try_from(formula::tensor(name, shape).view([-1])).unwrap();
        (name.clone(), shape.clone(), numbers)
    });
    checkpoint_of(&with_numbers.collect::<Vec<_>>())
}

fn checkpoint_of(tensors: &[(String, Vec<i64>, Vec<f32>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, (name, shape, _)) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        integer(&mut pickle, shape.iter().product());
        pickle.extend(b"tQ");
        integer(&mut pickle, 0);
        tuple(&mut pickle, shape.iter().copied());
        tuple(&mut pickle, (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()));
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut record = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    };
    record("data.pkl", &pickle);
    record("byteorder", b"little");
    for (key, (_, _, numbers)) in tensors.iter().enumerate() {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        record(&format!("data/{key}"), &bytes);
    }
    record("version", b"3\n");
    archive.finish().unwrap().into_inner()
}
