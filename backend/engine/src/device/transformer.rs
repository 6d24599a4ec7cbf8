//! What a transformer does between its matrix products, on a GPU: the engine's own kernels
//! (`engine/cuda/transformer.cu`), where they are ready.

use std::sync::Once;

use tch::{Device, Kind, Tensor};

use super::kernels::{Kernels, distance, numbers, tolerance};
use super::native::cuda;
pub(crate) use super::native::transformer_kernels::{Addition, Norm};

/// What a layer norm adds to a variance.
pub(crate) const EPSILON: f64 = 1e-6;

/// The stream `x`, f32 `[B, L, C]`, with an addition, f32; and its norm in the number type asked
/// for. `None` where the kernels do not do it.
pub(crate) fn residual_norm(
    kernels: &Kernels,
    x: &Tensor,
    addition: Option<Addition<'_>>,
    norm: Option<Norm<'_>>,
) -> Option<(Option<Tensor>, Option<Tensor>)> {
    // A part of another tensor may begin anywhere.
    let copy;
    let x = if x.data_ptr().addr().is_multiple_of(16) {
        x
    } else {
        copy = x.copy();
        &copy
    };
    told(kernels.residual_norm(x, addition, norm))
}

/// Gives queries and keys of `qkv`, `[B, L, 3C]` and just made, the length 1 in every head, and
/// queries the head's sharpness `exp(min(log_sharpness, most))`. False where the kernels do not do
/// it.
pub(crate) fn unit_heads(
    kernels: &Kernels,
    qkv: &mut Tensor,
    log_sharpness: &Tensor,
    most: f64,
) -> bool {
    told(kernels.unit_heads(qkv, log_sharpness, most as f32)).is_some()
}

/// GELU by its tanh formula of a linear layer on a GPU: `x` `[…, from]`, a weight `[to, from]` and
/// a bias `[to]` of its number type. As one matrix product where that can be had.
pub(crate) fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (mut size, from, to) = (x.size(), weight.size()[1], weight.size()[0]);
    if let Some(last) = size.last_mut() {
        *last = to;
    }
    match told(cuda::linear_gelu(&x.reshape([-1, from]), weight, bias)) {
        Some(outcome) => outcome.view(&size[..]),
        None => x.linear(weight, Some(bias)).gelu("tanh"),
    }
}

fn told<T>(outcome: Result<T, String>) -> Option<T> {
    outcome
        .inspect_err(|reason| {
            static ONCE: Once = Once::new();
            ONCE.call_once(|| tracing::warn!("a transformer runs in the plain way: {reason}"));
        })
        .ok()
}

/// Compares the kernels with libtorch.
pub(super) fn check(kernels: Kernels, device: Device) -> Result<(), String> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for [batch, length, channels] in [[2, 5, 64], [3, 7, 1024], [1, 2, 1920]] {
            check_norm(&kernels, kind, [batch, length, channels], device).map_err(|reason| {
                format!("{reason} for [{batch}, {length}, {channels}] {kind:?}")
            })?;
        }
        if device.is_cuda() {
            check_gelu(kind, device).map_err(|reason| format!("{reason} {kind:?}"))?;
        }
        for [heads, width] in [[4, 8], [2, 32], [16, 64], [3, 128]] {
            check_heads(&kernels, kind, [heads, width], device)
                .map_err(|reason| format!("{reason} for {heads} heads of {width} {kind:?}"))?;
        }
    }
    Ok(())
}

/// The product with GELU is libtorch's own, but asked for in C++.
fn check_gelu(kind: Kind, device: Device) -> Result<(), String> {
    let number = |size: &[i64], step: f64| numbers(size, step, device).to_kind(kind);
    let (x, weight, bias) =
        (number(&[24, 64], 12.9898), number(&[128, 64], 7.31) * 0.3, number(&[128], 3.7));
    let exact = |tensor: &Tensor| tensor.to_kind(Kind::Float);
    let plain = exact(&x).linear(&exact(&weight), Some(&exact(&bias))).gelu("tanh");
    close("a layer with GELU", &cuda::linear_gelu(&x, &weight, &bias)?, &plain, kind)
}

fn close(what: &str, ours: &Tensor, plain: &Tensor, kind: Kind) -> Result<(), String> {
    let off = distance(ours, plain);
    let fits = ours.kind() == kind && off <= tolerance(kind);
    if fits { Ok(()) } else { Err(format!("{what} is off by {off:.1e}")) }
}

fn check_norm(kernels: &Kernels, kind: Kind, size: [i64; 3], device: Device) -> Result<(), String> {
    let [batch, length, channels] = size;
    let number = |size: &[i64], step: f64| numbers(size, step, device).to_kind(Kind::Float);
    // As they come: a stream that is part of a longer one, and rows of a table of what the class
    // determines.
    let whole = number(&[batch, length + 1, channels], 12.9898) * 2.0 + 0.5;
    let x = whole.narrow(1, 1, length);
    let branch = number(&size, 7.31).to_kind(kind);
    let between = number(&[length, channels], 3.7);
    for rows in [1, batch] {
        let table = number(&[rows, 6, 1, channels], 0.9);
        let of = |i| table.select(1, i);
        let (gamma, scale, shift) = (of(1), of(2), of(4));
        let norm = || Norm { scale: &scale, shift: &shift, epsilon: EPSILON as f32, kind };
        let normed = |x: &Tensor| {
            let x = x.layer_norm([channels], None::<&Tensor>, None::<&Tensor>, EPSILON, false);
            x * (&scale + 1.0) + &shift
        };
        for between in [None, Some(&between)] {
            let mut sum = &x + &gamma * branch.to_kind(Kind::Float);
            if let Some(between) = between {
                sum += between;
            }
            let addition = || Addition { branch: &branch, gamma: &gamma, between };
            let (y, h) = kernels.residual_norm(&x, Some(addition()), Some(norm()))?;
            close("the sum", &y.ok_or("no sum")?, &sum, Kind::Float)?;
            close("its norm", &h.ok_or("no norm")?, &normed(&sum), kind)?;
            let (y, _) = kernels.residual_norm(&x, Some(addition()), None)?;
            close("the sum alone", &y.ok_or("no sum")?, &sum, Kind::Float)?;
        }
        let (_, h) = kernels.residual_norm(&x, None, Some(norm()))?;
        close("the norm alone", &h.ok_or("no norm")?, &normed(&x), kind)?;
    }
    Ok(())
}

fn check_heads(
    kernels: &Kernels,
    kind: Kind,
    [heads, width]: [i64; 2],
    device: Device,
) -> Result<(), String> {
    let size = [2, 3, 3 * heads * width];
    let given = (numbers(&size, 12.9898, device) * 3.0).to_kind(kind);
    // One of them far above the bound.
    let sharpness = numbers(&[1, heads, 1, 1], 1.7, device).to_kind(Kind::Float) * 3.0 + 2.0;
    let most = 3.0;
    let mut ours = given.copy();
    kernels.unit_heads(&mut ours, &sharpness, most as f32)?;
    let parts = given.to_kind(Kind::Float).view([2, 3, 3, heads, width]);
    let length = parts.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float).sqrt();
    let unit = &parts / length;
    let factor = sharpness.view([1, 1, heads, 1]).clamp_max(most).exp();
    let expected = [unit.select(2, 0) * factor, unit.select(2, 1), parts.select(2, 2)];
    close("attention's input", &ours, &Tensor::stack(&expected, 2).view(size), kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::kernels::tests::{bits_are_equal, stand_in};

    #[test]
    fn threads_do_not_race() {
        let stand_in = stand_in();
        let number =
            |size: &[i64], step: f64| numbers(size, step, Device::Cpu).to_kind(Kind::Float);
        let (x, branch, table) =
            (number(&[2, 3, 520], 1.1), number(&[2, 3, 520], 2.3), number(&[1, 1, 520], 0.7));
        let (qkv, sharpness) = (number(&[2, 3, 3 * 4 * 16], 1.9), number(&[1, 4, 1, 1], 0.3));
        let [one, other] = stand_in.orders.map(|kernels| {
            let addition = Addition { branch: &branch, gamma: &table, between: None };
            let norm = Norm { scale: &table, shift: &table, epsilon: 1e-6, kind: Kind::Float };
            let (y, h) = kernels.residual_norm(&x, Some(addition), Some(norm)).unwrap();
            let mut qkv = qkv.copy();
            kernels.unit_heads(&mut qkv, &sharpness, 4.6).unwrap();
            [y.unwrap(), h.unwrap(), qkv]
        });
        for (one, other) in one.iter().zip(&other) {
            assert!(bits_are_equal(one, other));
        }
    }

    #[test]
    fn what_the_kernels_are_not_made_for_is_refused() {
        let stand_in = stand_in();
        let kernels = &stand_in.orders[0];
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        let normed = |x: &Tensor, table: &Tensor, kind| {
            let norm = Norm { scale: table, shift: table, epsilon: 1e-6, kind };
            kernels.residual_norm(x, None, Some(norm))
        };
        let (x, table) = (zeros(&[2, 3, 64]), zeros(&[1, 1, 64]));
        assert!(normed(&x, &table, Kind::Float).is_ok());
        for (x, table, kind) in [
            (zeros(&[2, 3, 60]), zeros(&[1, 1, 60]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[1, 1, 32]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[3, 1, 64]), Kind::Float),
            (zeros(&[2, 0, 64]), zeros(&[1, 1, 64]), Kind::Float),
            (zeros(&[2, 3, 8192]), zeros(&[1, 1, 8192]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[1, 1, 64]), Kind::Double),
            (zeros(&[2, 64, 3]).transpose(1, 2), zeros(&[1, 1, 64]), Kind::Float),
            (zeros(&[2, 3, 64]).to_kind(Kind::Half), zeros(&[1, 1, 64]), Kind::Float),
        ] {
            assert!(normed(&x, &table, kind).is_err(), "{x:?} {table:?} {kind:?}");
        }
        for (width, heads) in [(3 * 2 * 24, 2), (3 * 2 * 12, 2), (3 * 512, 1), (100, 2)] {
            let mut qkv = zeros(&[1, 2, width]);
            assert!(
                kernels.unit_heads(&mut qkv, &zeros(&[1, heads, 1, 1]), 4.6).is_err(),
                "{width} {heads}"
            );
        }
    }
}
