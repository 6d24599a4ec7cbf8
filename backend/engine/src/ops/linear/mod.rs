//! Linear layers, alone and with GELU.

#[cfg(avx512)]
mod avx512;
mod cuda;

use tch::{Kind, Tensor};

pub(in crate::ops) use self::cuda::check;
use super::Ops;
#[cfg(not(avx512))]
use super::elsewhere as avx512;

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(crate) enum Linear {
    /// By libtorch: weight `[to, from]` and bias `[to]`.
    Plain { weight: Tensor, bias: Tensor },
    /// By code for this processor.
    Avx512(avx512::Linear),
}

impl Linear {
    /// A layer with weight `[to, from]` and bias `[to]`, of one number type.
    pub(crate) fn new(ops: &Ops, weight: Tensor, bias: Tensor) -> Self {
        let avx512 = || avx512::Linear::of(&weight, &bias).map(Self::Avx512);
        let faster = if ops.settings().avx512 { avx512() } else { None };
        faster.unwrap_or(Self::Plain { weight, bias })
    }

    /// The layer on `x`, `[…, from]` of any floating-point type: `[…, to]` of the weight's.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { weight, bias } => x.to_kind(weight.kind()).linear(weight, Some(bias)),
            Self::Avx512(linear) => linear.forward(x, false),
        }
    }

    /// The layer, then GELU by its tanh formula (Hendrycks and Gimpel 2016). One matrix product
    /// on a GPU.
    pub(crate) fn then_gelu(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { weight, bias } => {
                let learns = x.requires_grad() || weight.requires_grad();
                if weight.device().is_cuda()
                    && !learns
                    && let Some(y) = cuda::linear_gelu(&x.to_kind(weight.kind()), weight, bias)
                {
                    return y;
                }
                self.forward(x).gelu("tanh")
            }
            Self::Avx512(linear) => linear.forward(x, true),
        }
    }

    /// The number type in which it takes its input without a conversion.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Plain { weight, .. } => weight.kind(),
            // It takes f32 and rounds by itself.
            Self::Avx512(_) => Kind::Float,
        }
    }
}
