//! A linear layer with GELU on a GPU, as one matrix product: libtorch's own, which its Rust
//! bindings cannot ask for (`linear.cpp`).

#![expect(unsafe_code, reason = "the function is C++'s and takes pointers to tensors")]

use std::{ffi::c_void, ptr, sync::OnceLock};

use tch::{Device, Kind, Tensor};

use crate::{
    cuda::{
        CudaError, function,
        library::{Reason, object, outcome},
    },
    ops::kernels::{
        Refusal,
        compare::{Mismatch, close, numbers},
        made,
    },
};

/// GELU by its tanh formula of a linear layer on a GPU: `x` `[…, from]`, a weight `[to, from]` and
/// a bias `[to]` of its number type. `None` where it cannot be had as one matrix product.
pub(super) fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Option<Tensor> {
    let (mut size, from, to) = (x.size(), weight.size()[1], weight.size()[0]);
    *size.last_mut()? = to;
    let product = product(&x.reshape([-1, from]), weight, bias);
    Some(made(product.map_err(Refusal::from))?.view(&size[..]))
}

/// The same of rows `x` `[n, from]`.
fn product(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, CudaError> {
    /// `var_dd_linear_gelu` of `linear.cpp`.
    type Function = unsafe extern "C" fn(
        *const c_void,
        *const c_void,
        *const c_void,
        *mut *mut c_void,
    ) -> Reason;
    static FUNCTION: OnceLock<Result<Function, CudaError>> = OnceLock::new();

    // SAFETY: the type is that of the definition.
    let find = || unsafe { function::<Function>(object()?, c"var_dd_linear_gelu") };
    let linear_gelu = FUNCTION.get_or_init(find).clone()?;
    let mut out = ptr::null_mut();
    // SAFETY: the pointers are to tensors, which libtorch checks and refuses what does not fit; the
    // function notes the tensor that it made, which belongs to nobody else.
    unsafe {
        outcome(linear_gelu(
            x.as_ptr().cast(),
            weight.as_ptr().cast(),
            bias.as_ptr().cast(),
            &mut out,
        ))?;
        Ok(Tensor::from_ptr(out.cast()))
    }
}

/// Compares it with the definition; it is libtorch's own, but asked for in C++.
pub(in crate::ops) fn check(device: Device) -> Result<(), Mismatch> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let number = |size: &[i64], step: f64| numbers(size, step, device).to_kind(kind);
        let (x, weight, bias) =
            (number(&[24, 64], 12.9898), number(&[128, 64], 7.31) * 0.3, number(&[128], 3.7));
        let exact = |tensor: &Tensor| tensor.to_kind(Kind::Float);
        let plain = exact(&x).linear(&exact(&weight), Some(&exact(&bias))).gelu("tanh");
        let ours = product(&x, &weight, &bias).map_err(Refusal::from)?;
        close("a linear layer with GELU", Some(&ours), &plain, kind, &x.size())?;
    }
    Ok(())
}
