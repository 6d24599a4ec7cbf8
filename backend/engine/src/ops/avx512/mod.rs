//! Pieces of networks written for one kind of processor: x86-64 with AVX-512, for f32, and for bf16
//! where the processor multiplies it natively (AMD from Zen 4, Intel from Cooper Lake on).
//! Everywhere else, and wherever gradients are wanted, the networks use libtorch's.
//!
//! What is here does less than libtorch: a 3×3 convolution with 4/9 of the multiplications, a group
//! norm with its SiLU in two passes over memory instead of three, a sum joined to what makes its
//! second term. Vectors are cut from slices; the calls from ordinary code into code compiled for
//! these processors are beside each operation.

pub(super) mod activation;
pub(super) mod matrix;
mod native_bf16;
pub(super) mod numbers;

use std::{arch::x86_64::__cpuid_count, sync::OnceLock};

use bytemuck::Pod;
use half::bf16;
use tch::{Device, Kind, Tensor};

use super::is_fixed;

/// Numbers in one vector register in f32.
pub(in crate::ops) const LANES: usize = 16;

/// Proof that this processor has what this code is compiled for.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Avx512(());

impl Avx512 {
    /// Looks once whether the processor has it, for numbers of f32.
    pub(in crate::ops) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = *FOUND.get_or_init(|| {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
        });
        found.then_some(Self(()))
    }

    /// The same for numbers of `kind`. A processor with a matrix unit for bf16 (AMX) does far
    /// better with libtorch's.
    pub(in crate::ops) fn detect_for(kind: Kind) -> Option<Self> {
        /// Bit of EDX in leaf 7.
        const AMX_BF16: u32 = 1 << 22;
        match kind {
            Kind::Float => Self::detect(),
            Kind::BFloat16 if is_x86_feature_detected!("avx512bf16") => {
                Self::detect().filter(|_| __cpuid_count(7, 0).edx & AMX_BF16 == 0)
            }
            _ => None,
        }
    }

    /// The same for a weight that is there and is not learnt.
    pub(super) fn detect_for_weight(weight: &Tensor) -> Option<Self> {
        let ours = weight.device() == Device::Cpu && is_fixed(weight);
        if ours { Self::detect_for(weight.kind()) } else { None }
    }
}

/// Numbers of networks: f32 or bf16.
pub(in crate::ops) trait Number: Pod + Send + Sync {
    /// What libtorch calls them.
    const KIND: Kind;
    /// How many of them make 32 bits.
    const IN_WORD: usize;

    /// The nearest such number.
    fn of(x: f32) -> Self;
}

impl Number for f32 {
    const KIND: Kind = Kind::Float;
    const IN_WORD: usize = 1;

    fn of(x: f32) -> Self {
        x
    }
}

impl Number for bf16 {
    const KIND: Kind = Kind::BFloat16;
    const IN_WORD: usize = 2;

    fn of(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

/// All numbers of a tensor in order, in f32.
pub(super) fn in_f32(tensor: &Tensor) -> Option<Vec<f32>> {
    Vec::try_from(tensor.to_kind(Kind::Float).contiguous().view([-1])).ok()
}
