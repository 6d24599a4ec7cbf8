//! Queries and keys of attention on a GPU: `attention.cu`, launched and held against the
//! definition.

#![expect(unsafe_code, reason = "kernels are launched with pointers to tensors")]

use std::ffi::c_int;

use tch::{Device, Kind, Tensor};

use super::{MOST_SHARPNESS, unit_length};
use crate::{
    cuda::driver::Size,
    ops::kernels::{
        Kernels, Refusal, Typed, address,
        compare::{Mismatch, close, numbers},
        int, made,
    },
};

/// Threads of a block, as `attention.cu` has them.
const HEAD_THREADS: i64 = 256;

/// Numbers that a thread has.
const EIGHT: i64 = 8;

/// Gives queries and keys of `qkv`, `[B, L, 3C]` and just made, the length 1 in every head, and
/// queries the head's sharpness. False where the kernel does not do it.
pub(super) fn unit_heads(kernels: &Kernels, qkv: &mut Tensor, log_sharpness: &Tensor) -> bool {
    made(kernels.unit_heads(qkv, log_sharpness, MOST_SHARPNESS.ln() as f32)).is_some()
}

impl Kernels {
    /// Gives queries and keys of `qkv`, contiguous `[B, L, 3C]`, the length 1 in every head, and
    /// queries the head's sharpness, `exp` of f32 `[heads]` and at most `exp(most)`. It writes to
    /// `qkv`, which nobody else has.
    ///
    /// Refused are tensors of other shapes or on another device, and what the driver refuses.
    pub(super) fn unit_heads(
        &self,
        qkv: &mut Tensor,
        log_sharpness: &Tensor,
        most: f32,
    ) -> Result<(), Refusal> {
        let unfit = || Refusal::unfit("queries, keys and values", qkv);
        let (batch, length, all) = qkv.size3().map_err(|_| unfit())?;
        let heads = log_sharpness.numel() as i64;
        let width = all / 3 / heads.max(1);
        let head_parts = width / EIGHT;
        let kernel = self.typed(Typed::UnitHeads, qkv.kind()).ok_or_else(unfit)?;
        let in_all = batch * length * 2 * heads * head_parts;
        let blocks = (in_all + HEAD_THREADS - 1) / HEAD_THREADS;
        let fits = heads * width * 3 == all
            && head_parts * EIGHT == width
            && (1..=32).contains(&head_parts)
            && (head_parts as u64).is_power_of_two()
            && in_all > 0
            && int(blocks).is_some()
            && self.reaches(qkv)
            && self.reaches(log_sharpness)
            && log_sharpness.kind() == Kind::Float;
        if !fits {
            return Err(unfit());
        }
        let (mut qkv_at, mut sharpness_at) = (qkv.data_ptr(), log_sharpness.data_ptr());
        let (mut heads, mut head_parts, mut in_all, mut most) =
            (heads as c_int, head_parts as c_int, in_all as u64, most);
        let size = Size { grid: (blocks as u32, 1), threads: HEAD_THREADS as u32, shared_bytes: 0 };
        let arguments = [
            address(&mut qkv_at),
            address(&mut sharpness_at),
            address(&mut heads),
            address(&mut head_parts),
            address(&mut in_all),
            address(&mut most),
        ];
        // SAFETY: the arguments are those of the kernel's definition; `qkv` has so many parts, of
        // which the kernel reads and writes those of queries and keys, and nobody else has it.
        // Sharpness has every head.
        unsafe { self.launch(kernel, size, self.stream()?, arguments) }?;
        Ok(())
    }
}

/// Compares the kernel with the definition.
pub(in crate::ops) fn check(kernels: &Kernels, device: Device) -> Result<(), Mismatch> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for [heads, width] in [[4, 8], [2, 32], [16, 64], [3, 128]] {
            let size = [2, 3, 3 * heads * width];
            let given = (numbers(&size, 12.9898, device) * 3.0).to_kind(kind);
            // One of them far above the bound.
            let sharpness = numbers(&[1, heads, 1, 1], 1.7, device).to_kind(Kind::Float) * 3.0;
            let (sharpness, most) = (sharpness + 2.0, 3.0);
            let mut ours = given.copy();
            kernels.unit_heads(&mut ours, &sharpness, most as f32)?;
            let parts = given.to_kind(Kind::Float).view([2, 3, 3, heads, width]);
            let factor = sharpness.view([1, 1, heads, 1]).clamp_max(most).exp();
            let expected = [
                unit_length(&parts.select(2, 0)) * factor,
                unit_length(&parts.select(2, 1)),
                parts.select(2, 2),
            ];
            let expected = Tensor::stack(&expected, 2).view(size);
            close("queries and keys", Some(&ours), &expected, kind, &size)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::stand_in::{bits_are_equal, stand_in};

    #[test]
    fn threads_do_not_race() {
        let stand_in = stand_in();
        let number =
            |size: &[i64], step: f64| numbers(size, step, Device::Cpu).to_kind(Kind::Float);
        let (qkv, sharpness) = (number(&[2, 3, 3 * 4 * 16], 1.9), number(&[1, 4, 1, 1], 0.3));
        let [one, other] = stand_in.orders.map(|kernels| {
            let mut qkv = qkv.copy();
            kernels.unit_heads(&mut qkv, &sharpness, 4.6).unwrap();
            qkv
        });
        assert!(bits_are_equal(&one, &other));
    }

    #[test]
    fn what_the_kernel_is_not_made_for_is_refused() {
        let stand_in = stand_in();
        let kernels = &stand_in.orders[0];
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        for (width, heads) in [(3 * 2 * 24, 2), (3 * 2 * 12, 2), (3 * 512, 1), (100, 2)] {
            let mut qkv = zeros(&[1, 2, width]);
            assert!(
                kernels.unit_heads(&mut qkv, &zeros(&[1, heads, 1, 1]), 4.6).is_err(),
                "{width} {heads}"
            );
        }
    }
}
