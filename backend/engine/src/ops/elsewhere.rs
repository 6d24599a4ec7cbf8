//! On other processors than x86-64 there is nothing of the sort: libtorch does it all.

use tch::Tensor;

/// There is none.
#[derive(Debug)]
pub(crate) enum Winograd {}

impl Winograd {
    pub(crate) fn of(_weight: &Tensor, _bias: &Tensor, _doubles: bool) -> Option<Self> {
        None
    }

    pub(crate) fn forward(&self, _x: &Tensor, _plus: Option<&Tensor>) -> Tensor {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum GroupNorm {}

impl GroupNorm {
    pub(crate) fn of(_weight: &Tensor, _bias: &Tensor, _groups: i64) -> Option<Self> {
        None
    }

    pub(crate) fn forward(&self, _x: &Tensor, _silu: bool) -> Option<Tensor> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Linear {}

impl Linear {
    pub(crate) fn of(_weight: &Tensor, _bias: &Tensor) -> Option<Self> {
        None
    }

    pub(crate) fn forward(&self, _x: &Tensor, _gelu: bool) -> Tensor {
        match *self {}
    }
}
