//! The residual stream of a transformer: what branches add to it, and the layer norms before them,
//! which the class scales and shifts (adaptive layer norm).

mod cuda;

use tch::{Kind, Tensor};

pub(in crate::ops) use self::cuda::check;
use self::cuda::{Addition, Norm, residual_norm};
use super::{Ops, kernels::Kernels};

/// What a layer norm adds to a variance.
const EPSILON: f64 = 1e-6;

/// The residual stream of a transformer, f32 `[B, L, C]`. On a GPU what a branch adds waits for the
/// next norm, since both then take one pass over memory.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    x: Tensor,
    waiting: Option<Waiting<'a>>,
    kernels: Option<&'a Kernels>,
}

/// `gamma·branch + between`.
#[derive(Debug)]
struct Waiting<'a> {
    branch: Tensor,
    gamma: &'a Tensor,
    between: Option<Tensor>,
}

impl Waiting<'_> {
    fn addition(&self) -> Addition<'_> {
        Addition { branch: &self.branch, gamma: self.gamma, between: self.between.as_ref() }
    }

    fn add_to(&self, x: &Tensor) -> Tensor {
        let x = x + self.gamma * &self.branch;
        match &self.between {
            Some(between) => x + between,
            None => x,
        }
    }
}

impl<'a> Stream<'a> {
    /// A stream that begins with `x`, f32 `[B, L, C]`.
    pub(crate) fn new(ops: &'a Ops, x: Tensor) -> Self {
        // Kernels pass no gradient on.
        let kernels = ops.kernels().ok().filter(|_| !x.requires_grad());
        Self { x, waiting: None, kernels }
    }

    /// Adds `gamma·branch`, with `gamma` f32 `[B, 1, C]` or `[1, 1, C]` and `branch` `[B, L, C]`,
    /// and `between` f32 `[L, C]`.
    pub(crate) fn add(&mut self, gamma: &'a Tensor, branch: Tensor, between: Option<&Tensor>) {
        let waiting = Waiting { branch, gamma, between: between.map(Tensor::shallow_clone) };
        if self.kernels.is_some() {
            self.settle();
            self.waiting = Some(waiting);
        } else {
            self.x = waiting.add_to(&self.x);
        }
    }

    /// The norm of the stream as it stands, `LN(x)·(1 + scale) + shift` with `scale` and `shift`
    /// f32 `[B, 1, C]` or `[1, 1, C]`: for a layer of numbers of `kind`.
    pub(crate) fn normed(&mut self, scale: &Tensor, shift: &Tensor, kind: Kind) -> Tensor {
        if let Some(kernels) = self.kernels {
            let norm = Norm { scale, shift, epsilon: EPSILON as f32, kind };
            let waiting = self.waiting.as_ref().map(Waiting::addition);
            if let Some((sum, Some(normed))) = residual_norm(kernels, &self.x, waiting, Some(norm))
            {
                if let Some(sum) = sum {
                    (self.x, self.waiting) = (sum, None);
                }
                return normed;
            }
        }
        self.settle();
        modulated_norm(&self.x, scale, shift)
    }

    /// Adds what waits.
    fn settle(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        let fused = self
            .kernels
            .and_then(|kernels| residual_norm(kernels, &self.x, Some(waiting.addition()), None))
            .and_then(|(sum, _)| sum);
        self.x = fused.unwrap_or_else(|| waiting.add_to(&self.x));
    }

    /// The stream in the end, f32 `[B, L, C]`.
    pub(crate) fn end(mut self) -> Tensor {
        self.settle();
        self.x
    }
}

/// The norm of `x`, f32 `[B, L, C]`, by itself; see [`Stream::normed`].
pub(crate) fn norm(ops: &Ops, x: &Tensor, [scale, shift]: [&Tensor; 2], kind: Kind) -> Tensor {
    Stream::new(ops, x.shallow_clone()).normed(scale, shift, kind)
}

/// Layer norm without weights, in f32, then scale and shift, `[B, 1, C]`:
/// `LN(x)·(1 + scale) + shift`.
fn modulated_norm(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Tensor {
    let (x, scale) = (x.to_kind(Kind::Float), scale + 1.0);
    let width = x.size()[x.dim() - 1];
    if scale.size()[0] == 1 {
        // One class: they are what layer norm calls weight and bias, and it all takes one pass over
        // memory.
        return x.layer_norm(
            [width],
            Some(&scale.view([width])),
            Some(&shift.reshape([width])),
            EPSILON,
            true,
        );
    }
    x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPSILON, true) * scale + shift
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn one_class_and_several_are_normed_alike() {
        let any = |rows| Tensor::randn([rows, 1, 24], (Kind::Float, Device::Cpu));
        let x = Tensor::randn([1, 5, 24], (Kind::Float, Device::Cpu));
        let (scale, shift) = (any(1), any(1));
        let one = modulated_norm(&x, &scale, &shift);
        let twice = |x: &Tensor| x.repeat([2, 1, 1]);
        let two = modulated_norm(&twice(&x), &twice(&scale), &twice(&shift));
        let off = (two - one).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{off}");
    }
}
