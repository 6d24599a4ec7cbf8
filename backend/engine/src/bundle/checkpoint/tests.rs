use std::{fs, path::PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    writer::{TensorValue, Value, pickle, write, write_archive},
    *,
};

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("file.pth")
    }

    fn open(&self, value: &Value, storages: &[(String, Vec<u8>)]) -> Checkpoint {
        write(&self.path(), value, storages);
        Checkpoint::open(&self.path()).unwrap()
    }

    fn open_raw(&self, pickle: &[u8]) -> Result<Checkpoint, CheckpointError> {
        write_archive(&self.path(), pickle, &[]);
        Checkpoint::open(&self.path())
    }
}

fn counting(count: u16) -> (String, Vec<u8>) {
    let bytes = (0..count).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    ("0".into(), bytes)
}

fn floats(tensor: &CheckpointTensor<'_>) -> Vec<f32> {
    let bytes = tensor.read().unwrap();
    let (elements, _) = bytes.as_chunks::<4>();
    elements.iter().map(|&element| f32::from_le_bytes(element)).collect()
}

fn tensor(announced: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Value {
    Value::Tensor(TensorValue {
        announced,
        offset,
        strides: strides.to_vec(),
        ..TensorValue::contiguous("FloatStorage", "0", shape)
    })
}

#[test]
fn views_of_one_storage_are_read_by_offset_and_stride() {
    let fixture = Fixture::new();
    let value = Value::OrderedDict(vec![
        ("whole".into(), tensor(12, 0, &[3, 4], &[4, 1])),
        ("transposed".into(), tensor(12, 0, &[4, 3], &[1, 4])),
        ("corner".into(), tensor(12, 5, &[2, 2], &[4, 2])),
        ("repeated".into(), tensor(12, 2, &[3, 2], &[0, 1])),
        ("scalar".into(), tensor(12, 11, &[], &[])),
        ("nothing".into(), tensor(12, 0, &[0, 4], &[4, 1])),
    ]);
    let checkpoint = fixture.open(&value, &[counting(12)]);
    let read = |name| floats(&checkpoint.root().get(name).unwrap().tensor(name).unwrap().unwrap());
    assert_eq!(read("whole"), (0..12).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(read("transposed"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!(read("corner"), [5., 7., 9., 11.]);
    assert_eq!(read("repeated"), [2., 3., 2., 3., 2., 3.]);
    assert_eq!(read("scalar"), [11.]);
    assert_eq!(read("nothing"), Vec::<f32>::new());
}

#[test]
fn parameters_are_read_as_their_tensors() {
    let fixture = Fixture::new();
    let value = Value::Call(
        "torch._utils",
        "_rebuild_parameter",
        vec![tensor(3, 0, &[3], &[1]), Value::Int(1)],
        None,
    );
    let checkpoint = fixture.open(&value, &[counting(3)]);
    let tensor = checkpoint.root().tensor("weight").unwrap().unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[3][..]));
    assert_eq!(floats(&tensor), [0., 1., 2.]);
}

#[test]
fn a_tensor_beyond_its_storage_or_the_file_is_refused_by_name() {
    let huge = 1 << 62;
    for (value, reason) in [
        (tensor(12, 1, &[3, 4], &[4, 1]), "reaches beyond its storage of 12 elements"),
        (tensor(12, 0, &[4, 4], &[4, 1]), "reaches beyond its storage of 12 elements"),
        (tensor(12, 0, &[huge, huge], &[0, 0]), "is absurd"),
        (tensor(12, 0, &[5, 2], &[huge, huge]), "is absurd"),
        (tensor(12, 0, &[1 << 40], &[0]), "cannot hold"),
        (tensor(12, 0, &[2], &[-1]), "its stride is -1"),
        (tensor(12, 0, &[-2], &[1]), "its size is -2"),
        (tensor(12, -1, &[2], &[1]), "its offset is -1"),
        (tensor(13, 0, &[2], &[1]), "is cut off: it has 48 bytes"),
        (tensor(huge, 0, &[huge], &[1]), "is cut off: it has 48 bytes"),
        (tensor(12, 0, &[2], &[1, 1]), "1 sizes and 2 strides"),
    ] {
        let fixture = Fixture::new();
        let checkpoint = fixture.open(&value, &[counting(12)]);
        let error = checkpoint.root().tensor("blocks.0.weight").unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("blocks.0.weight"), "{error}");
    }
    let fixture = Fixture::new();
    let checkpoint = fixture.open(&tensor(12, 0, &[12], &[1]), &[]);
    let error = checkpoint.root().tensor("w").unwrap_err().to_string();
    assert!(error.contains("storage \"0\" is missing"), "{error}");
}

#[test]
fn element_types_are_told_apart_and_unsupported_ones_named() {
    let fixture = Fixture::new();
    for (kind, dtype, size) in [
        ("HalfStorage", Dtype::F16, 2),
        ("BFloat16Storage", Dtype::BF16, 2),
        ("DoubleStorage", Dtype::F64, 8),
        ("LongStorage", Dtype::I64, 8),
        ("BoolStorage", Dtype::BOOL, 1),
    ] {
        let value = Value::Tensor(TensorValue::contiguous(kind, "0", &[3]));
        let checkpoint = fixture.open(&value, &[("0".into(), (0..3 * size).collect())]);
        let tensor = checkpoint.root().tensor("w").unwrap().unwrap();
        assert_eq!(tensor.dtype(), dtype);
        assert_eq!(tensor.read().unwrap(), (0..3 * size).collect::<Vec<u8>>());
    }
    let value = Value::Tensor(TensorValue::contiguous("ComplexFloatStorage", "0", &[3]));
    let checkpoint = fixture.open(&value, &[("0".into(), vec![0; 24])]);
    let error = checkpoint.root().tensor("w").unwrap_err().to_string();
    assert!(error.contains("ComplexFloatStorage is not supported; plain tensors of"), "{error}");
}

/// Every way in which a pickle can ask for a call, each with a call that would create the canary's
/// file.
fn canaries(file: &str) -> Vec<Vec<u8>> {
    let command = format!("open({file:?}, 'w').write('x')");
    let shell = format!("echo x > {file}");
    let text = |text: &str| {
        let mut out = vec![b'X'];
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
        out
    };
    let (exec, system) = (text(&command), text(&shell));
    let join = |parts: &[&[u8]]| [&[0x80, 4], &parts.concat()[..], b"."].concat();
    vec![
        join(&[b"cbuiltins\nexec\n(", &exec, b"tR"]),
        join(&[b"cbuiltins\neval\n(", &exec, b"tR"]),
        join(&[b"cos\nsystem\n(", &system, b"tR"]),
        join(&[b"cposix\nsystem\n", &system, b"\x85R"]),
        join(&[b"(", &system, b"ios\nsystem\n"]),
        join(&[b"(cos\nsystem\n", &system, b"o"]),
        join(&[b"csubprocess\nPopen\n", &system, b"\x85\x81"]),
        join(&[b"csubprocess\nPopen\n", &system, b"\x85}\x92"]),
        join(&[&text("os"), &text("system"), b"\x93", &system, b"\x85R"]),
        join(&[b"ccollections\nOrderedDict\n)R}", &text("__class__"), b"cos\nsystem\nsb"]),
        join(&[b"cbuiltins\ngetattr\n(cos\n__dict__\n", &text("system"), b"tR", &system, b"\x85R"]),
    ]
}

#[test]
fn whatever_a_pickle_asks_to_call_stays_inert() {
    let fixture = Fixture::new();
    let file = fixture.directory.path().join("canary");
    for program in canaries(file.to_str().unwrap()) {
        let checkpoint = fixture.open_raw(&program).unwrap();
        let root = checkpoint.root();
        assert!(root.tensor("root").is_ok_and(|tensor| tensor.is_none()));
        let _ = root.entries();
        assert!(!file.exists(), "{program:?} came alive");
    }
}

#[test]
fn strange_objects_beside_a_tensor_do_not_stand_in_its_way() {
    let fixture = Fixture::new();
    let value = Value::Dict(vec![
        (
            "args".into(),
            Value::Call(
                "argparse",
                "Namespace",
                vec![],
                Some(Box::new(Value::Dict(vec![("lr".into(), Value::Int(1))]))),
            ),
        ),
        ("optimizer".into(), Value::Call("os", "system", vec![Value::Text("true".into())], None)),
        ("sparse".into(), Value::Call("torch._utils", "_rebuild_sparse_tensor", vec![], None)),
        ("history".into(), Value::List(vec![Value::Tuple(vec![])])),
        ("weight".into(), tensor(2, 0, &[2], &[1])),
    ]);
    let checkpoint = fixture.open(&value, &[counting(2)]);
    let names: Vec<_> =
        checkpoint.root().entries().unwrap().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["args", "optimizer", "sparse", "history", "weight"]);
    let weight = checkpoint.root().get("weight").unwrap();
    assert_eq!(floats(&weight.tensor("weight").unwrap().unwrap()), [0., 1.]);
}

#[test]
fn of_equal_keys_the_last_one_counts() {
    let fixture = Fixture::new();
    let value = Value::Dict(vec![
        ("w".into(), tensor(4, 0, &[1], &[1])),
        ("x".into(), Value::Int(0)),
        ("w".into(), tensor(4, 3, &[1], &[1])),
    ]);
    let checkpoint = fixture.open(&value, &[counting(4)]);
    let entries = checkpoint.root().entries().unwrap();
    assert_eq!(entries.len(), 2);
    for item in [entries[0].1, checkpoint.root().get("w").unwrap()] {
        assert_eq!(floats(&item.tensor("w").unwrap().unwrap()), [3.]);
    }
}

#[test]
fn numpy_arrays_are_read_in_both_orders_of_axes_and_bytes() {
    let fixture = Fixture::new();
    // Bytes as text, as protocol 2 writes them.
    let array = |module, code: &str, mark: &str, fortran, bytes: &[u8]| {
        let dtype_state = vec![Value::Int(3), Value::Text(mark.into())];
        let dtype = Value::Call(
            "numpy",
            "dtype",
            vec![Value::Text(code.into()), Value::Int(0), Value::Int(1)],
            Some(Box::new(Value::Tuple(dtype_state))),
        );
        let text = bytes.iter().map(|&byte| char::from(byte)).collect();
        let data = Value::Call(
            "_codecs",
            "encode",
            vec![Value::Text(text), Value::Text("latin1".into())],
            None,
        );
        let shape = Value::Tuple(vec![Value::Int(2), Value::Int(2)]);
        let state = vec![Value::Int(1), shape, dtype, Value::Int(fortran), data];
        Value::Call(module, "_reconstruct", vec![], Some(Box::new(Value::Tuple(state))))
    };
    let little: Vec<u8> =
        [1.5_f64, -2.0, 3.0, 1e300].iter().flat_map(|x| x.to_le_bytes()).collect();
    let big: Vec<u8> = [1.5_f64, 3.0, -2.0, 1e300].iter().flat_map(|x| x.to_be_bytes()).collect();
    for value in [
        array("numpy.core.multiarray", "f8", "<", 0, &little),
        array("numpy._core.multiarray", "f8", ">", 1, &big),
    ] {
        let checkpoint = fixture.open(&value, &[]);
        let array = checkpoint.root().tensor("s").unwrap().unwrap();
        assert_eq!((array.dtype(), array.shape()), (Dtype::F64, &[2, 2][..]));
        assert_eq!(array.read().unwrap(), little);
    }
    let checkpoint =
        fixture.open(&array("numpy.core.multiarray", "f8", "<", 0, &little[..31]), &[]);
    let error = checkpoint.root().tensor("s").unwrap_err().to_string();
    assert!(error.contains("beyond its storage of 3 elements"), "{error}");
    let checkpoint = fixture.open(&array("numpy.core.multiarray", "O", "|", 0, &little), &[]);
    assert!(
        checkpoint.root().tensor("s").unwrap_err().to_string().contains("\"O\" is not supported")
    );
}

/// The container from before PyTorch 1.6.
fn legacy_file() -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let object = Value::OrderedDict(vec![("w".into(), tensor(3, 1, &[2], &[1]))]);
    let keys = Value::List(vec![Value::Text("0".into())]);
    let parts = [
        magic.to_vec(),
        pickle(&Value::Int(1001)),
        pickle(&Value::Dict(vec![])),
        pickle(&object),
        pickle(&keys),
        3_u64.to_le_bytes().to_vec(),
        counting(3).1,
    ];
    parts.concat()
}

#[test]
fn files_from_before_pytorch_1_6_are_read() {
    let fixture = Fixture::new();
    fs::write(fixture.path(), legacy_file()).unwrap();
    let checkpoint = Checkpoint::open(&fixture.path()).unwrap();
    let weight = checkpoint.root().get("w").unwrap();
    assert_eq!(floats(&weight.tensor("w").unwrap().unwrap()), [1., 2.]);
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let fixture = Fixture::new();
    let value = Value::OrderedDict(vec![("w".into(), tensor(12, 0, &[12], &[1]))]);
    write(&fixture.path(), &value, &[counting(12)]);
    let zip = fs::read(fixture.path()).unwrap();
    for whole in [zip, legacy_file()] {
        for length in 0..whole.len() {
            fs::write(fixture.path(), &whole[..length]).unwrap();
            let error = Checkpoint::open(&fixture.path()).unwrap_err();
            assert!(matches!(error, CheckpointError::File { .. }), "{length}: {error}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_storage_is_noticed() {
    let fixture = Fixture::new();
    write(&fixture.path(), &tensor(12, 0, &[12], &[1]), &[counting(12)]);
    let mut bytes = fs::read(fixture.path()).unwrap();
    let eleven = 11_f32.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == eleven).unwrap();
    bytes[at] ^= 1;
    fs::write(fixture.path(), bytes).unwrap();
    let checkpoint = Checkpoint::open(&fixture.path()).unwrap();
    let error = checkpoint.root().tensor("w").unwrap().unwrap().read().unwrap_err().to_string();
    assert!(error.contains("record data/0 is damaged"), "{error}");
}

#[test]
fn nesting_and_cycles_without_end_cost_nothing() {
    let fixture = Fixture::new();
    // A million nested tuples, a list within itself, a parameter of itself.
    let nested = [&[0x80, 2, b')'][..], &[0x85; 1_000_000], b"."].concat();
    fixture.open_raw(&nested).unwrap();
    fixture.open_raw(b"\x80\x02]q\x00h\x00a.").unwrap();
    let parameter = b"\x80\x02]q\x00ctorch._utils\n_rebuild_parameter\nh\x00Rh\x00(h\x01e.";
    assert!(fixture.open_raw(parameter).unwrap_err().to_string().contains("memo entry 1"));
    let parameter = b"\x80\x02ctorch._utils\n_rebuild_parameter\n]q\x00Rq\x01h\x00h\x01a0.";
    let checkpoint = fixture.open_raw(parameter).unwrap();
    assert!(checkpoint.root().tensor("w").is_err());
}

#[test]
fn broken_pickles_are_refused_with_the_place() {
    let fixture = Fixture::new();
    for (program, reason) in [
        (&b"\x80\x02"[..], "at byte 2: 1 bytes are announced and 0 are left"),
        (b"\x80\x06N.", "protocol 6 is newer than 5"),
        (b"\x80\x02.", "more is taken from the stack"),
        (b"\x80\x02(N}s.", "more is taken from the stack"),
        (b"\x80\x02t.", "a mark is closed"),
        (b"\x80\x02h\x05.", "memo entry 5"),
        (b"\x80\x02}(Nu.", "a key without a value"),
        (b"\x80\x02\xff.", "0xff is not an opcode"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.", "bytes are announced and 2 are left"),
        (b"\x80\x02X\xff\xff\xff\xffx.", "4294967295 bytes are announced"),
        (b"\x80\x02I12x\n.", "\"12x\" is not an integer"),
        (b"\x80\x04NN\x93.", "a global whose name is not text"),
    ] {
        let error = fixture.open_raw(program).unwrap_err().to_string();
        assert!(error.contains(reason), "{program:?}: {error}");
    }
}

#[test]
fn a_compressed_record_is_refused() {
    use std::io::Write;
    let fixture = Fixture::new();
    write(&fixture.path(), &tensor(12, 0, &[12], &[1]), &[counting(12)]);
    // Rewrites the method of every record, in local headers and in the list, to 8: deflated.
    let mut bytes = fs::read(fixture.path()).unwrap();
    for at in 0..bytes.len() - 12 {
        match &bytes[at..at + 4] {
            b"PK\x03\x04" => bytes[at + 8] = 8,
            b"PK\x01\x02" => bytes[at + 10] = 8,
            _ => {}
        }
    }
    fs::File::create(fixture.path()).unwrap().write_all(&bytes).unwrap();
    let error = Checkpoint::open(&fixture.path()).unwrap_err().to_string();
    assert!(error.contains("is compressed") || error.contains("cannot be read"), "{error}");
}

/// Asks everything of every value that can be reached.
fn ask_everything(checkpoint: &Checkpoint) {
    let mut open = vec![(checkpoint.root(), 0)];
    while let Some((item, depth)) = open.pop() {
        if let Ok(Some(tensor)) = item.tensor("any") {
            let _ = tensor.read();
        }
        if depth < 3 {
            open.extend(item.entries().into_iter().flatten().map(|(_, item)| (item, depth + 1)));
        }
    }
}

fn sample_program() -> Vec<u8> {
    pickle(&Value::Dict(vec![
        ("n".into(), Value::Int(3)),
        ("w".into(), tensor(12, 5, &[2, 2], &[4, 2])),
        (
            "p".into(),
            Value::Call(
                "torch._utils",
                "_rebuild_parameter",
                vec![tensor(12, 0, &[12], &[1])],
                None,
            ),
        ),
        ("l".into(), Value::List(vec![Value::Tuple(vec![Value::Text("x".into())])])),
    ]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_never_panic(program in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Pickle::parse(&program);
    }

    #[test]
    fn changed_programs_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut program = sample_program();
        for (place, byte) in changes {
            let place = place.index(program.len());
            program[place] = byte;
        }
        let fixture = Fixture::new();
        write_archive(&fixture.path(), &program, &[counting(12)]);
        if let Ok(checkpoint) = Checkpoint::open(&fixture.path()) {
            ask_everything(&checkpoint);
        }
    }

    #[test]
    fn changed_files_never_panic(
        legacy in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let fixture = Fixture::new();
        let mut bytes = if legacy {
            legacy_file()
        } else {
            write_archive(&fixture.path(), &sample_program(), &[counting(12)]);
            fs::read(fixture.path()).unwrap()
        };
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fs::write(fixture.path(), bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&fixture.path()) {
            ask_everything(&checkpoint);
        }
    }
}

#[test]
fn a_file_saved_without_checksums_is_read() {
    let fixture = Fixture::new();
    write(&fixture.path(), &tensor(12, 0, &[12], &[1]), &[counting(12)]);
    let mut bytes = fs::read(fixture.path()).unwrap();
    // PyTorch writes 0 for the checksum, both before each record and in the list of records.
    for (signature, at) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
        let starts: Vec<usize> =
            (0..bytes.len() - 4).filter(|&start| bytes[start..].starts_with(signature)).collect();
        assert_eq!(starts.len(), 3);
        for start in starts {
            bytes[start + at..start + at + 4].fill(0);
        }
    }
    fs::write(fixture.path(), bytes).unwrap();
    let checkpoint = Checkpoint::open(&fixture.path()).unwrap();
    let weight = checkpoint.root().tensor("w").unwrap().unwrap();
    assert_eq!(floats(&weight), (0..12).map(|n| n as f32).collect::<Vec<_>>());
}

#[test]
fn other_zip_archives_are_told_for_what_they_are() {
    let fixture = Fixture::new();
    for (names, words) in [
        (&["var-d16.pth"][..], "holds \"var-d16.pth\"; unpack it first"),
        (&["arr_0.npy"], "an archive of NumPy"),
        (&["a/data.pkl", "a/constants.pkl"], "TorchScript"),
        (&["word/document.xml"], "without a data.pkl; it holds: word/document.xml"),
    ] {
        let mut archive = zip::ZipWriter::new(fs::File::create(fixture.path()).unwrap());
        for name in names {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        }
        archive.finish().unwrap();
        let error = Checkpoint::open(&fixture.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
