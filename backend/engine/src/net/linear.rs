//! Linear layers of the transformers.

use tch::{Kind, Tensor};

use crate::{bundle::weights::Cursor, cpu, device::transformer::linear_gelu};

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(super) enum Linear {
    /// By libtorch.
    Plain { weight: Tensor, bias: Tensor },
    /// By this processor's own code, where it is there.
    Vectors(cpu::Linear),
}

impl Linear {
    pub(super) fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self::of(at.tensor("weight", &[to, from]), at.tensor("bias", &[to]))
    }

    pub(super) fn of(weight: Tensor, bias: Tensor) -> Self {
        cpu::Linear::of(&weight, &bias).map_or(Self::Plain { weight, bias }, Self::Vectors)
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { weight, bias } => x.to_kind(weight.kind()).linear(weight, Some(bias)),
            Self::Vectors(linear) => linear.forward(x, false),
        }
    }

    /// The layer, then GELU by its tanh formula.
    pub(super) fn then_gelu(&self, x: &Tensor) -> Tensor {
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
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Plain { weight, .. } => weight.kind(),
            // It takes f32 and rounds by itself.
            Self::Vectors(_) => Kind::Float,
        }
    }
}
