//! Writes small checkpoints for tests: just enough of pickle's protocol 2 and of torch's zip
//! container.

use std::{fs::File, io::Write, path::Path};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A value to pickle.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(String, Value)>),
    /// As `torch.nn.Module.state_dict` makes it.
    OrderedDict(Vec<(String, Value)>),
    Tensor(TensorValue),
    /// A value that is remembered under a number, and the same one again.
    Noted(u8, Box<Value>),
    Again(u8),
    /// A call that Python would make: module, name, arguments, state.
    Call(&'static str, &'static str, Vec<Value>, Option<Box<Value>>),
}

/// A tensor to pickle.
#[derive(Clone, Debug)]
pub(crate) struct TensorValue {
    /// As `FloatStorage`.
    pub(crate) kind: &'static str,
    /// Name of its record under `data/`.
    pub(crate) key: String,
    /// Elements of the storage, as announced.
    pub(crate) announced: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl TensorValue {
    /// A contiguous tensor that fills its storage.
    pub(crate) fn contiguous(kind: &'static str, key: impl Into<String>, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = i64::wrapping_mul(strides[axis], shape[axis]);
        }
        Self {
            kind,
            key: key.into(),
            announced: shape.iter().copied().fold(1, i64::wrapping_mul),
            offset: 0,
            shape: shape.to_vec(),
            strides,
        }
    }
}

fn emit(value: &Value, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let sequence = |items: &[Value], out: &mut Vec<u8>| {
        out.push(b'(');
        items.iter().for_each(|item| emit(item, out));
    };
    let items = |items: &[(String, Value)], out: &mut Vec<u8>| {
        out.push(b'(');
        for (key, value) in items {
            text(key, out);
            emit(value, out);
        }
        out.push(b'u');
    };
    match value {
        Value::Int(value) => {
            out.extend([0x8a, 8]);
            out.extend(value.to_le_bytes());
        }
        Value::Text(value) => text(value, out),
        Value::Tuple(values) => {
            sequence(values, out);
            out.push(b't');
        }
        Value::List(values) => {
            out.push(b']');
            sequence(values, out);
            out.push(b'e');
        }
        Value::Dict(values) => {
            out.push(b'}');
            items(values, out);
        }
        Value::OrderedDict(values) => {
            out.extend(b"ccollections\nOrderedDict\n)R");
            items(values, out);
        }
        Value::Tensor(tensor) => {
            let ints =
                |values: &[i64]| Value::Tuple(values.iter().copied().map(Value::Int).collect());
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text("storage", out);
            out.extend(format!("ctorch\n{}\n", tensor.kind).as_bytes());
            text(&tensor.key, out);
            text("cpu", out);
            emit(&Value::Int(tensor.announced), out);
            out.extend(b"tQ");
            emit(&Value::Int(tensor.offset), out);
            emit(&ints(&tensor.shape), out);
            emit(&ints(&tensor.strides), out);
            out.push(0x89);
            out.extend(b"ccollections\nOrderedDict\n)RtR");
        }
        Value::Noted(number, value) => {
            emit(value, out);
            out.extend([b'q', *number]);
        }
        Value::Again(number) => out.extend([b'h', *number]),
        Value::Call(module, name, arguments, state) => {
            out.extend(format!("c{module}\n{name}\n").as_bytes());
            sequence(arguments, out);
            out.extend(b"tR");
            if let Some(state) = state {
                emit(state, out);
                out.push(b'b');
            }
        }
    }
}

/// The pickle of a value.
pub(crate) fn pickle(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    emit(value, &mut out);
    out.push(b'.');
    out
}

/// Writes a checkpoint of a ready pickle and named storages.
pub(crate) fn write_archive(path: &Path, pickle: &[u8], storages: &[(String, Vec<u8>)]) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut record = |name: String, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    };
    record("data.pkl".into(), pickle);
    record("byteorder".into(), b"little");
    for (key, bytes) in storages {
        record(format!("data/{key}"), bytes);
    }
    archive.finish().unwrap();
}

/// Writes a checkpoint.
pub(crate) fn write(path: &Path, value: &Value, storages: &[(String, Vec<u8>)]) {
    write_archive(path, &pickle(value), storages);
}
