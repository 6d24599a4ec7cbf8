//! Group norm (Wu and He 2018) of maps, alone and with the SiLU that follows it.
//!
//! The definition is libtorch's `group_norm`. That runs with channels first on a GPU; convolutions
//! run fastest with channels last, and every map between two of them would be turned round twice.
//! The faster ways norm maps with channels last and take SiLU along in the same pass over memory:
//! kernels on a GPU (`group_norm.cu`), and code for processors with AVX-512 (`avx512.rs`).

#[cfg(avx512)]
mod avx512;
mod cuda;

use tch::{Device, Kind, Tensor};

use self::cuda::Shape;
#[cfg(not(avx512))]
use super::elsewhere as avx512;
use super::{
    Ops,
    kernels::{
        Kernels,
        compare::{Mismatch, close, numbers},
        made,
    },
};

/// What is added to a variance.
pub const EPSILON: f64 = 1e-6;

/// A group norm with its weights.
#[derive(Debug)]
pub struct GroupNorm {
    /// `[C]`, as is the bias.
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    faster: Option<Faster>,
}

/// A faster way than libtorch's.
#[derive(Debug)]
enum Faster {
    Cuda(KernelNorm),
    Avx512(avx512::GroupNorm),
}

impl GroupNorm {
    /// A norm over `groups`, a divisor of `C`, with weight and bias `[C]` in the number type of the
    /// maps.
    pub fn new(ops: &Ops, weight: Tensor, bias: Tensor, groups: i64) -> Self {
        let faster = match KernelNorm::new(ops, &weight, &bias, groups) {
            Some(norm) => Some(Faster::Cuda(norm)),
            None if ops.settings().avx512 => {
                avx512::GroupNorm::of(&weight, &bias, groups).map(Faster::Avx512)
            }
            None => None,
        };
        Self { weight, bias, groups, faster }
    }

    /// The norm of `x` `[B, C, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.faster(x, false).unwrap_or_else(|| self.plain(x))
    }

    /// The norm of `x` `[B, C, H, W]`, then SiLU.
    pub fn then_silu(&self, x: &Tensor) -> Tensor {
        self.faster(x, true).unwrap_or_else(|| self.plain(x).silu())
    }

    /// The norm of `x` `[B, C, H, W]` after `before`, f32 `[C]`, was added to each channel; then
    /// SiLU.
    pub(crate) fn then_silu_after(&self, x: &Tensor, before: &Tensor) -> Tensor {
        let made = match &self.faster {
            Some(Faster::Cuda(norm)) => norm.forward(x, Some(before), true),
            _ => None,
        };
        made.unwrap_or_else(|| self.then_silu(&(x + before.to_kind(x.kind()).view([1, -1, 1, 1]))))
    }

    /// The outcome of a faster way, if there is one that is made for `x`.
    fn faster(&self, x: &Tensor, silu: bool) -> Option<Tensor> {
        match self.faster.as_ref()? {
            Faster::Cuda(norm) => norm.forward(x, None, silu),
            Faster::Avx512(norm) => norm.forward(x, silu),
        }
    }

    /// The definition.
    fn plain(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), EPSILON, true)
    }
}

/// A norm by the kernels. It passes no gradient on.
#[derive(Debug)]
pub struct KernelNorm {
    kernels: Kernels,
    /// f32 `[C]`, as is the bias.
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl KernelNorm {
    /// A norm over `groups` with weight and bias `[C]` of any number type; `None` where there are
    /// no kernels, and for those who learn.
    pub fn new(ops: &Ops, weight: &Tensor, bias: &Tensor, groups: i64) -> Option<Self> {
        let learns = weight.requires_grad() || bias.requires_grad();
        let kernels = *ops.kernels().ok().filter(|_| !learns)?;
        let [weight, bias] = [weight, bias].map(|tensor| tensor.to_kind(Kind::Float).contiguous());
        Some(Self { kernels, weight, bias, groups })
    }

    /// The norm of `x` `[B, C, H, W]`, f32, bf16 or f16, after `before`, f32 `[C]`, was added to
    /// each channel; then SiLU if asked for: the same shape and number type, channels last in
    /// memory. The numbers of a picture are the same to the bit in any batch.
    ///
    /// `None` where a gradient would be lost, and for what the kernels are not made for.
    pub fn forward(&self, x: &Tensor, before: Option<&Tensor>, silu: bool) -> Option<Tensor> {
        if x.requires_grad() {
            return None;
        }
        let x = x.permute([0, 2, 3, 1]).contiguous(); // [B, H, W, C]
        // Part of another tensor may begin between two vectors.
        let x = if x.data_ptr().addr().is_multiple_of(16) { x } else { x.copy() };
        let shape = Shape { groups: self.groups, epsilon: EPSILON as f32, silu };
        let y = self.kernels.group_norm(&x, before, [&self.weight, &self.bias], shape);
        Some(made(y)?.permute([0, 3, 1, 2]))
    }
}

/// Sizes of maps, and groups, that the kernels are compared on.
const CHECKED: [([i64; 4], i64); 4] =
    [([2, 64, 9, 7], 32), ([1, 160, 32, 33], 32), ([3, 640, 5, 8], 32), ([2, 32, 12, 11], 8)];

/// Compares the kernels with the definition on small maps.
pub(in crate::ops) fn check(kernels: &Kernels, device: Device) -> Result<(), Mismatch> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for (size, groups) in CHECKED {
            let [x, weight, bias] = sample(size, kind, device);
            let norm = KernelNorm { kernels: *kernels, weight, bias, groups };
            for silu in [false, true] {
                let ours = norm.forward(&x, None, silu);
                let case = (size, groups);
                close("a group norm", ours.as_ref(), &plain(&x, &norm, silu), kind, &case)?;
            }
        }
    }
    Ok(())
}

/// A map whose channels differ in mean and spread, a weight and a bias.
fn sample(size: [i64; 4], kind: Kind, device: Device) -> [Tensor; 3] {
    let channels = size[1];
    let mean = numbers(&[1, channels, 1, 1], 1.7, device) * 3.0;
    let x = numbers(&size, 12.9898, device) * 1.5 + mean;
    let [weight, bias] =
        [numbers(&[channels], 0.9, device) * 0.5 + 1.0, numbers(&[channels], 2.3, device)];
    [x.to_kind(kind), weight.to_kind(Kind::Float), bias.to_kind(Kind::Float)]
}

/// libtorch's norm in f32, the outcome not rounded.
fn plain(x: &Tensor, norm: &KernelNorm, silu: bool) -> Tensor {
    let x = x.to_kind(Kind::Float).contiguous();
    let y = x.group_norm(norm.groups, Some(&norm.weight), Some(&norm.bias), EPSILON, false);
    if silu { y.silu() } else { y }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ops::{
        Settings,
        kernels::{
            compare::{distance, tolerance},
            stand_in::{StandIn, bits_are_equal, stand_in},
        },
    };

    impl StandIn {
        /// Makes a norm of f32 run as it would on a GPU, and libtorch's give numbers that are none.
        pub(crate) fn take_over(&self, norm: &mut GroupNorm) {
            let [weight, bias] = [&norm.weight, &norm.bias].map(Tensor::shallow_clone);
            let groups = norm.groups;
            let kernels = self.orders[0];
            norm.faster = Some(Faster::Cuda(KernelNorm { kernels, weight, bias, groups }));
            norm.weight = norm.weight.full_like(f64::NAN);
        }
    }

    const SIZES: [([i64; 4], i64); 12] = [
        ([3, 32, 7, 5], 32),
        ([1, 64, 33, 31], 32),
        ([1, 96, 13, 2], 32),
        ([2, 128, 16, 16], 32),
        ([3, 160, 9, 11], 32),
        ([1, 320, 17, 16], 32),
        ([3, 640, 5, 7], 32),
        ([2, 32, 33, 20], 8),
        ([1, 128, 40, 40], 8),
        ([2, 48, 9, 9], 6),
        ([1, 64, 5, 6], 1),
        ([2, 1024, 3, 2], 1024),
    ];

    #[test]
    fn the_kernels_give_the_numbers_of_libtorch_whatever_the_order_of_threads() {
        let stand_in = stand_in();
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            for (size, groups) in SIZES {
                let [x, weight, bias] = sample(size, kind, Device::Cpu);
                let [one, other] = stand_in.orders.map(|kernels| KernelNorm {
                    kernels,
                    weight: weight.shallow_clone(),
                    bias: bias.shallow_clone(),
                    groups,
                });
                for silu in [false, true] {
                    let ours = one.forward(&x, None, silu).unwrap();
                    assert_eq!((ours.size(), ours.kind()), (size.to_vec(), kind));
                    let off = distance(&ours, &plain(&x, &one, silu));
                    assert!(off <= tolerance(kind), "{kind:?} {size:?} {silu}: {off:.1e}");
                    let again = other.forward(&x, None, silu).unwrap();
                    assert!(
                        bits_are_equal(&ours, &again),
                        "{kind:?} {size:?} {silu}: threads race"
                    );
                }
            }
        }
    }

    #[test]
    fn the_mean_of_a_channel_survives_in_a_group_of_several_and_is_lost_alone() {
        let stand_in = stand_in();
        // One map, then the same with one channel of each group of four brighter.
        let [x, weight, bias] = sample([1, 32, 9, 7], Kind::Float, Device::Cpu);
        let first = Tensor::arange(32, (Kind::Float, Device::Cpu)).remainder(4.0).eq(0.0);
        let brighter = &x + first.to_kind(Kind::Float).view([1, 32, 1, 1]) * 6.0;
        let here = Ops::open(Device::Cpu, Settings::default());
        let shift = |groups| {
            let plain = || {
                let mut norm =
                    GroupNorm::new(&Ops::plain(Device::Cpu), weight.copy(), bias.copy(), groups);
                norm.faster = None;
                norm
            };
            let mut on_stand_in = plain();
            stand_in.take_over(&mut on_stand_in);
            let norms =
                [plain(), GroupNorm::new(&here, weight.copy(), bias.copy(), groups), on_stand_in];
            norms.map(|norm| {
                let mean = |x: &Tensor| {
                    norm.forward(x).mean_dim([2i64, 3].as_slice(), false, Kind::Float).view([-1])
                };
                let moved = (mean(&brighter) - mean(&x)) / &weight;
                moved.index_select(0, &first.nonzero().view([-1])).min().double_value(&[])
            })
        };
        assert!(shift(8).iter().all(|&moved| moved > 0.3), "{:?}", shift(8));
        assert!(shift(32).iter().all(|&moved| moved.abs() < 1e-4), "{:?}", shift(32));
    }

    #[test]
    fn what_comes_before_is_added_first() {
        let stand_in = stand_in();
        for kind in [Kind::Float, Kind::BFloat16] {
            let [x, weight, bias] = sample([2, 96, 13, 9], kind, Device::Cpu);
            let before = numbers(&[96], 0.7, Device::Cpu).to_kind(Kind::Float) * 5.0;
            let mut norm = GroupNorm::new(
                &Ops::plain(Device::Cpu),
                weight.shallow_clone(),
                bias.shallow_clone(),
                8,
            );
            norm.faster = None;
            let plain = norm.then_silu_after(&x.to_kind(Kind::Float), &before);
            let kernels = stand_in.orders[0];
            norm.faster = Some(Faster::Cuda(KernelNorm { kernels, weight, bias, groups: 8 }));
            let off = distance(&norm.then_silu_after(&x, &before), &plain);
            assert!(off <= 2.0 * tolerance(kind), "{kind:?}: {off:.1e}");
        }
    }

    #[test]
    fn a_picture_is_the_same_to_the_bit_alone_and_in_a_batch() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([3, 160, 33, 20], Kind::BFloat16, Device::Cpu);
        let norm = KernelNorm { kernels: stand_in.orders[0], weight, bias, groups: 32 };
        let batch = norm.forward(&x, None, true).unwrap();
        for index in 0..3 {
            let alone = norm.forward(&x.narrow(0, index, 1), None, true).unwrap();
            assert!(bits_are_equal(&batch.narrow(0, index, 1), &alone), "picture {index}");
        }
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([1, 32, 40, 40], Kind::Float, Device::Cpu);
        let norm = KernelNorm { kernels: stand_in.orders[0], weight, bias, groups: 32 };
        // In doubles, as f32 has none to spare here.
        let far = x + 30_000.0;
        let exact = far.to_kind(Kind::Double).group_norm(
            norm.groups,
            Some(norm.weight.to_kind(Kind::Double)),
            Some(norm.bias.to_kind(Kind::Double)),
            EPSILON,
            false,
        );
        let ours = norm.forward(&far, None, false).unwrap();
        let off = distance(&ours, &exact.to_kind(Kind::Float));
        // Means of that size are rounded by 0.001, beside a spread of one; squares would be by 30.
        assert!(off < 5e-3, "{off:.1e}");
    }

    #[test]
    fn a_first_place_far_off_and_a_map_of_one_value_are_normed_well() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([1, 32, 40, 40], Kind::Float, Device::Cpu);
        let norm = KernelNorm { kernels: stand_in.orders[0], weight, bias, groups: 32 };
        let _ = x.narrow(2, 0, 1).narrow(3, 0, 1).fill_(1e4);
        let off = distance(&norm.forward(&x, None, false).unwrap(), &plain(&x, &norm, false));
        assert!(off < 1e-4, "{off:.1e}");
        // Also a single place. libtorch is off by 2e-4 there.
        for even in [x.full_like(7.3), x.narrow(2, 0, 1).narrow(3, 0, 1)] {
            let bias = norm.bias.view([1, 32, 1, 1]).expand_as(&even);
            assert_eq!(distance(&norm.forward(&even, None, false).unwrap(), &bias), 0.0);
        }
    }

    #[test]
    fn a_part_of_another_tensor_that_begins_anywhere_is_normed() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([2, 32, 4, 4], Kind::BFloat16, Device::Cpu);
        let norm = KernelNorm { kernels: stand_in.orders[0], weight, bias, groups: 32 };
        let rows = x.permute([0, 2, 3, 1]).contiguous().view([-1]);
        let shifted = Tensor::cat(&[rows.narrow(0, 0, 1), rows], 0).narrow(0, 1, 2 * 32 * 4 * 4);
        let shifted = shifted.view([2, 4, 4, 32]).permute([0, 3, 1, 2]);
        assert!(!shifted.data_ptr().addr().is_multiple_of(16));
        let [one, other] = [&x, &shifted].map(|x| norm.forward(x, None, true).unwrap());
        assert!(bits_are_equal(&one, &other));
    }

    #[test]
    fn what_the_kernels_are_not_made_for_and_gradients_are_left_to_libtorch() {
        let stand_in = stand_in();
        let norm = |channels: i64| KernelNorm {
            kernels: stand_in.orders[0],
            weight: Tensor::ones([channels], (Kind::Float, Device::Cpu)),
            bias: Tensor::zeros([channels], (Kind::Float, Device::Cpu)),
            groups: 32,
        };
        let x = |channels: i64, kind| Tensor::zeros([1, channels, 2, 2], (kind, Device::Cpu));
        assert!(norm(32).forward(&x(32, Kind::Float), None, true).is_some());
        assert!(norm(32).forward(&x(32, Kind::Double), None, true).is_none());
        assert!(norm(32).forward(&x(64, Kind::Float), None, true).is_none());
        assert!(norm(48).forward(&x(48, Kind::Float), None, true).is_none());
        assert!(norm(2048).forward(&x(2048, Kind::Float), None, true).is_none());
        assert!(
            norm(32).forward(&x(32, Kind::Float).set_requires_grad(true), None, true).is_none()
        );
    }
}
