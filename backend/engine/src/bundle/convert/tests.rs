use std::{fs, path::Path};

use safetensors::SafeTensors;
use tch::{Device, Kind};
use tempfile::TempDir;
use var_dd_plan::{Plan, PlanPreset};

use super::*;
use crate::ops::Ops;
use crate::{
    bundle::{
        Bundle,
        checkpoint::{
            Dtype,
            writer::{TensorValue, Value, write as write_checkpoint},
        },
    },
    config::{TransformerConfig, VaeConfig},
    weights::formula,
    weights::{Weights, is_training_only},
};

/// One tensor of a checkpoint.
#[derive(Clone)]
struct SavedTensor {
    name: String,
    shape: Vec<i64>,
    kind: &'static str,
    bytes: Vec<u8>,
}

impl SavedTensor {
    fn of(name: &str, shape: &[i64]) -> Self {
        let numbers = Vec::<f32>::try_from(formula::tensor(name, shape).view([-1])).unwrap();
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self { name: name.into(), shape: shape.to_vec(), kind: "FloatStorage", bytes }
    }

    fn of_integers(name: &str, shape: &[i64], integers: impl IntoIterator<Item = i64>) -> Self {
        let bytes = integers.into_iter().flat_map(i64::to_le_bytes).collect();
        Self { name: name.into(), shape: shape.to_vec(), kind: "LongStorage", bytes }
    }
}

type Entries = Vec<SavedTensor>;

fn config() -> Config {
    Config {
        name: "tiny".into(),
        patch_nums: vec![1, 2, 4],
        vocabulary: 24,
        latent_channels: 4,
        vae: VaeConfig {
            channels: 32,
            channel_multipliers: vec![1, 2],
            residual_blocks: 1,
            norm_groups: 32,
        },
        transformer: TransformerConfig { depth: 2, width: 32, heads: 2 },
        num_classes: 3,
        classes: vec!["class 0".into(), "class 1".into(), "class 2".into()],
        plans: vec![PlanPreset::new("1 step", Plan::few_step(&[0], 1))],
    }
}

/// What a network asks for, from its formula.
fn entries(ask: impl FnOnce(&Weights)) -> Entries {
    let weights = Weights::from_formula(&Ops::plain(Device::Cpu), Kind::Float);
    ask(&weights);
    let asked = weights.finish().unwrap();
    asked.iter().map(|(name, shape)| SavedTensor::of(name, shape)).collect()
}

/// The checkpoints of one model, to be changed and converted.
struct Fixture {
    directory: TempDir,
    student: Entries,
    vae: Entries,
    teacher: Entries,
}

impl Fixture {
    fn new() -> Self {
        let config = config();
        let levels = |first: i64| {
            (0..)
                .zip([1, 2, 4])
                .flat_map(move |(k, side)| vec![first + k; side * side])
                .collect::<Vec<_>>()
        };
        let mut student = entries(|weights| drop(Student::load(&weights.root(), &config)));
        student.push(SavedTensor::of_integers(
            "lvl_1L",
            &[1, 22],
            [0].into_iter().chain(levels(1)),
        ));
        student.push(SavedTensor::of("attn_bias_for_masking", &[1, 1, 5, 5]));
        student.push(SavedTensor::of("blocks.0.attn.zero_k_bias", &[7]));
        let mut vae = entries(|weights| drop(Vae::load(&weights.root(), &config)));
        vae.push(SavedTensor::of("quantize.ema_vocab_hit_SV", &[3, 24]));
        let mut teacher = entries(|weights| drop(Teacher::load(&weights.root(), &config)));
        teacher.push(SavedTensor::of_integers("lvl_1L", &[1, 21], levels(0)));
        Self { directory: tempfile::tempdir().unwrap(), student, vae, teacher }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn conversion(&self) -> Conversion {
        Conversion {
            student: self.path("tiny.pth"),
            vae: self.path("vae.pth"),
            teacher: None,
            output: self.path("model"),
            name: None,
            patch_nums: None,
            norm_groups: None,
            weights: TrainedWeights::Ema,
            classes: None,
        }
    }

    /// Writes the checkpoints as flat state dicts, then converts.
    fn convert(&self, conversion: &Conversion) -> Result<Config, ConvertError> {
        for (name, entries) in
            [("tiny.pth", &self.student), ("vae.pth", &self.vae), ("var.pth", &self.teacher)]
        {
            let mut storages = Vec::new();
            let value = state_dict(entries, &mut storages);
            write_checkpoint(&self.path(name), &value, &storages);
        }
        convert(conversion).map(|converted| converted.config)
    }

    /// Writes the student as `wrap` makes it of a state dict, then converts; the notes.
    fn convert_wrapped(
        &self,
        weights: TrainedWeights,
        wrap: impl FnOnce(Value) -> Value,
    ) -> Result<Vec<String>, ConvertError> {
        let mut storages = Vec::new();
        let value = wrap(state_dict(&self.student, &mut storages));
        write_checkpoint(&self.path("tiny.pth"), &value, &storages);
        let mut storages = Vec::new();
        let value = state_dict(&self.vae, &mut storages);
        write_checkpoint(&self.path("vae.pth"), &value, &storages);
        let converted = convert(&Conversion { weights, ..self.conversion() })?;
        fs::remove_dir_all(self.path("model")).unwrap();
        Ok(converted.notes)
    }

    fn student_entry(&mut self, name: &str) -> &mut SavedTensor {
        self.student.iter_mut().find(|entry| entry.name == name).unwrap()
    }

    /// Nothing but the checkpoints is in the directory.
    fn nothing_is_written(&self) -> bool {
        let names =
            fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().all(|name| name.to_string_lossy().ends_with(".pth"))
    }
}

fn state_dict(entries: &[SavedTensor], storages: &mut Vec<(String, Vec<u8>)>) -> Value {
    let tensor = |entry: &SavedTensor| {
        let key = storages.len().to_string();
        storages.push((key.clone(), entry.bytes.clone()));
        (entry.name.clone(), Value::Tensor(TensorValue::contiguous(entry.kind, key, &entry.shape)))
    };
    Value::OrderedDict(entries.iter().map(tensor).collect())
}

#[test]
fn flat_checkpoints_become_a_bundle_that_opens() {
    let fixture = Fixture::new();
    let conversion = Conversion { teacher: Some(fixture.path("var.pth")), ..fixture.conversion() };
    let converted = fixture.convert(&conversion).unwrap();
    assert_eq!(converted, config());
    let bundle = Bundle::open(&conversion.output).unwrap();
    assert_eq!(bundle.config, converted);
    assert!(bundle.has_teacher());
    bundle.sampler(&Ops::plain(Device::Cpu), Kind::Float).unwrap();
    // Every number is where it was.
    for (name, entries) in
        [("student", &fixture.student), ("vae", &fixture.vae), ("teacher", &fixture.teacher)]
    {
        let bytes = fs::read(conversion.output.join(name).with_extension("safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let needed = entries.iter().filter(|entry| !is_training_only(&entry.name));
        assert_eq!(file.len(), needed.clone().count());
        for entry in needed {
            assert_eq!(file.tensor(&entry.name).unwrap().data(), entry.bytes, "{}", entry.name);
        }
    }
    // A teacher behind a link to nowhere is not as good as none.
    let teacher = conversion.output.join("teacher.safetensors");
    fs::remove_file(&teacher).unwrap();
    std::os::unix::fs::symlink("gone", &teacher).unwrap();
    let error = bundle.sampler(&Ops::plain(Device::Cpu), Kind::Float).unwrap_err().to_string();
    assert!(error.contains("teacher.safetensors cannot be read: it is a link"), "{error}");
}

#[test]
fn the_average_and_the_last_weights_of_a_training_checkpoint_are_told_apart() {
    let mut fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    let average = fixture.student.clone();
    let mut raw = average.clone();
    for entry in &mut raw {
        entry.bytes.iter_mut().step_by(4).for_each(|byte| *byte ^= 1);
    }
    // The levels stand in the last weights only, as averages are kept of parameters alone.
    let average: Entries = average.into_iter().filter(|entry| entry.name != "lvl_1L").collect();
    raw.retain(|entry| entry.name != "lvl_1L");
    raw.push(fixture.student_entry("lvl_1L").clone());
    let write = |fixture: &Fixture, with_average: bool| {
        let mut storages = Vec::new();
        let mut trainer = vec![("var_wo_ddp".to_owned(), state_dict(&raw, &mut storages))];
        if with_average {
            trainer.push(("ema_parameters".into(), state_dict(&average, &mut storages)));
        }
        trainer.push(("var_opt".into(), Value::Call("torch.optim", "AdamW", vec![], None)));
        let value = Value::Dict(vec![
            ("args".into(), Value::Call("argparse", "Namespace", vec![], None)),
            ("trainer".into(), Value::Dict(trainer)),
            ("epoch".into(), Value::Int(3)),
        ]);
        write_checkpoint(&fixture.path("tiny.pth"), &value, &storages);
    };
    let first = |path: &Path| {
        let bytes = fs::read(path.join("student.safetensors")).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().tensor("head.bias").unwrap().data()[0]
    };
    write(&fixture, true);
    let head = fixture.student_entry("head.bias").bytes[0];
    for (weights, expected) in [(TrainedWeights::Ema, head), (TrainedWeights::Raw, head ^ 1)] {
        let output = fixture.path(&format!("{weights:?}"));
        convert(&Conversion { weights, output: output.clone(), ..fixture.conversion() }).unwrap();
        assert_eq!(first(&output), expected, "{weights:?}");
    }
    write(&fixture, false);
    let output = fixture.path("none");
    let error = convert(&Conversion { output: output.clone(), ..fixture.conversion() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("no trainer.ema_parameters (use --weights raw"), "{error}");
    assert!(error.contains("var_wo_ddp, var_opt") && !output.exists(), "{error}");
}

#[test]
fn weights_that_are_their_own_average_are_found_under_both_keys() {
    let fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    let mut storages = Vec::new();
    let weights = state_dict(&fixture.student, &mut storages);
    let trainer = Value::Dict(vec![
        ("var_wo_ddp".to_owned(), Value::Noted(1, Box::new(weights))),
        ("ema_parameters".to_owned(), Value::Again(1)),
    ]);
    let value = Value::Dict(vec![("trainer".into(), trainer)]);
    write_checkpoint(&fixture.path("tiny.pth"), &value, &storages);
    for weights in [TrainedWeights::Ema, TrainedWeights::Raw] {
        let output = fixture.path(&format!("{weights:?}"));
        convert(&Conversion { weights, output, ..fixture.conversion() }).unwrap();
    }
}

#[test]
fn what_is_no_state_dict_is_told_by_what_it_is() {
    let fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    let conversion = Conversion { output: fixture.path("none"), ..fixture.conversion() };
    let number = || Value::Int(1);
    let whole = Value::Call("copyreg", "_reconstructor", vec![number()], None);
    for (value, told) in [
        (Value::List(vec![number(), number()]), "a list of 2 values"),
        (Value::Text("weights".into()), "a text"),
        (number(), "a number"),
        (Value::Call("models.var", "VAR", vec![], None), "a whole object (models.var.VAR)"),
        (whole, "a whole object"),
    ] {
        write_checkpoint(&fixture.path("tiny.pth"), &value, &[]);
        let error = convert(&conversion).unwrap_err().to_string();
        assert!(error.contains(&format!("but {told}; in Python, save")), "{error}");
    }
}

#[test]
fn each_tensor_that_is_amiss_is_named_and_nothing_is_written() {
    type Break = fn(&mut Fixture);
    let table: [(Break, &[&str]); 9] = [
        (
            |f| f.student.retain(|e| e.name != "head.bias"),
            &["head.bias [24] is missing", "tiny.pth"],
        ),
        (
            |f| f.vae.retain(|e| e.name != "decoder.conv_out.bias"),
            &["decoder.conv_out.bias [3] is missing"],
        ),
        (
            |f| f.student.push(SavedTensor::of("blocks.9.extra", &[2])),
            &["blocks.9.extra [2] is unknown"],
        ),
        (
            |f| {
                *f.student_entry("word_embed.weight") =
                    SavedTensor::of("word_embed.weight", &[32, 5])
            },
            &["word_embed.weight is [32, 5] and should be [32, 4]"],
        ),
        (
            |f| *f.student_entry("pos_start") = SavedTensor::of("pos_start", &[1, 1, 48]),
            &["pos_start is [1, 1, 48] and should be [1, 1, 32]"],
        ),
        (
            |f| {
                let entry = f.student_entry("head.weight");
                entry.kind = "DoubleStorage";
                entry.bytes = entry.bytes.repeat(2);
            },
            &["head.weight holds f64"],
        ),
        (
            |f| {
                // A tensor of each network at once.
                f.student.retain(|e| e.name != "n_d_embed.weight");
                f.vae.retain(|e| e.name != "quant_conv.bias");
            },
            &["n_d_embed.weight [2, 32] is missing", "quant_conv.bias [4] is missing"],
        ),
        (
            |f| f.student.retain(|e| !e.name.contains("scale_mul_1H11")),
            &["number of heads", "scale_mul_1H11 is missing"],
        ),
        (|f| f.vae.retain(|e| e.name.contains("hit_SV")), &["vae.pth holds no tensors"]),
    ];
    for (break_it, parts) in table {
        let mut fixture = Fixture::new();
        break_it(&mut fixture);
        let error = fixture.convert(&fixture.conversion()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
        assert!(fixture.nothing_is_written(), "{error}");
    }
}

#[test]
fn groups_of_the_norms_are_those_of_the_command_and_divide_the_channels() {
    let fixture = Fixture::new();
    let with = |groups: i64| Conversion { norm_groups: Some(groups), ..fixture.conversion() };
    let channels = fixture.convert(&fixture.conversion()).unwrap().vae.channels;
    std::fs::remove_dir_all(fixture.path("model")).unwrap();
    for groups in [0, -4, channels + 1, 2 * channels] {
        let error = fixture.convert(&with(groups)).unwrap_err().to_string();
        let parts = [&format!("{channels} channels"), &format!("{groups} groups"), "--norm-groups"];
        assert!(parts.iter().all(|part| error.contains(part as &str)), "{error}");
        assert!(fixture.nothing_is_written());
    }
    assert_eq!(fixture.convert(&with(channels / 2)).unwrap().vae.norm_groups, channels / 2);
}

#[test]
fn scales_come_from_the_command_or_the_levels_and_must_agree() {
    let fixture = Fixture::new();
    let with = |fixture: &Fixture, patch_nums: &[i64]| Conversion {
        patch_nums: Some(patch_nums.to_vec()),
        ..fixture.conversion()
    };
    let error = fixture.convert(&with(&fixture, &[1, 2, 3])).unwrap_err().to_string();
    assert!(
        error.contains("[1, 2, 3] by --patch-nums and [1, 2, 4] by the student's lvl_1L"),
        "{error}"
    );
    fixture.convert(&with(&fixture, &[1, 2, 4])).unwrap();

    let mut fixture = Fixture::new();
    fixture.student.retain(|entry| entry.name != "lvl_1L");
    let error = fixture.convert(&fixture.conversion()).unwrap_err().to_string();
    assert!(error.contains("--patch-nums 1,2,3,4") && fixture.nothing_is_written(), "{error}");
    let error = fixture.convert(&with(&fixture, &[1, 2, 3])).unwrap_err().to_string();
    assert!(error.contains("pos_1LC should have 15 positions; it has 22"), "{error}");
    // The teacher's levels do as well.
    let conversion = Conversion { teacher: Some(fixture.path("var.pth")), ..fixture.conversion() };
    assert_eq!(fixture.convert(&conversion).unwrap().patch_nums, [1, 2, 4]);

    // A buffer of any size is no obstacle where the scales are known.
    let mut fixture = Fixture::new();
    *fixture.student_entry("lvl_1L") = SavedTensor::of_integers("lvl_1L", &[3], [0, 0, 0]);
    fixture.convert(&with(&fixture, &[1, 2, 4])).unwrap();
}

#[test]
fn number_types_are_kept() {
    let mut fixture = Fixture::new();
    for entry in &mut fixture.student {
        if entry.kind == "FloatStorage" {
            let (numbers, _) = entry.bytes.as_chunks::<4>();
            let numbers = numbers.iter().map(|number| f32::from_le_bytes(*number));
            (entry.kind, entry.bytes) = if entry.name.starts_with("blocks") {
                let narrow = numbers.flat_map(|number| half::bf16::from_f32(number).to_le_bytes());
                ("BFloat16Storage", narrow.collect())
            } else {
                let narrow = numbers.flat_map(|number| half::f16::from_f32(number).to_le_bytes());
                ("HalfStorage", narrow.collect())
            };
        }
    }
    fixture.convert(&fixture.conversion()).unwrap();
    let bytes = fs::read(fixture.path("model/student.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("head.bias").unwrap().dtype(), Dtype::F16);
    assert_eq!(file.tensor("blocks.0.ffn.fc1.bias").unwrap().dtype(), Dtype::BF16);
}

#[test]
fn an_output_that_is_in_use_is_left_alone() {
    let fixture = Fixture::new();
    let conversion = fixture.conversion();
    fs::create_dir(&conversion.output).unwrap();
    fs::write(conversion.output.join("note"), "mine").unwrap();
    let error = fixture.convert(&conversion).unwrap_err().to_string();
    assert!(error.contains("there is something here already"), "{error}");
    assert_eq!(fs::read_dir(&conversion.output).unwrap().count(), 1);
    fs::remove_file(conversion.output.join("note")).unwrap();
    // What a conversion that was killed left there is nobody's.
    let unfinished = conversion.output.join(".var-dd-convert-abc");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("student.safetensors"), "half").unwrap();
    fixture.convert(&conversion).unwrap();
    assert!(Bundle::open(&conversion.output).is_ok() && !unfinished.exists());
}

#[test]
fn tensors_that_share_their_numbers_do_not_become_a_huge_bundle() {
    let fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    let mut storages = Vec::new();
    let Value::OrderedDict(mut values) = state_dict(&fixture.student, &mut storages) else {
        unreachable!()
    };
    // Each within what one tensor may take, all together not: 60 MB by strides of 0 over one
    // number.
    let stretch = |values: &mut Vec<(String, Value)>, name: &str, rows: i64| {
        let (_, value) = values.iter_mut().find(|(found, _)| found == name).unwrap();
        let Value::Tensor(tensor) = value else { unreachable!() };
        tensor.shape[0] = rows;
        tensor.strides.fill(0);
        tensor.announced = 1;
    };
    stretch(&mut values, "class_emb.weight", 480_001);
    stretch(&mut values, "head.weight", 480_000);
    stretch(&mut values, "head.bias", 480_000);
    write_checkpoint(&fixture.path("tiny.pth"), &Value::OrderedDict(values), &storages);
    let Value::OrderedDict(mut values) = state_dict(&fixture.vae, &mut storages) else {
        unreachable!()
    };
    stretch(&mut values, "quantize.embedding.weight", 480_000);
    write_checkpoint(&fixture.path("vae.pth"), &Value::OrderedDict(values), &storages);
    let output = fixture.path("huge");
    let error = convert(&Conversion { output: output.clone(), ..fixture.conversion() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("they share their numbers") && !output.exists(), "{error}");
}

#[test]
fn names_of_model_and_classes_can_be_given() {
    let fixture = Fixture::new();
    let classes: Vec<String> = ["cat", "dog", "fish"].map(Into::into).to_vec();
    let conversion = Conversion {
        name: Some("Pets".into()),
        classes: Some(classes.clone()),
        ..fixture.conversion()
    };
    let config = fixture.convert(&conversion).unwrap();
    assert_eq!((config.name.as_str(), &config.classes), ("Pets", &classes));
    let conversion = Conversion {
        classes: Some(classes[..2].to_vec()),
        output: fixture.path("other"),
        ..fixture.conversion()
    };
    let error = fixture.convert(&conversion).unwrap_err().to_string();
    assert!(error.contains("2 class names") && error.contains("3 classes"), "{error}");
}

#[test]
fn a_checkpoint_in_the_wrong_place_is_told_for_what_it_is() {
    let fixture = Fixture::new();
    let refusal = |student: &str, teacher: Option<&str>| {
        let conversion = Conversion {
            student: fixture.path(student),
            teacher: teacher.map(|name| fixture.path(name)),
            ..fixture.conversion()
        };
        fixture.convert(&conversion).unwrap_err().to_string()
    };
    let error = refusal("var.pth", None);
    assert!(
        error.contains("var.pth holds no student") && error.contains("n_d_embed.weight"),
        "{error}"
    );
    let error = refusal("tiny.pth", Some("tiny.pth"));
    assert!(error.contains("tiny.pth holds no teacher"), "{error}");
    let error = refusal("vae.pth", None);
    assert!(
        error.contains("vae.pth holds no student: it holds a VAE; give it with --vae"),
        "{error}"
    );
    assert!(fixture.nothing_is_written());
}

#[test]
fn wrappers_of_training_loops_are_taken_off_and_said() {
    let mut fixture = Fixture::new();
    let number = |name: &str| (name.to_owned(), Value::Int(3));
    let beside = |key: &str, value: Value| Value::Dict(vec![number("epoch"), (key.into(), value)]);
    for key in ["state_dict", "model", "module", "params_ema", "anything"] {
        let notes = fixture.convert_wrapped(TrainedWeights::Ema, |dict| beside(key, dict)).unwrap();
        assert!(notes.len() == 1 && notes[0].contains(key), "{notes:?}");
    }
    let notes = fixture.convert_wrapped(TrainedWeights::Ema, |dict| dict).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "model."] {
        let plain = fixture.student.clone();
        fixture.student.iter_mut().for_each(|entry| entry.name.insert_str(0, prefix));
        let notes =
            fixture.convert_wrapped(TrainedWeights::Raw, |dict| beside("net", dict)).unwrap();
        assert!(notes[0].contains("net") && notes[0].contains(prefix), "{notes:?}");
        fixture.student = plain;
    }
    // Of an average and the last weights, the one that is asked for.
    for (weights, taken) in [(TrainedWeights::Ema, "model_ema"), (TrainedWeights::Raw, "model")] {
        let both = |dict: Value| {
            Value::Dict(vec![("model".into(), dict.clone()), ("model_ema".into(), dict)])
        };
        let notes = fixture.convert_wrapped(weights, both).unwrap();
        assert!(notes[0].ends_with(&format!("the weights in {taken}")), "{notes:?}");
    }
    // Two that are equally good are refused by name.
    let twice = |dict: Value| Value::Dict(vec![("a".into(), dict.clone()), ("b".into(), dict)]);
    let error = fixture.convert_wrapped(TrainedWeights::Ema, twice).unwrap_err().to_string();
    assert!(error.contains("several places (a, b)"), "{error}");
    // A prefix of some names is none of all.
    fixture.student[0].name.insert_str(0, "module.");
    let error = fixture.convert_wrapped(TrainedWeights::Ema, |dict| dict).unwrap_err().to_string();
    assert!(error.contains("module.") && error.contains("is unknown"), "{error}");
}

#[test]
fn a_weight_that_is_no_number_is_refused_by_name_and_place() {
    for (dtype, bytes) in
        [("FloatStorage", f32::NAN.to_le_bytes().to_vec()), ("HalfStorage", vec![0x00, 0xfc])]
    {
        let mut fixture = Fixture::new();
        let size = bytes.len();
        for entry in fixture.student.iter_mut().filter(|entry| entry.kind == "FloatStorage") {
            entry.kind = dtype;
            entry.bytes = vec![0; entry.bytes.len() / 4 * size];
        }
        // The second number of the third of 24 rows.
        let at = (2 * 32 + 1) * size;
        fixture.student_entry("head.weight").bytes[at..at + size].copy_from_slice(&bytes);
        let error = fixture.convert(&fixture.conversion()).unwrap_err().to_string();
        assert!(error.contains("tiny.pth: head.weight [24, 32]"), "{error}");
        assert!(error.contains("at [2, 1]") && fixture.nothing_is_written(), "{error}");
    }
}

#[test]
fn safetensors_with_the_released_names_are_converted_too() {
    let fixture = Fixture::new();
    let from_pth = fixture.convert(&fixture.conversion()).unwrap();
    let opened = Bundle::open(&fixture.path("model")).unwrap();
    let read = |name: &str| fs::read(fixture.path("model").join(name)).unwrap();
    let (student, vae) = (read("student.safetensors"), read("vae.safetensors"));
    // Named as people do; contents count.
    fs::write(fixture.path("s.pth"), &student).unwrap();
    fs::write(fixture.path("v.safetensors"), &vae).unwrap();
    let conversion = Conversion {
        student: fixture.path("s.pth"),
        vae: fixture.path("v.safetensors"),
        output: fixture.path("again"),
        name: Some(from_pth.name.clone()),
        patch_nums: Some(vec![1, 2, 4]),
        ..fixture.conversion()
    };
    assert_eq!(convert(&conversion).unwrap().config, from_pth);
    for (name, bytes) in [("student.safetensors", student), ("vae.safetensors", vae)] {
        assert_eq!(fs::read(conversion.output.join(name)).unwrap(), bytes, "{name}");
    }
    assert_eq!(
        opened.fingerprint().unwrap(),
        Bundle::open(&conversion.output).unwrap().fingerprint().unwrap()
    );
}

#[test]
fn a_directory_that_is_there_is_filled_and_stays_the_same_one() {
    use std::os::unix::fs::MetadataExt;

    let fixture = Fixture::new();
    let conversion = fixture.conversion();
    fs::create_dir(&conversion.output).unwrap();
    let inode = || fs::metadata(&conversion.output).unwrap().ino();
    let before = inode();
    fixture.convert(&conversion).unwrap();
    assert_eq!(inode(), before);
    let mut names: Vec<_> = fs::read_dir(&conversion.output)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "student.safetensors", "vae.safetensors"]);
}

#[test]
fn a_part_of_a_checkpoint_is_told_for_one() {
    let fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    fs::remove_dir_all(fixture.path("model")).unwrap();
    let part = fixture.path("pytorch_model-00001-of-00002.pth");
    let conversion = Conversion { student: part.clone(), ..fixture.conversion() };
    // Few names; nearly all that a student has; and those alone that show no size.
    let keeps: [fn(&str) -> bool; 3] = [
        |name| name.starts_with("blocks.0.attn"),
        |name| !name.starts_with("blocks.0"),
        |name| !name.starts_with("blocks"),
    ];
    for keep in keeps {
        let mut storages = Vec::new();
        let some = fixture.student.iter().filter(|entry| keep(&entry.name));
        let value = state_dict(&some.cloned().collect::<Entries>(), &mut storages);
        write_checkpoint(&part, &value, &storages);
        let error = convert(&conversion).unwrap_err().to_string();
        assert!(error.contains("part 1 of 2"), "{error}");
        assert!(fixture.nothing_is_written());
    }
}

#[test]
fn networks_that_share_a_dictionary_are_told_apart_by_their_prefixes() {
    let mut fixture = Fixture::new();
    let student = fixture.student.clone();
    let named = |prefix: &str, entries: &[SavedTensor]| -> Entries {
        let rename = |entry: &SavedTensor| SavedTensor {
            name: format!("{prefix}{}", entry.name),
            ..entry.clone()
        };
        entries.iter().map(rename).collect()
    };
    let of = |fixture: &Fixture, weights| fixture.convert_wrapped(weights, |dict| dict);
    fixture.student = [named("var.", &student), named("vae.", &fixture.vae)].concat();
    let notes = of(&fixture, TrainedWeights::Ema).unwrap();
    assert!(notes[0].contains("\"var.\"") && notes[0].contains("(vae)"), "{notes:?}");
    // Of an average and the last weights, the one that is asked for.
    fixture.student = [named("ema_model.", &student), named("online_model.", &student)].concat();
    for (weights, taken) in
        [(TrainedWeights::Ema, "\"ema_model.\""), (TrainedWeights::Raw, "\"online_model.\"")]
    {
        let notes = of(&fixture, weights).unwrap();
        assert!(notes[0].contains(taken), "{notes:?}");
    }
    fixture.student = [named("a.", &student), named("b.", &student)].concat();
    let error = of(&fixture, TrainedWeights::Ema).unwrap_err().to_string();
    assert!(error.contains("several places (a, b)"), "{error}");
    // What is missing may stand beside.
    let (some, rest): (Entries, Entries) =
        student.into_iter().partition(|entry| entry.name != "head.bias");
    fixture.student = [named("net.", &some), named("loss.", &rest)].concat();
    let error = of(&fixture, TrainedWeights::Ema).unwrap_err().to_string();
    for part in ["\"net.\"", "(loss)", "head.bias [24] is missing"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn an_output_behind_a_link_is_filled_and_the_link_stays() {
    let fixture = Fixture::new();
    let (behind, link) = (fixture.path("behind"), fixture.path("link"));
    fs::create_dir(&behind).unwrap();
    std::os::unix::fs::symlink(&behind, &link).unwrap();
    fixture.convert(&Conversion { output: link.clone(), ..fixture.conversion() }).unwrap();
    assert!(link.is_symlink());
    assert!(Bundle::open(&behind).is_ok());
}

#[test]
fn directories_made_on_the_way_to_a_failure_are_removed() {
    let mut fixture = Fixture::new();
    let conversion = Conversion { output: fixture.path("made/on/the/way"), ..fixture.conversion() };
    // The numbers of a tensor are damaged: noticed when they are read, which is when they are
    // written.
    fixture.convert(&fixture.conversion()).unwrap();
    fs::remove_dir_all(fixture.path("model")).unwrap();
    let bytes = fs::read(fixture.path("tiny.pth")).unwrap();
    let number = &fixture.student_entry("head.weight").bytes;
    let at = bytes.windows(number.len()).position(|window| window == number).unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    fs::write(fixture.path("tiny.pth"), damaged).unwrap();
    let error = convert(&conversion).unwrap_err().to_string();
    assert!(error.contains("head.weight") && error.contains("damaged"), "{error}");
    assert!(fixture.nothing_is_written(), "{error}");
    fs::write(fixture.path("tiny.pth"), bytes).unwrap();
    convert(&conversion).unwrap();
    assert!(Bundle::open(&conversion.output).is_ok());
}

#[test]
fn one_conversion_at_a_time_writes_a_bundle_and_what_killed_ones_left_is_cleared_away() {
    let fixture = Fixture::new();
    let conversion = fixture.conversion();
    let (same, other) =
        (fixture.path(".var-dd-convert-model"), fixture.path(".var-dd-convert-other"));
    for directory in [&same, &other] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("student.safetensors"), "half").unwrap();
    }
    let at_work = fs::File::open(&same).unwrap();
    at_work.lock().unwrap();
    let error = fixture.convert(&conversion).unwrap_err().to_string();
    assert!(
        error.contains("another var-dd is writing it") && error.contains("--output"),
        "{error}"
    );
    assert!(same.join("student.safetensors").exists() && !conversion.output.exists());
    assert!(!other.exists());
    drop(at_work);
    fixture.convert(&conversion).unwrap();
    assert!(Bundle::open(&conversion.output).is_ok() && !same.exists());
}

#[test]
fn a_link_to_nothing_is_no_place_and_a_volume_s_own_directory_is_no_obstacle() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("gone", fixture.path("link")).unwrap();
    for output in ["link", "link/"] {
        let conversion = Conversion { output: fixture.path(output), ..fixture.conversion() };
        let error = fixture.convert(&conversion).unwrap_err().to_string();
        assert!(error.contains("this is a link to gone"), "{error}");
    }
    let conversion = fixture.conversion();
    let of_the_volume = conversion.output.join("lost+found");
    fs::create_dir_all(&of_the_volume).unwrap();
    fixture.convert(&conversion).unwrap();
    assert!(Bundle::open(&conversion.output).is_ok() && of_the_volume.is_dir());
}

#[test]
fn the_weights_of_one_network_are_looked_at_to_their_end() {
    let fixture = Fixture::new();
    fixture.convert(&fixture.conversion()).unwrap();
    for (name, role) in
        [("tiny.pth", Role::Student), ("vae.pth", Role::Vae), ("var.pth", Role::Teacher)]
    {
        check_weights(&fixture.path(name), role).unwrap();
    }
    let error = check_weights(&fixture.path("tiny.pth"), Role::Vae).unwrap_err().to_string();
    assert!(error.contains("tiny.pth holds no VAE: it holds a student"), "{error}");
    let mut bytes = fs::read(fixture.path("vae.pth")).unwrap();
    let entry = fixture.vae.iter().find(|entry| entry.name == "decoder.conv_in.weight").unwrap();
    let at = bytes.windows(entry.bytes.len()).position(|part| part == entry.bytes).unwrap();
    bytes[at] ^= 1;
    fs::write(fixture.path("vae.pth"), bytes).unwrap();
    let error = check_weights(&fixture.path("vae.pth"), Role::Vae).unwrap_err().to_string();
    assert!(error.contains("decoder.conv_in.weight") && error.contains("damaged"), "{error}");
}
