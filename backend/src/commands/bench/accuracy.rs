//! What a shorter number type costs in pictures: the same noise drawn in it and in f32.

use std::ops::ControlFlow;

use tch::{Kind, Tensor};
use var_dd_engine::{
    device::kind_name,
    ops::Ops,
    sample::{
        Batch, Frames, Sampler,
        noise::{self, PictureSeed},
        plan::Plan,
        to_rgb8,
    },
};

use super::BenchedModel;
use crate::outln;
use crate::usage_error::UsageError;

/// Draws `count` pictures of each plan in `kind` and in f32 and prints how far they differ.
///
/// Codes are compared as the nearest codewords of the final tokens, which for regressed vectors is
/// the stricter way. A teacher that draws from its law tells less than a student does: one draw
/// that falls otherwise changes all after it.
///
/// # Errors
/// When the model cannot be used, or `kind` is f32 itself.
pub(super) fn run(
    source: &BenchedModel,
    plans: &[(String, Plan)],
    count: u32,
    ops: &Ops,
    kind: Kind,
) -> anyhow::Result<()> {
    if kind == Kind::Float {
        return Err(
            UsageError("--accuracy compares with f32; give --dtype bf16 or f16".into()).into()
        );
    }
    let (short, full) =
        (source.sampler(plans, ops, kind)?, source.sampler(plans, ops, Kind::Float)?);
    let name = kind_name(kind);
    outln!("{}: {count} pictures in {name} and in f32", source.config().name)?;
    outln!("{:<24}  equal codes  PSNR of the mean square  worst picture   equal bytes", "plan")?;
    for (plan_name, plan) in plans {
        let mut tally = Tally::default();
        for index in 0..count {
            let seeds = [PictureSeed { seed: 0, index: index.into() }];
            let (a, b) = (draw(&short, plan, &seeds)?, draw(&full, plan, &seeds)?);
            tally.add(&a, &b);
        }
        outln!("{plan_name:<24}  {}", tally.line())?;
    }
    Ok(())
}

/// Codes and bytes of one picture.
struct Drawn {
    codes: Vec<i64>,
    bytes: Vec<u8>,
}

fn draw(sampler: &Sampler, plan: &Plan, seeds: &[PictureSeed]) -> anyhow::Result<Drawn> {
    let config = &sampler.config;
    let noise = noise::noise(seeds, config.tokens(), config.latent_channels);
    let labels = Tensor::from_slice(&[seeds[0].index as i64 % config.num_classes]);
    let batch = Batch { labels: &labels, noise: Some(&noise), seeds };
    let tokens = sampler.run(plan, &batch, Frames::None, &mut |_| ControlFlow::Continue(()))?;
    // The sink never says stop.
    let tokens = tokens.unwrap_or_default();
    let codes = Vec::try_from(sampler.vae.quantize.nearest(&tokens).view([-1]))?;
    let f_hat = sampler.f_hats(&tokens).pop().unwrap_or_default();
    let bytes = to_rgb8(&sampler.pictures(&f_hat))?.concat();
    Ok(Drawn { codes, bytes })
}

#[derive(Debug, Default)]
struct Tally {
    codes: usize,
    equal_codes: usize,
    bytes: usize,
    equal_bytes: usize,
    squares: f64,
    worst_square: f64,
}

impl Tally {
    fn add(&mut self, a: &Drawn, b: &Drawn) {
        self.codes += a.codes.len();
        self.equal_codes += a.codes.iter().zip(&b.codes).filter(|(a, b)| a == b).count();
        let square = |(a, b): (&u8, &u8)| f64::from(i16::from(*a) - i16::from(*b)).powi(2);
        let squares: f64 = a.bytes.iter().zip(&b.bytes).map(square).sum();
        self.bytes += a.bytes.len();
        self.equal_bytes += a.bytes.iter().zip(&b.bytes).filter(|(a, b)| a == b).count();
        self.squares += squares;
        self.worst_square = self.worst_square.max(squares / a.bytes.len() as f64);
    }

    fn line(&self) -> String {
        let psnr = |square: f64| 10.0 * (255.0_f64.powi(2) / square).log10();
        format!(
            "{:>9.2} %  {:>20.1} dB  {:>10.1} dB  {:>10.1} %",
            100.0 * self.equal_codes as f64 / self.codes as f64,
            psnr(self.squares / self.bytes as f64),
            psnr(self.worst_square),
            100.0 * self.equal_bytes as f64 / self.bytes as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_tells_shares_and_noise() {
        let drawn = |codes: [i64; 4], bytes: [u8; 2]| Drawn {
            codes: codes.to_vec(),
            bytes: bytes.to_vec(),
        };
        let mut tally = Tally::default();
        tally.add(&drawn([1, 2, 3, 4], [0, 255]), &drawn([1, 2, 3, 5], [0, 255]));
        tally.add(&drawn([1, 2, 3, 4], [10, 0]), &drawn([1, 2, 3, 4], [0, 0]));
        // 7 of 8 codes, a mean square of 25, and of 50 in the worst picture.
        let line = tally.line();
        assert!(
            line.contains("87.50 %") && line.contains("34.2 dB") && line.contains("31.1 dB"),
            "{line}"
        );
        assert!(line.ends_with("75.0 %"), "{line}");
    }
}
