//! A pickle read as data.
//!
//! The machine follows every opcode of the protocols 0 to 5 (CPython's `pickletools.py` lists them)
//! but has nothing to call: a global is a name, and what Python would construct becomes a
//! [`Node::Object`] that merely records what was asked for. Nodes live in one list and refer to
//! each other by index, so cycles and deep nesting cost nothing and the depth of a file never
//! becomes the depth of a Rust call.

use super::{
    machine::Machine,
    node::{Id, Node},
};

/// A pickle and where it ended.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    /// The value.
    pub(super) root: Id,
    /// Bytes up to and including `STOP`.
    pub(super) length: usize,
}

/// A pickle that breaks the rules of its format.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the pickle is broken at byte {at}: {reason}")]
pub(super) struct PickleError {
    at: usize,
    reason: String,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine::new(bytes);
        loop {
            let at = machine.at();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self { root, length: machine.at(), nodes: machine.into_nodes() });
                }
                Err(reason) => return Err(PickleError { at, reason }),
            }
        }
    }

    /// Every value, in the order in which the pickle made them.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        0..self.nodes.len() as Id
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }
}
