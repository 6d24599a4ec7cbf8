//! Group norm: libtorch's, or with SiLU in one pass over maps with channels last, on a GPU (`engine/cuda/group_norm.cu`) and
//! on some processors ([`crate::cpu`]).
//!
//! libtorch's own runs with channels first on a GPU. Convolutions run fastest with channels last, and every map between
//! two of them would be turned round twice.

use std::{
    collections::BTreeMap,
    env, panic,
    path::Path,
    sync::{Mutex, Once, PoisonError},
};

use tch::{Device, Kind, Tensor};

use super::{
    device_name, kind_name,
    native::norm_kernels::{self, NormKernels},
    panic_text,
};
use crate::cpu;

/// Set to `off` it keeps group norm and convolutions plain, to compare.
pub const SWITCH: &str = "VAR_DD_CUDA_KERNELS";

/// Groups of channels.
pub const GROUPS: i64 = 32;

/// What is added to a variance.
pub const EPSILON: f64 = 1e-6;

/// A group norm: libtorch's, or the fastest that there is for the device.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    fused: Option<Fused>,
}

#[derive(Debug)]
enum Fused {
    Gpu(FusedNorm),
    Cpu(cpu::GroupNorm),
}

impl GroupNorm {
    /// A norm with weight and bias `[C]` in the number type of the maps.
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        let of_cpu = || cpu::GroupNorm::of(&weight, &bias).map(Fused::Cpu);
        let fused = FusedNorm::new(&weight, &bias).map(Fused::Gpu).or_else(of_cpu);
        Self { weight, bias, fused }
    }

    /// The norm of `x` `[B, C, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.fused(x, false).unwrap_or_else(|| self.plain(x))
    }

    /// The norm of `x` `[B, C, H, W]`, then SiLU.
    pub fn then_silu(&self, x: &Tensor) -> Tensor {
        self.fused(x, true).unwrap_or_else(|| self.plain(x).silu())
    }

    fn fused(&self, x: &Tensor, silu: bool) -> Option<Tensor> {
        match self.fused.as_ref()? {
            Fused::Gpu(norm) => norm.forward(x, silu),
            Fused::Cpu(norm) => norm.forward(x, silu),
        }
    }

    fn plain(&self, x: &Tensor) -> Tensor {
        x.group_norm(GROUPS, Some(&self.weight), Some(&self.bias), EPSILON, true)
    }
}

/// A norm whose kernels are ready. It passes no gradient on.
#[derive(Debug)]
pub struct FusedNorm {
    kernels: NormKernels,
    /// f32 `[C]`, as is the bias.
    weight: Tensor,
    bias: Tensor,
}

impl FusedNorm {
    /// A norm with weight and bias `[C]` of any number type; `None` where [`ready`] says that there is none, and for those
    /// who learn.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Option<Self> {
        if weight.requires_grad() || bias.requires_grad() {
            return None;
        }
        let kernels = kernels(weight.device()).ok()?;
        let [weight, bias] = [weight, bias].map(|tensor| tensor.to_kind(Kind::Float).contiguous());
        Some(Self { kernels, weight, bias })
    }

    /// The norm of `x` `[B, C, H, W]`, f32, bf16 or f16, then SiLU if asked for: the same shape and number type, channels
    /// last in memory. The numbers of a picture are the same to the bit in any batch.
    ///
    /// `None` where a gradient would be lost, and for what the kernels are not made for.
    pub fn forward(&self, x: &Tensor, silu: bool) -> Option<Tensor> {
        if x.requires_grad() {
            return None;
        }
        let x = x.permute([0, 2, 3, 1]).contiguous(); // [B, H, W, C]
        // Part of another tensor may begin between two vectors.
        let x = if x.data_ptr().addr().is_multiple_of(16) { x } else { x.copy() };
        match self.kernels.run(&x, [&self.weight, &self.bias], EPSILON as f32, silu) {
            Ok(y) => Some(y.permute([0, 3, 1, 2])),
            Err(reason) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| tracing::warn!("group norm runs in the plain way: {reason}"));
                None
            }
        }
    }
}

/// Makes the kernels ready on a device.
///
/// # Errors
/// Why there are none: on a CPU; without a compiler at run time; or because they gave other numbers than libtorch.
pub fn ready(device: Device) -> Result<(), String> {
    kernels(device).map(drop)
}

/// The kernels as NVIDIA's run-time compiler at `compiler` (a `libnvrtc.so`) makes them for GPUs of a compute capability,
/// 90 for 9.0.
///
/// # Errors
/// What the compiler says.
pub fn compile(compiler: &Path, capability: i32) -> Result<Vec<u8>, String> {
    norm_kernels::compile(compiler, capability)
}

/// The kernels on a device: compiled, loaded and checked at the first call.
fn kernels(device: Device) -> Result<NormKernels, String> {
    static OUTCOMES: Mutex<BTreeMap<usize, Result<NormKernels, String>>> = Mutex::new(BTreeMap::new());
    let Device::Cuda(number) = device else {
        return Err(format!("{} is no GPU", device_name(device)));
    };
    let mut outcomes = OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = outcomes.entry(number).or_insert_with(|| {
        let checked = |kernels| panic::catch_unwind(|| check(kernels, device));
        let opened = match env::var(SWITCH).as_deref() {
            Ok("off") => Err(format!("{SWITCH} is off")),
            _ => NormKernels::open(number),
        };
        let outcome = opened.and_then(|kernels| match checked(kernels) {
            Ok(outcome) => outcome.map(|()| kernels),
            Err(panic) => Err(panic_text(panic.as_ref()).to_owned()),
        });
        match &outcome {
            Ok(_) => tracing::info!("convolutions on {} run with channels last", device_name(device)),
            Err(reason) => tracing::warn!(
                "group norm on {} runs in the plain way, and convolutions with channels first: {reason}",
                device_name(device)
            ),
        }
        outcome
    });
    outcome.clone()
}

/// Compares the kernels with libtorch's norm on small maps: this is also how a GPU that nobody has tried shows that they
/// run on it at all, and loads every one before a graph is captured.
fn check(kernels: NormKernels, device: Device) -> Result<(), String> {
    let _no_grad = tch::no_grad_guard();
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for [batch, channels, height, width] in [[2, 64, 9, 7], [1, 160, 32, 33], [3, 640, 5, 8]] {
            let [x, weight, bias] = sample([batch, channels, height, width], kind, device);
            let norm = FusedNorm { kernels, weight, bias };
            for silu in [false, true] {
                let what = || format!("{} [{batch}, {channels}, {height}, {width}]", kind_name(kind));
                let ours = norm.forward(&x, silu).ok_or_else(|| format!("the kernels refused {}", what()))?;
                let off = distance(&ours, &plain(&x, &norm, silu));
                if off.is_nan() || off > tolerance(kind) {
                    return Err(format!("the kernels are off by {off:.1e} for {}", what()));
                }
            }
        }
    }
    Ok(())
}

/// A map whose channels differ in mean and spread, a weight and a bias; made without the random numbers of libtorch, whose
/// stream belongs to others.
fn sample(size: [i64; 4], kind: Kind, device: Device) -> [Tensor; 3] {
    let numbers = |count: i64, step: f64| (Tensor::arange(count, (Kind::Double, device)) * step).sin();
    let channels = size[1];
    let mean = (numbers(channels, 1.7) * 3.0).view([1, channels, 1, 1]);
    let x = numbers(size.iter().product(), 12.9898).view(size) * 1.5 + mean;
    let [weight, bias] = [numbers(channels, 0.9) * 0.5 + 1.0, numbers(channels, 2.3)];
    [x.to_kind(kind), weight.to_kind(Kind::Float), bias.to_kind(Kind::Float)]
}

/// libtorch's norm in f32, the outcome not rounded.
fn plain(x: &Tensor, norm: &FusedNorm, silu: bool) -> Tensor {
    let x = x.to_kind(Kind::Float).contiguous();
    let y = x.group_norm(GROUPS, Some(&norm.weight), Some(&norm.bias), EPSILON, false);
    if silu { y.silu() } else { y }
}

/// The largest difference, beside the number where that is above one.
fn distance(ours: &Tensor, plain: &Tensor) -> f64 {
    let off = (ours.to_kind(Kind::Float) - plain).abs() / plain.abs().clamp_min(1.0);
    f64::try_from(off.max()).unwrap_or(f64::NAN)
}

/// How far the outcome may be off: its rounding, and for f32 that of the sums.
fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1.0 / 256.0 + 1e-4,
        Kind::Half => 1.0 / 2048.0 + 1e-4,
        _ => 5e-5,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{ffi::CStr, path::PathBuf, process::Command, sync::OnceLock};

    use super::*;

    /// The kernels on a GPU that is not there. Those who hold the lock run them.
    pub(crate) struct StandIn {
        /// With the threads of a block in one order and in the other.
        orders: [NormKernels; 2],
        _directory: tempfile::TempDir,
    }

    impl StandIn {
        /// Makes a norm of f32 run as it would on a GPU, and libtorch's give numbers that are none.
        pub(crate) fn take_over(&self, norm: &mut GroupNorm) {
            let [weight, bias] = [&norm.weight, &norm.bias].map(Tensor::shallow_clone);
            norm.fused = Some(Fused::Gpu(FusedNorm { kernels: self.orders[0], weight, bias }));
            norm.weight = norm.weight.full_like(f64::NAN);
        }
    }

    pub(crate) fn stand_in() -> std::sync::MutexGuard<'static, StandIn> {
        static STAND_IN: OnceLock<Mutex<StandIn>> = OnceLock::new();
        let made = STAND_IN.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let library = directory.path().join("libstandin.so");
            let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cuda/stand_in.cpp");
            let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
            let outcome = Command::new(compiler)
                .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unknown-pragmas"])
                .arg(source)
                .arg("-o")
                .arg(&library)
                .output()
                .unwrap();
            assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
            let load = |order: &CStr| NormKernels::stand_in(&library, order).unwrap();
            Mutex::new(StandIn { orders: [load(c"forward"), load(c"backward")], _directory: directory })
        });
        made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bits_are_equal(a: &Tensor, b: &Tensor) -> bool {
        a.kind() == b.kind() && a.equal(b)
    }

    const SIZES: [[i64; 4]; 7] = [
        [3, 32, 7, 5],
        [1, 64, 33, 31],
        [1, 96, 13, 2],
        [2, 128, 16, 16],
        [3, 160, 9, 11],
        [1, 320, 17, 16],
        [3, 640, 5, 7],
    ];

    #[test]
    fn the_kernels_give_the_numbers_of_libtorch_whatever_the_order_of_threads() {
        let stand_in = stand_in();
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            for size in SIZES {
                let [x, weight, bias] = sample(size, kind, Device::Cpu);
                let [one, other] = stand_in.orders.map(|kernels| FusedNorm {
                    kernels,
                    weight: weight.shallow_clone(),
                    bias: bias.shallow_clone(),
                });
                for silu in [false, true] {
                    let ours = one.forward(&x, silu).unwrap();
                    assert_eq!((ours.size(), ours.kind()), (size.to_vec(), kind));
                    let off = distance(&ours, &plain(&x, &one, silu));
                    assert!(off <= tolerance(kind), "{kind:?} {size:?} {silu}: {off:.1e}");
                    let again = other.forward(&x, silu).unwrap();
                    assert!(bits_are_equal(&ours, &again), "{kind:?} {size:?} {silu}: threads race");
                }
            }
        }
    }

    #[test]
    fn the_check_of_a_gpu_finds_the_stand_in_right() {
        assert_eq!(check(stand_in().orders[0], Device::Cpu), Ok(()));
    }

    #[test]
    fn a_picture_is_the_same_to_the_bit_alone_and_in_a_batch() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([3, 160, 33, 20], Kind::BFloat16, Device::Cpu);
        let norm = FusedNorm { kernels: stand_in.orders[0], weight, bias };
        let batch = norm.forward(&x, true).unwrap();
        for index in 0..3 {
            let alone = norm.forward(&x.narrow(0, index, 1), true).unwrap();
            assert!(bits_are_equal(&batch.narrow(0, index, 1), &alone), "picture {index}");
        }
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([1, 32, 40, 40], Kind::Float, Device::Cpu);
        let norm = FusedNorm { kernels: stand_in.orders[0], weight, bias };
        // In doubles, as f32 has none to spare here.
        let far = x + 30_000.0;
        let exact = far.to_kind(Kind::Double).group_norm(
            GROUPS,
            Some(norm.weight.to_kind(Kind::Double)),
            Some(norm.bias.to_kind(Kind::Double)),
            EPSILON,
            false,
        );
        let ours = norm.forward(&far, false).unwrap();
        let off = distance(&ours, &exact.to_kind(Kind::Float));
        // Means of that size are rounded by 0.001, beside a spread of one; squares would be by 30.
        assert!(off < 5e-3, "{off:.1e}");
    }

    #[test]
    fn a_first_place_far_off_and_a_map_of_one_value_are_normed_well() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([1, 32, 40, 40], Kind::Float, Device::Cpu);
        let norm = FusedNorm { kernels: stand_in.orders[0], weight, bias };
        let _ = x.narrow(2, 0, 1).narrow(3, 0, 1).fill_(1e4);
        let off = distance(&norm.forward(&x, false).unwrap(), &plain(&x, &norm, false));
        assert!(off < 1e-4, "{off:.1e}");
        // Also a single place. libtorch is off by 2e-4 there.
        for even in [x.full_like(7.3), x.narrow(2, 0, 1).narrow(3, 0, 1)] {
            let bias = norm.bias.view([1, 32, 1, 1]).expand_as(&even);
            assert_eq!(distance(&norm.forward(&even, false).unwrap(), &bias), 0.0);
        }
    }

    #[test]
    fn a_part_of_another_tensor_that_begins_anywhere_is_normed() {
        let stand_in = stand_in();
        let [x, weight, bias] = sample([2, 32, 4, 4], Kind::BFloat16, Device::Cpu);
        let norm = FusedNorm { kernels: stand_in.orders[0], weight, bias };
        let rows = x.permute([0, 2, 3, 1]).contiguous().view([-1]);
        let shifted = Tensor::cat(&[rows.narrow(0, 0, 1), rows], 0).narrow(0, 1, 2 * 32 * 4 * 4);
        let shifted = shifted.view([2, 4, 4, 32]).permute([0, 3, 1, 2]);
        assert!(!shifted.data_ptr().addr().is_multiple_of(16));
        let [one, other] = [&x, &shifted].map(|x| norm.forward(x, true).unwrap());
        assert!(bits_are_equal(&one, &other));
    }

    #[test]
    fn what_the_kernels_are_not_made_for_and_gradients_are_left_to_libtorch() {
        let stand_in = stand_in();
        let norm = |channels: i64| FusedNorm {
            kernels: stand_in.orders[0],
            weight: Tensor::ones([channels], (Kind::Float, Device::Cpu)),
            bias: Tensor::zeros([channels], (Kind::Float, Device::Cpu)),
        };
        let x = |channels: i64, kind| Tensor::zeros([1, channels, 2, 2], (kind, Device::Cpu));
        assert!(norm(32).forward(&x(32, Kind::Float), true).is_some());
        assert!(norm(32).forward(&x(32, Kind::Double), true).is_none());
        assert!(norm(32).forward(&x(64, Kind::Float), true).is_none());
        assert!(norm(48).forward(&x(48, Kind::Float), true).is_none());
        assert!(norm(2048).forward(&x(2048, Kind::Float), true).is_none());
        assert!(norm(32).forward(&x(32, Kind::Float).set_requires_grad(true), true).is_none());
    }

    #[test]
    fn the_cpu_has_no_use_for_the_kernels() {
        assert_eq!(ready(Device::Cpu), Err("cpu is no GPU".into()));
    }
}
