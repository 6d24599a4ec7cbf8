//! Tensors and arrays: what the objects of a checkpoint's pickle mean.
//!
//! Layouts: `torch/_utils.py` (`_rebuild_tensor_v2` and its kin), `torch/serialization.py`
//! (persistent ids), `numpy/core/src/multiarray/methods.c` (`__reduce__` and `__setstate__` of
//! arrays and dtypes).

use std::collections::HashMap;

use safetensors::Dtype;

use super::{
    node::{Id, Node, Object},
    pickle::Pickle,
};
use crate::input_file::shown;

/// Where the elements of a tensor lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Elements<'a> {
    /// A storage of the file.
    Storage(&'a str),
    /// Bytes inside the pickle, as numpy's.
    Inline(Id),
}

/// How a tensor looks at its elements. All numbers count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) offset: usize,
    pub(super) elements: Elements<'a>,
    /// Elements that the file says the source has; `None` if the source itself knows.
    pub(super) announced: Option<usize>,
    /// `None` if the file as a whole says it.
    pub(super) big_endian: Option<bool>,
}

/// What helps where elements are of another type, as narrow or quantised ones.
const ADVICE: &str = "plain tensors of f16, bf16, f32, f64 and integers are read: in Python, \
    `tensor.to(torch.bfloat16)` makes one, of a quantised tensor `tensor.dequantize()`; save the \
    file again with that";

/// Bytes of one element.
pub(super) fn element_size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

impl Pickle {
    fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            // Python 2 writes names as bytes.
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    fn integer(&self, id: Id) -> Option<i64> {
        match *self.node(id) {
            Node::Int(value) => Some(value),
            Node::Bool(value) => Some(value.into()),
            _ => None,
        }
    }

    fn truth(&self, id: Id) -> Option<bool> {
        self.integer(id).map(|value| value != 0)
    }

    fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            Node::Object(object) if self.global(object.callable) == Some("torch.Size") => {
                let Node::Tuple(arguments) = self.node(object.arguments) else {
                    return None;
                };
                match arguments.first().map(|&size| self.node(size)) {
                    Some(Node::Tuple(items)) => Some(items),
                    Some(Node::List(items)) => Some(items),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn object(&self, id: Id) -> Option<(&str, &Object, &[Id])> {
        let Node::Object(object) = self.node(id) else {
            return None;
        };
        let name = self.global(object.callable)?;
        Some((name, object, self.sequence(object.arguments)?))
    }

    /// What a value is that is no tensor, for messages.
    pub(super) fn in_words(&self, id: Id) -> String {
        match self.node(id) {
            Node::Opaque => "nothing".into(),
            Node::Bool(_) | Node::Int(_) | Node::Float => "a number".into(),
            Node::Text(_) | Node::Bytes(_) => "a text".into(),
            Node::Tuple(items) => format!("a list of {} values", items.len()),
            Node::List(items) => format!("a list of {} values", items.len()),
            Node::Dict(items) => format!("a dictionary of {} values", items.len()),
            Node::Global(name) => format!("a reference to {}", shown(name)),
            Node::Persistent(_) => "a storage".into(),
            Node::Object(object) => {
                // Python's own ways to make an object name its class first.
                let of = |id: Id| self.global(id);
                let class = match of(object.callable) {
                    Some("copyreg._reconstructor" | "copy_reg._reconstructor") => {
                        self.sequence(object.arguments).and_then(|given| of(*given.first()?))
                    }
                    class => class,
                };
                match class {
                    Some(class) => format!("a whole object ({})", shown(class)),
                    None => "a whole object".into(),
                }
            }
        }
    }

    /// The root as a list of names.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        let items = self.sequence(self.root)?;
        items.iter().map(|&id| self.text(id).map(str::to_owned)).collect()
    }

    /// Keys and values of a dictionary (plain, ordered, or a subclass) in the order of insertion.
    /// `None` if it is none.
    pub(super) fn pairs(&self, id: Id) -> Option<Vec<(Id, Id)>> {
        match self.node(id) {
            Node::Dict(items) => Some(items.clone()),
            Node::Object(object) => {
                let mut pairs = Vec::new();
                if self.global(object.callable) == Some("collections.OrderedDict") {
                    // Python 2 hands the pairs of an ordered dictionary over as its argument.
                    if let &[first] = self.sequence(object.arguments)? {
                        for &pair in self.sequence(first)? {
                            let &[key, value] = self.sequence(pair)? else {
                                return None;
                            };
                            pairs.push((key, value));
                        }
                    }
                } else if object.items.is_empty() {
                    return None;
                }
                pairs.extend(&object.items);
                Some(pairs)
            }
            _ => None,
        }
    }

    /// What the value looks at, if it is a tensor or an array. The error is a reason without the
    /// tensor's name.
    pub(super) fn layout(&self, id: Id) -> Result<Option<Layout<'_>>, String> {
        let Some((mut name, mut object, mut arguments)) = self.object(id) else {
            return Ok(None);
        };
        // A parameter wraps a tensor, a subclass wraps the call that would make its tensor: neither
        // nests deeply.
        for _ in 0..4 {
            match name {
                "torch._utils._rebuild_parameter"
                | "torch._utils._rebuild_parameter_with_state" => {
                    let inner = arguments.first().and_then(|&inner| self.object(inner));
                    (name, object, arguments) = inner.ok_or("the parameter holds no tensor")?;
                }
                "torch._tensor._rebuild_from_type_v2" => {
                    let call = match *arguments {
                        [function, _, inner, ..] => self.global(function).zip(self.sequence(inner)),
                        _ => None,
                    };
                    (name, arguments) = call.ok_or("the tensor's subclass holds no tensor")?;
                }
                _ => break,
            }
        }
        match name {
            "torch._utils._rebuild_tensor"
            | "torch._utils._rebuild_tensor_v2"
            | "torch._utils._rebuild_tensor_v3" => self.torch_layout(name, arguments).map(Some),
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => {
                self.numpy_layout(object).map(Some)
            }
            "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer" => {
                self.numpy_buffer_layout(arguments).map(Some)
            }
            name if name.starts_with("torch._utils._rebuild_") => {
                Err(format!("it is made by {name}, which makes no plain tensor; {ADVICE}"))
            }
            _ => Ok(None),
        }
    }

    fn torch_layout(&self, name: &str, arguments: &[Id]) -> Result<Layout<'_>, String> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return Err(format!("it has {} parts; a tensor has at least 4", arguments.len()));
        };
        let (key, kind, announced) = self.storage(storage)?;
        let (dtype, announced) = if name.ends_with("_v3") {
            // The storage counts bytes and the tensor says its type itself.
            let name = arguments.get(6).and_then(|&dtype| self.global(dtype)).unwrap_or("nothing");
            let dtype = torch_dtype(name)
                .ok_or_else(|| format!("its element type {name} is not supported; {ADVICE}"))?;
            (dtype, announced / element_size(dtype))
        } else {
            let dtype = storage_dtype(kind)
                .ok_or_else(|| format!("its element type {kind} is not supported; {ADVICE}"))?;
            (dtype, announced)
        };
        let shape = self.sizes(shape, "size")?;
        let strides = self.sizes(strides, "stride")?;
        if shape.len() != strides.len() {
            return Err(format!("it has {} sizes and {} strides", shape.len(), strides.len()));
        }
        Ok(Layout {
            dtype,
            shape,
            strides,
            offset: self.size(offset, "offset")?,
            elements: Elements::Storage(key),
            announced: Some(announced),
            big_endian: None,
        })
    }

    /// Key, type and number of elements of a storage:
    /// `('storage', type, key, location, elements[, view])`.
    fn storage(&self, id: Id) -> Result<(&str, &str, usize), String> {
        let Node::Persistent(id) = *self.node(id) else {
            return Err("its storage is not in the file".into());
        };
        let (kind, key, elements, view) = match self.sequence(id) {
            Some(&[tag, kind, key, _location, elements, ref rest @ ..])
                if self.text(tag) == Some("storage") =>
            {
                (self.global(kind), self.text(key), elements, rest.first())
            }
            _ => return Err("its storage is not described as one".into()),
        };
        if view.is_some_and(|&view| !matches!(self.node(view), Node::Opaque)) {
            return Err(
                "its storage is a view of another one, which PyTorch no longer writes".into()
            );
        }
        let (kind, key) = kind.zip(key).ok_or("its storage has no name or type")?;
        Ok((key, kind, self.size(elements, "number of elements")?))
    }

    /// The state of an array: `(version, shape, dtype, is_fortran, bytes)`.
    fn numpy_layout(&self, object: &Object) -> Result<Layout<'_>, String> {
        let state = object.state.and_then(|state| self.sequence(state));
        let Some(&[_version, shape, dtype, fortran, bytes]) = state else {
            return Err("the array has no state of five parts".into());
        };
        let fortran = self.truth(fortran).ok_or("the array does not say its order")?;
        self.numpy_view(shape, dtype, fortran, bytes)
    }

    /// `_frombuffer(buffer, dtype, shape, order)`, written by pickle protocol 5.
    fn numpy_buffer_layout(&self, arguments: &[Id]) -> Result<Layout<'_>, String> {
        let &[bytes, dtype, shape, order] = arguments else {
            return Err("the array has not four parts".into());
        };
        let fortran = match self.text(order) {
            Some("C") => false,
            Some("F") => true,
            _ => return Err("the array's order is neither C nor F".into()),
        };
        self.numpy_view(shape, dtype, fortran, bytes)
    }

    fn numpy_view(
        &self,
        shape: Id,
        dtype: Id,
        fortran: bool,
        bytes: Id,
    ) -> Result<Layout<'_>, String> {
        let (dtype, big_endian) = self.numpy_dtype(dtype)?;
        let shape = self.sizes(shape, "size")?;
        let mut strides = vec![1; shape.len()];
        let mut next = 1_usize;
        let order: Box<dyn Iterator<Item = usize>> =
            if fortran { Box::new(0..shape.len()) } else { Box::new((0..shape.len()).rev()) };
        for axis in order {
            strides[axis] = next;
            next = next
                .checked_mul(shape[axis])
                .ok_or_else(|| format!("its shape {shape:?} is absurd"))?;
        }
        Ok(Layout {
            dtype,
            shape,
            strides,
            offset: 0,
            elements: Elements::Inline(bytes),
            announced: None,
            big_endian: Some(big_endian),
        })
    }

    /// Element type, and whether its most significant byte comes first: `dtype('f4', …)` with the
    /// state `(3, '<', …)`.
    fn numpy_dtype(&self, id: Id) -> Result<(Dtype, bool), String> {
        let (name, object, arguments) = self.object(id).ok_or("the array has no dtype")?;
        let code = arguments.first().and_then(|&code| self.text(code));
        let code = code.filter(|_| name == "numpy.dtype").ok_or("the array has no dtype")?;
        let (mark, code) = match code.split_at_checked(1) {
            Some((mark @ ("<" | ">" | "=" | "|"), rest)) => (mark, rest),
            _ => ("=", code),
        };
        let state = object.state.and_then(|state| self.sequence(state));
        let state_mark = state.and_then(|state| state.get(1)).and_then(|&mark| self.text(mark));
        let dtype = match code {
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "u1" => Dtype::U8,
            "b1" => Dtype::BOOL,
            _ => return Err(format!("the array's element type {code:?} is not supported")),
        };
        Ok((dtype, state_mark.unwrap_or(mark) == ">"))
    }

    /// Bytes of an array: as such, or as text of which each character is one byte.
    pub(super) fn inline_bytes(&self, id: Id) -> Result<Vec<u8>, String> {
        if let Node::Bytes(bytes) = self.node(id) {
            return Ok(bytes.to_vec());
        }
        match self.object(id) {
            Some(("_codecs.encode", _, &[text, encoding]))
                if self.text(encoding) == Some("latin1") =>
            {
                let text = self.text(text).ok_or("the array's bytes are not text")?;
                let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
                bytes
                    .collect::<Result<_, _>>()
                    .map_err(|_| "the array's bytes are not all bytes".into())
            }
            Some(("builtins.bytes" | "__builtin__.bytes", _, [])) => Ok(Vec::new()),
            Some(("builtins.bytearray" | "__builtin__.bytearray", _, &[bytes])) => {
                match self.node(bytes) {
                    Node::Bytes(bytes) => Ok(bytes.to_vec()),
                    _ => Err("the array's bytes are not in the file".into()),
                }
            }
            _ => Err("the array's bytes are not in the file".into()),
        }
    }

    fn size(&self, id: Id, what: &str) -> Result<usize, String> {
        let value =
            self.integer(id).ok_or_else(|| format!("its {what} is not an integer of 64 bits"))?;
        usize::try_from(value)
            .map_err(|_| format!("its {what} is {value}; it must not be negative"))
    }

    fn sizes(&self, id: Id, what: &str) -> Result<Vec<usize>, String> {
        let items =
            self.sequence(id).ok_or_else(|| format!("its list of {what}s is not a list"))?;
        if items.len() > 16 {
            return Err(format!("it has {} dimensions; at most 16 make sense", items.len()));
        }
        items.iter().map(|&item| self.size(item, what)).collect()
    }
}

/// Bytes of one element for each storage that a pickle names.
pub(super) fn storage_types(pickle: &Pickle) -> HashMap<&str, usize> {
    let storages = pickle.ids().filter_map(|id| pickle.storage(id).ok());
    storages
        .map(|(key, kind, _)| match kind {
            "torch.ComplexFloatStorage" => (key, 8),
            "torch.ComplexDoubleStorage" => (key, 16),
            kind => (key, storage_dtype(kind).map_or(1, element_size)),
        })
        .collect()
}

fn storage_dtype(kind: &str) -> Option<Dtype> {
    let kind = kind.strip_prefix("torch.")?;
    Some(match kind.strip_prefix("cuda.").unwrap_or(kind).strip_suffix("Storage")? {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        _ => return None,
    })
}

fn torch_dtype(name: &str) -> Option<Dtype> {
    Some(match name.strip_prefix("torch.")? {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        _ => return None,
    })
}
