//! Linear layers.

#[cfg(avx512)]
mod avx512;
pub(in crate::ops) mod cuda;

use tch::{Kind, Tensor};

use self::cuda::linear_gelu;
#[cfg(not(avx512))]
use super::elsewhere as avx512;
use crate::weights::Cursor;

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(crate) enum Linear {
    /// By libtorch.
    Plain { weight: Tensor, bias: Tensor },
    /// By this processor's own code, where it is there.
    Vectors(avx512::Linear),
}

impl Linear {
    pub(crate) fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self::of(at.tensor("weight", &[to, from]), at.tensor("bias", &[to]))
    }

    pub(crate) fn of(weight: Tensor, bias: Tensor) -> Self {
        avx512::Linear::of(&weight, &bias).map_or(Self::Plain { weight, bias }, Self::Vectors)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { weight, bias } => x.to_kind(weight.kind()).linear(weight, Some(bias)),
            Self::Vectors(linear) => linear.forward(x, false),
        }
    }

    /// The layer, then GELU by its tanh formula.
    pub(crate) fn then_gelu(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { weight, bias } => {
                let learns = x.requires_grad() || weight.requires_grad();
                if !weight.device().is_cuda() || learns {
                    return self.forward(x).gelu("tanh");
                }
                linear_gelu(&x.to_kind(weight.kind()), weight, bias)
            }
            Self::Vectors(linear) => linear.forward(x, true),
        }
    }

    /// The number type that it multiplies.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Plain { weight, .. } => weight.kind(),
            // It takes f32 and rounds by itself.
            Self::Vectors(_) => Kind::Float,
        }
    }
}
