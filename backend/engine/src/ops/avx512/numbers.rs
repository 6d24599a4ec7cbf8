//! Tensors in main memory as slices.

#![expect(unsafe_code, reason = "tensors are pointers to Rust")]

use std::slice;

use tch::{Device, Tensor};

use super::Number;

/// The numbers of a tensor that lies in main memory without gaps.
///
/// # Safety
/// As long as the slice lives, nobody writes to the tensor's memory, which other tensors (views,
/// shallow clones) may share.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
pub(in crate::ops) unsafe fn numbers<T: Number>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: so many numbers of this type lie there without gaps, and stay while the tensor is
    // borrowed; that nobody writes to them is promised by the caller.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// A new tensor of this shape in main memory, whose numbers `fill` writes. What is there before is
/// any numbers.
pub(in crate::ops) fn filled<T: Number>(shape: &[i64], fill: impl FnOnce(&mut [T])) -> Tensor {
    let tensor = Tensor::empty(shape, (T::KIND, Device::Cpu));
    if tensor.numel() > 0 {
        check::<T>(&tensor);
        // SAFETY: so many numbers of this type lie there without gaps, any bits are such numbers,
        // and nobody else knows of the tensor yet.
        fill(unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) });
    }
    tensor
}

fn check<T: Number>(tensor: &Tensor) {
    assert!(
        tensor.device() == Device::Cpu && tensor.is_contiguous() && tensor.kind() == T::KIND,
        "{tensor:?} has no numbers of this kind side by side in main memory"
    );
}
