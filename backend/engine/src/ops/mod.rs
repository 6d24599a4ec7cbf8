//! The operations that the networks are made of, one room each: first the operation in libtorch's
//! terms, which is its definition and what runs where nothing better is known; then its faster ways
//! on a GPU (`cuda.rs` with a `.cu` file) and on processors with AVX-512; and the check that holds
//! these against the definition.

pub(crate) mod attention;
#[cfg(avx512)]
mod avx512;
pub(crate) mod conv;
#[cfg(not(avx512))]
mod elsewhere;
pub mod group_norm;
pub(crate) mod kernels;
pub(crate) mod linear;
pub mod open;
pub(crate) mod residual;

use tch::Tensor;

/// Whether a tensor only stands in for one: a single number in place of all, where a tensor is
/// missing or where nobody wants its numbers. Nothing may be made of it that takes room for all of
/// them.
fn is_stand_in(tensor: &Tensor) -> bool {
    tensor.numel() > 1 && tensor.stride().iter().all(|&stride| stride == 0)
}

/// Whether a weight is worth preparing: it is not learnt, and more than a stand-in.
pub(crate) fn is_fixed(weight: &Tensor) -> bool {
    !weight.requires_grad() && !is_stand_in(weight)
}
