//! Files that nobody would write, against what reads files of strangers: nothing may panic, hang,
//! or take more memory than the file's size allows. The bodies are those of the fuzz targets.

#![allow(clippy::unwrap_used)]
#![allow(clippy::duplicate_mod, reason = "bodies of fuzz targets share one of their own")]

use proptest::prelude::*;

#[path = "../../../fuzz/bodies/npz.rs"]
mod npz;
#[path = "../../../fuzz/bodies/pickle.rs"]
mod pickle;
#[path = "../../../fuzz/bodies/safetensors.rs"]
mod safetensors;
#[path = "../../../fuzz/bodies/weight_file.rs"]
mod weight_file;

/// A sound file with some bytes changed, put in or cut off.
fn mutated(sound: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..8);
    (Just(sound), changes, any::<prop::sample::Index>()).prop_map(|(mut bytes, changes, end)| {
        for (at, value, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                _ => bytes.insert(at, value),
            }
        }
        if !bytes.is_empty() && end.index(4) == 0 {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

/// A dictionary of a tensor, as `torch.save` pickles it.
fn sound_pickle() -> Vec<u8> {
    b"\x80\x02}(X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage\
      ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQK\x00(K\x02K\x04t(K\x04K\
      \x01t\x89ccollections\nOrderedDict\n)RtRu."
        .to_vec()
}

fn sound_array() -> Vec<u8> {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2, 3), }\n";
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &[7; 24]].concat()
}

fn sound_header() -> Vec<u8> {
    br#"{"a":{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]}}"#.to_vec()
}

/// Opcodes of pickles in any order, each with some bytes behind it.
fn program() -> impl Strategy<Value = Vec<u8>> {
    const OPCODES: &[u8] =
        b".NJKMIFGXUTSBC)]}tlesud(0123RbcQPqrhj\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x93\x94";
    let opcode = prop::sample::select(OPCODES);
    let operand = prop::collection::vec(any::<u8>(), 0..6);
    let step = (opcode, operand).prop_map(|(opcode, operand)| {
        let mut step = vec![opcode];
        step.extend(operand);
        step
    });
    prop::collection::vec(step, 0..40).prop_map(|steps| steps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_file_of_weights(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        weight_file::run(&bytes);
    }

    #[test]
    fn any_pickle(bytes in prop_oneof![program(), mutated(sound_pickle())]) {
        pickle::run(&bytes);
    }

    #[test]
    fn any_safetensors_header(bytes in prop_oneof![
        mutated(sound_header()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]) {
        safetensors::run(&bytes);
    }

    #[test]
    fn any_array_of_numpy(bytes in mutated(sound_array())) {
        npz::run(&bytes);
    }
}

#[test]
fn the_sound_inputs_that_are_changed_are_sound() {
    use std::io::Write;

    use var_dd_engine::{bundle::weight_file::WeightFile, evaluate::npz::Npz};

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&sound_array()).unwrap();
    Npz::open(file.path()).unwrap().array("arr_0").unwrap().pictures().unwrap();
    let header = sound_header();
    let length = (header.len() as u64).to_le_bytes();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[length.as_slice(), &header, &[1; 64]].concat()).unwrap();
    assert_eq!(WeightFile::open(file.path()).unwrap().dictionaries()[0].names().count(), 1);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&pickle::archive(&sound_pickle()).unwrap()).unwrap();
    let opened = WeightFile::open(file.path()).unwrap();
    let tensor = opened.dictionaries()[0].tensor("a").unwrap().unwrap();
    assert_eq!((tensor.shape(), tensor.read().unwrap().len()), ([2, 4].as_slice(), 32));
}
