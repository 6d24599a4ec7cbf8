//! Tensors in main memory as slices.

#![expect(unsafe_code, reason = "tensors are pointers to Rust")]

use std::slice;

use tch::{Device, Tensor};

use super::Number;

/// The numbers of a tensor that lies in main memory without gaps.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
pub(crate) fn numbers<T: Number>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    // SAFETY: so many numbers of this type lie there without gaps, and stay while the tensor is
    // borrowed. Nothing in this crate writes to a tensor while its numbers are lent.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The same to write to. The caller made the tensor, and no other tensor shares its memory.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
pub(crate) fn numbers_mut<T: Number>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    // SAFETY: as above; and the tensor is borrowed alone.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

fn check<T: Number>(tensor: &Tensor) {
    assert!(
        tensor.device() == Device::Cpu
            && tensor.is_contiguous()
            && tensor.kind() == T::KIND
            && tensor.numel() > 0
    );
}
