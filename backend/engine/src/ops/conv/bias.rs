//! The bias of convolutions on a GPU. cuDNN's have none: libtorch adds it in a pass over memory of
//! its own. Here it joins whatever comes next.

use std::sync::Once;

use tch::{Device, Kind, Tensor};

use crate::ops::{
    kernels::{
        Kernels,
        compare::{distance, numbers, tolerance},
    },
    open,
};

/// A bias that is yet to be added.
#[derive(Debug)]
pub(crate) struct Bias {
    kernels: Kernels,
    /// f32 `[C]`.
    pub(crate) of_channels: Tensor,
}

impl Bias {
    /// A bias `[C]` of any number type; `None` where there are no kernels, and for those who learn.
    pub(crate) fn new(bias: &Tensor) -> Option<Self> {
        if bias.requires_grad() {
            return None;
        }
        Some(Self::with(open::on(bias.device()).ok()?, bias))
    }

    pub(super) fn with(kernels: Kernels, bias: &Tensor) -> Self {
        Self { kernels, of_channels: bias.to_kind(Kind::Float).contiguous() }
    }

    /// Adds it to a map `[B, C, H, W]` that a convolution just made, and `plus`, which is like it.
    /// Gradients flow.
    pub(crate) fn add_to(&self, x: Tensor, plus: Option<&Tensor>) -> Tensor {
        if x.requires_grad() || plus.is_some_and(Tensor::requires_grad) {
            return self.plain(&x, plus);
        }
        let places = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous(); // [B, H, W, C]
        let mut y = places(&x);
        match self.kernels.add(&mut y, plus.map(places).as_ref(), &self.of_channels) {
            Ok(()) => y.permute([0, 3, 1, 2]),
            Err(reason) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| tracing::debug!("a bias is added in the plain way: {reason}"));
                self.plain(&x, plus)
            }
        }
    }

    fn plain(&self, x: &Tensor, plus: Option<&Tensor>) -> Tensor {
        let sum = x + self.of_channels.to_kind(x.kind()).view([1, -1, 1, 1]);
        plus.map_or(sum.shallow_clone(), |plus| sum + plus)
    }

    /// Puts the phases of a doubled map together, `[B, 4C, H + 1, W + 1]` to `[B, C, 2H, 2W]`, and
    /// adds the bias; `None` where the kernels do not do it, and where a gradient would be lost.
    /// The place `(2i + r, 2j + s)` is that of phase `2r + s` at `(i + r, j + s)`.
    pub(crate) fn interleave(&self, phases: &Tensor) -> Option<Tensor> {
        if phases.requires_grad() {
            return None;
        }
        let phases = phases.permute([0, 2, 3, 1]).contiguous();
        self.kernels.interleave(&phases, &self.of_channels).ok().map(|y| y.permute([0, 3, 1, 2]))
    }
}

/// Compares the kernels with libtorch's sums.
pub(in crate::ops) fn check(kernels: Kernels, device: Device) -> Result<(), String> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for size in [[2, 32, 5, 7], [1, 160, 9, 31]] {
            let [x, plus] = [12.9898, 7.31].map(|step| numbers(&size, step, device).to_kind(kind));
            let bias = Bias::with(kernels, &numbers(&size[1..2], 2.3, device));
            for plus in [None, Some(&plus)] {
                let shift = bias.of_channels.view([1, -1, 1, 1]);
                let mut sum = x.to_kind(Kind::Float) + shift;
                if let Some(plus) = plus {
                    sum += plus.to_kind(Kind::Float);
                }
                let off = distance(&bias.add_to(x.copy(), plus), &sum);
                if off.is_nan() || off > tolerance(kind) {
                    return Err(format!("the sums with a bias are off by {off:.1e} for {size:?}"));
                }
            }
            let [b, c, h, w] = size;
            let phases = numbers(&[b, 4 * c, h, w], 5.77, device).to_kind(kind);
            let whole =
                bias.interleave(&phases).ok_or("the kernels refused to put phases together")?;
            let whole = whole.view([b, c, h - 1, 2, w - 1, 2]);
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let phase = phases.narrow(1, (2 * row + column) * c, c).narrow(2, row, h - 1);
                let sum = phase.narrow(3, column, w - 1).to_kind(Kind::Float)
                    + bias.of_channels.view([1, -1, 1, 1]);
                let off = distance(&whole.select(3, row).select(4, column), &sum);
                if off.is_nan() || off > tolerance(kind) {
                    return Err(format!("phases put together are off by {off:.1e} for {size:?}"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::stand_in::stand_in;

    #[test]
    fn sizes_that_the_kernel_is_not_made_for_are_added_by_libtorch() {
        let stand_in = stand_in();
        let x = numbers(&[2, 3, 4, 5], 1.3, Device::Cpu).to_kind(Kind::Float);
        let bias = Bias::with(stand_in.orders[0], &numbers(&[3], 0.7, Device::Cpu));
        let expected = &x + &x + bias.of_channels.view([1, 3, 1, 1]);
        assert!(distance(&bias.add_to(x.copy(), Some(&x)), &expected) < 1e-6);
    }

    #[test]
    fn gradients_flow() {
        let stand_in = stand_in();
        let bias = Bias::with(stand_in.orders[0], &numbers(&[32], 0.7, Device::Cpu));
        let map = || numbers(&[1, 32, 3, 3], 1.3, Device::Cpu).to_kind(Kind::Float);
        let [x, plus] = [map(), map()].map(|map| map.set_requires_grad(true));
        bias.add_to(&x * 2.0, Some(&plus)).sum(Kind::Float).backward();
        assert_eq!(
            (x.grad().mean(Kind::Float), plus.grad().mean(Kind::Float)),
            (2.0.into(), 1.0.into())
        );
        assert!(bias.add_to(map(), Some(&plus)).requires_grad());
        assert!(
            bias.interleave(&numbers(&[1, 128, 3, 3], 1.1, Device::Cpu).set_requires_grad(true))
                .is_none()
        );
    }
}
