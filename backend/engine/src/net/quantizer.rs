//! The multi-scale residual quantizer (`quant.py`). Always f32: its sums decide codes.

use tch::{Device, Kind, Tensor};

use crate::{config::Config, weights::Cursor};

/// Codebook and the convolutions φ that smooth each scale's contribution.
#[derive(Debug)]
pub struct Quantizer {
    /// Codewords, `[V, Cv]`.
    pub embedding: Tensor,
    /// `‖c‖²/2` of each codeword, `[V]`.
    half_square_norms: Tensor,
    quant_resi: Vec<Phi>,
    /// φ of each scale.
    phi_of_scale: Vec<usize>,
    patch_nums: Vec<i64>,
    /// What takes a line of each scale to the full side, `[p, p_k]`.
    enlarge: Vec<Tensor>,
}

/// `φ(h) = ½·h + ½·conv3x3(h)`.
#[derive(Debug)]
struct Phi {
    weight: Tensor,
    bias: Tensor,
}

impl Phi {
    fn forward(&self, h: &Tensor) -> Tensor {
        h * 0.5 + h.conv2d(&self.weight, Some(&self.bias), [1, 1], [1, 1], [1, 1], 1) * 0.5
    }
}

/// Number of different φ in every released VAE.
const PHIS: usize = 4;

/// Which φ each of `scales` scales uses: the one whose tick is nearest to `k/(S−1)`, the first of
/// equally near ones.
///
/// Many are ties but for rounding. The ticks are NumPy's `linspace(1/12, 11/12, 4)`, in this order
/// of operations.
fn phi_of_scale(scales: usize) -> Vec<usize> {
    let (first, last) = (1.0 / 3.0 / 4.0, 1.0 - 1.0 / 3.0 / 4.0);
    let step: f64 = (last - first) / 3.0;
    let tick = |i: usize| if i == PHIS - 1 { last } else { first + i as f64 * step };
    let nearest = |k: usize| {
        let at = k as f64 / (scales - 1) as f64;
        let distance = |i: usize| (tick(i) - at).abs();
        (1..PHIS).fold(0, |best, i| if distance(i) < distance(best) { i } else { best })
    };
    (0..scales).map(nearest).collect()
}

/// Matrices `[p, p_k]` that take a line of each scale to the full side as bicubic interpolation
/// does. It is linear and treats rows and columns alike, so two small products are all of it;
/// torch's own takes a hundred times as long on a GPU.
fn enlargements(patch_nums: &[i64], device: Device) -> Vec<Tensor> {
    let full = patch_nums.last().copied().unwrap_or(1);
    let matrix = |&side: &i64| {
        let lines = Tensor::eye(side, (Kind::Float, Device::Cpu)).view([1, side, side, 1]);
        lines
            .upsample_bicubic2d([full, 1], false, None, None)
            .view([side, full])
            .tr()
            .contiguous()
            .to_device(device)
    };
    patch_nums.iter().map(matrix).collect()
}

impl Quantizer {
    pub(super) fn load(at: &Cursor, config: &Config) -> Self {
        let (vocabulary, latent) = (config.vocabulary, config.latent_channels);
        let embedding = at.enter("embedding").tensor_f32("weight", &[vocabulary, latent]);
        let phi = |i: usize| {
            let at = at.enter("quant_resi.qresi_ls").enter(i);
            Phi {
                weight: at.tensor_f32("weight", &[latent, latent, 3, 3]),
                bias: at.tensor_f32("bias", &[latent]),
            }
        };
        Self {
            half_square_norms: embedding.square().sum_dim_intlist(
                [1i64].as_slice(),
                false,
                Kind::Float,
            ) * 0.5,
            embedding,
            quant_resi: (0..PHIS).map(phi).collect(),
            phi_of_scale: phi_of_scale(config.scales()),
            patch_nums: config.patch_nums.clone(),
            enlarge: enlargements(&config.patch_nums, at.device()),
        }
    }

    fn side(&self) -> i64 {
        self.patch_nums[self.patch_nums.len() - 1]
    }

    /// Number of the codeword nearest to each vector, `[…, Cv]` to i64 `[…]`, by one matrix
    /// product.
    pub fn nearest(&self, vectors: &Tensor) -> Tensor {
        (vectors.to_kind(Kind::Float).matmul(&self.embedding.tr()) - &self.half_square_norms)
            .argmax(-1, false)
    }

    /// Codewords of numbers, i64 `[…]` to f32 `[…, Cv]`.
    pub fn lookup(&self, codes: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, codes, -1, false, false)
    }

    /// An empty `f_hat`, `[B, Cv, p, p]`.
    pub fn empty(&self, batch: i64) -> Tensor {
        let (side, latent) = (self.side(), self.embedding.size()[1]);
        Tensor::zeros([batch, latent, side, side], (Kind::Float, self.embedding.device()))
    }

    /// What scale `k` adds to `f_hat`: tokens f32 `[B, p_k², Cv]` to `[B, Cv, p, p]`.
    pub fn contribution(&self, k: usize, tokens: &Tensor) -> Tensor {
        let (side, full) = (self.patch_nums[k], self.side());
        let (b, latent) = (tokens.size()[0], self.embedding.size()[1]);
        let h = tokens.transpose(1, 2).reshape([b, latent, side, side]);
        let enlarge = &self.enlarge[k];
        let h = if side == full { h } else { enlarge.matmul(&h).matmul(&enlarge.tr()) };
        self.quant_resi[self.phi_of_scale[k]].forward(&h)
    }

    /// `f_hat` after every scale of a sequence, f32 `[B, N, Cv]`: one `[B, Cv, p, p]` a scale.
    pub fn partial_sums(&self, sequence: &Tensor) -> Vec<Tensor> {
        let mut f_hat = self.empty(sequence.size()[0]);
        let mut start = 0;
        (0..self.patch_nums.len())
            .map(|k| {
                let length = self.patch_nums[k].pow(2);
                f_hat = &f_hat + self.contribution(k, &sequence.narrow(1, start, length));
                start += length;
                f_hat.shallow_clone()
            })
            .collect()
    }

    /// `f_hat` seen at the side of scale `k`, as tokens: `[B, Cv, p, p]` to `[B, p_k², Cv]` (the
    /// teacher's next input).
    pub fn downsample(&self, f_hat: &Tensor, k: usize) -> Tensor {
        let side = self.patch_nums[k];
        let small = if side == self.side() {
            f_hat.shallow_clone()
        } else {
            f_hat.adaptive_avg_pool2d([side, side])
        };
        small.flatten(2, 3).transpose(1, 2)
    }

    /// Codeword numbers of a latent map, f32 `[B, Cv, p, p]`: i64 `[B, p_k²]` for every scale. Each
    /// scale takes the codewords nearest to what the scales before it left over.
    pub fn encode(&self, latent: &Tensor) -> Vec<Tensor> {
        let mut rest = latent.shallow_clone();
        (0..self.patch_nums.len())
            .map(|k| {
                let codes = self.nearest(&self.downsample(&rest, k));
                rest = &rest - self.contribution(k, &self.lookup(&codes));
                codes
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_products_are_bicubic_interpolation() {
        let sides = [1, 2, 3, 5, 8, 13, 16];
        for (side, enlarge) in sides.iter().zip(enlargements(&sides, Device::Cpu)) {
            let h = Tensor::randn([2, 3, *side, *side], (Kind::Float, Device::Cpu));
            let expected = h.upsample_bicubic2d([16, 16], false, None, None);
            let off =
                (enlarge.matmul(&h).matmul(&enlarge.tr()) - expected).abs().max().double_value(&[]);
            assert!(off < 2e-6, "{side}: {off:.1e}");
        }
    }

    #[test]
    fn scales_share_phis_as_in_the_released_models() {
        assert_eq!(phi_of_scale(10), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(phi_of_scale(5), [0, 1, 2, 2, 3]);
        assert_eq!(phi_of_scale(2), [0, 3]);
    }
}
