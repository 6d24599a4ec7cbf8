//! The bias of convolutions on a GPU. cuDNN's have none: libtorch adds it in a pass over memory of
//! its own. Here it joins whatever comes next.

use tch::{Device, Kind, Tensor};

use crate::ops::{
    Ops,
    kernels::{
        Kernels,
        compare::{Mismatch, close, numbers},
        made,
    },
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
    pub(super) fn new(ops: &Ops, bias: &Tensor) -> Option<Self> {
        let kernels = ops.kernels().ok().filter(|_| !bias.requires_grad())?;
        Some(Self::with(kernels, bias))
    }

    fn with(kernels: &Kernels, bias: &Tensor) -> Self {
        Self { kernels: *kernels, of_channels: bias.to_kind(Kind::Float).contiguous() }
    }

    /// Adds it to a map `[B, C, H, W]` that a convolution just made, and `plus`, which is like it.
    /// Gradients flow.
    pub(crate) fn add_to(&self, x: Tensor, plus: Option<&Tensor>) -> Tensor {
        if x.requires_grad() || plus.is_some_and(Tensor::requires_grad) {
            return self.plain(&x, plus);
        }
        let places = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous(); // [B, H, W, C]
        let mut y = places(&x);
        match made(self.kernels.add(&mut y, plus.map(places).as_ref(), &self.of_channels)) {
            Some(()) => y.permute([0, 3, 1, 2]),
            None => self.plain(&x, plus),
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
        made(self.kernels.interleave(&phases, &self.of_channels)).map(|y| y.permute([0, 3, 1, 2]))
    }
}

/// Compares the kernels with libtorch's sums.
pub(in crate::ops) fn check(kernels: &Kernels, device: Device) -> Result<(), Mismatch> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for size in [[2, 32, 5, 7], [1, 160, 9, 31]] {
            let [x, plus] = [12.9898, 7.31].map(|step| numbers(&size, step, device).to_kind(kind));
            let bias = Bias::with(kernels, &numbers(&size[1..2], 2.3, device));
            let shift = bias.of_channels.view([1, -1, 1, 1]);
            for plus in [None, Some(&plus)] {
                let mut sum = x.to_kind(Kind::Float) + &shift;
                if let Some(plus) = plus {
                    sum += plus.to_kind(Kind::Float);
                }
                let ours = bias.add_to(x.copy(), plus);
                close("a map's sum with a bias", Some(&ours), &sum, kind, &size)?;
            }
            let [b, c, h, w] = size;
            let phases = numbers(&[b, 4 * c, h, w], 5.77, device).to_kind(kind);
            let whole = kernels
                .interleave(&phases.permute([0, 2, 3, 1]).contiguous(), &bias.of_channels)?
                .permute([0, 3, 1, 2])
                .view([b, c, h - 1, 2, w - 1, 2]);
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let phase = phases.narrow(1, (2 * row + column) * c, c).narrow(2, row, h - 1);
                let sum = phase.narrow(3, column, w - 1).to_kind(Kind::Float) + &shift;
                let ours = whole.select(3, row).select(4, column);
                close("a map's phases put together", Some(&ours), &sum, kind, &size)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::{compare::distance, stand_in::stand_in};

    #[test]
    fn sizes_that_the_kernel_is_not_made_for_are_added_by_libtorch() {
        let stand_in = stand_in();
        let x = numbers(&[2, 3, 4, 5], 1.3, Device::Cpu).to_kind(Kind::Float);
        let bias = Bias::with(&stand_in.orders[0], &numbers(&[3], 0.7, Device::Cpu));
        let expected = &x + &x + bias.of_channels.view([1, 3, 1, 1]);
        assert!(distance(&bias.add_to(x.copy(), Some(&x)), &expected) < 1e-6);
    }

    #[test]
    fn gradients_flow() {
        let stand_in = stand_in();
        let bias = Bias::with(&stand_in.orders[0], &numbers(&[32], 0.7, Device::Cpu));
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
