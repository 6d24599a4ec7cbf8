//! The Inception network that FID is defined by, in the variant of the `pytorch-fid` package: the
//! TensorFlow weights of 2015-12-05, average pools that leave padding out of the mean, and a
//! maximum pool in the last block.

use tch::{Kind, TchError, Tensor, no_grad};

use crate::{
    ops::Ops,
    weights::{Cursor, Weights, WeightsError},
};

/// Features per picture.
pub const FEATURES: i64 = 2048;

/// Spatial features per picture: 17×17 places of [`SPATIAL_CHANNELS`] channels.
pub const SPATIAL_FEATURES: i64 = 17 * 17 * SPATIAL_CHANNELS;

/// Channels of the spatial features.
const SPATIAL_CHANNELS: i64 = 7;

/// The block of the spatial features, `Mixed_6d`. The evaluator of ADM (Dhariwal and Nichol 2021)
/// takes the first seven channels of `mixed_6/conv:0`; its graph counts the blocks from `mixed`
/// (`Mixed_5b`) on, and `conv` is the branch of one 1×1 convolution, whose channels come first in
/// the block's output.
const SPATIAL_BLOCK: usize = 6;

/// Side to which pictures are resized.
const SIDE: i64 = 299;

/// Added to the variances of the norms.
const EPSILON: f64 = 1e-3;

/// Convolution, norm (folded into the weights) and ReLU.
#[derive(Debug)]
struct Conv {
    weight: Tensor, // [out, in, height, width]
    bias: Tensor,   // [out]
    stride: i64,
    padding: [i64; 2],
}

/// Kernel of a convolution: height, width, stride, and whether the picture keeps its size.
#[derive(Clone, Copy)]
struct Kernel(i64, i64, i64, bool);

const K1: Kernel = Kernel(1, 1, 1, true);
const K3: Kernel = Kernel(3, 3, 1, true);
const K5: Kernel = Kernel(5, 5, 1, true);
const WIDE3: Kernel = Kernel(1, 3, 1, true);
const TALL3: Kernel = Kernel(3, 1, 1, true);
const WIDE7: Kernel = Kernel(1, 7, 1, true);
const TALL7: Kernel = Kernel(7, 1, 1, true);
const INNER3: Kernel = Kernel(3, 3, 1, false);
const DOWN3: Kernel = Kernel(3, 3, 2, false);

/// Name, outputs, kernel.
type ConvSpec = (&'static str, i64, Kernel);

impl Conv {
    fn load(path: &Cursor<'_>, inputs: i64, outputs: i64, kernel: Kernel) -> Self {
        let Kernel(height, width, stride, keeps_size) = kernel;
        let weight = path.enter("conv").tensor_f32("weight", &[outputs, inputs, height, width]);
        let norm = |name| path.enter("bn").tensor_f32(name, &[outputs]).to_kind(Kind::Double);
        let scale = norm("weight") / (norm("running_var") + EPSILON).sqrt();
        let bias = norm("bias") - norm("running_mean") * &scale;
        let weight = weight.to_kind(Kind::Double) * scale.view([-1, 1, 1, 1]);
        let padding = |side: i64| if keeps_size { side / 2 } else { 0 };
        Self {
            weight: weight.to_kind(Kind::Float),
            bias: bias.to_kind(Kind::Float),
            stride,
            padding: [padding(height), padding(width)],
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (stride, dilation) = ([self.stride; 2], [1; 2]);
        x.f_conv2d(&self.weight, Some(&self.bias), stride, self.padding, dilation, 1)?.f_relu_()
    }
}

/// Convolutions one after the other, then several side by side.
#[derive(Debug)]
struct Branch {
    chain: Vec<Conv>,
    fork: Vec<Conv>,
}

impl Branch {
    fn load(path: &Cursor<'_>, mut inputs: i64, chain: &[ConvSpec], fork: &[ConvSpec]) -> Self {
        let conv = |inputs, &(name, outputs, kernel): &ConvSpec| {
            Conv::load(&path.enter(name), inputs, outputs, kernel)
        };
        let mut convs = Vec::new();
        for spec in chain {
            convs.push(conv(inputs, spec));
            inputs = spec.1;
        }
        Self { chain: convs, fork: fork.iter().map(|spec| conv(inputs, spec)).collect() }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut x = x.shallow_clone();
        for conv in &self.chain {
            x = conv.forward(&x)?;
        }
        if self.fork.is_empty() {
            return Ok(x);
        }
        let parts = self.fork.iter().map(|conv| conv.forward(&x)).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_cat(&parts, 1)
    }
}

/// The pool of a block.
#[derive(Clone, Copy, Debug)]
enum Pool {
    /// Mean of 3×3 without the padding.
    Mean,
    /// Maximum of 3×3.
    Max,
    /// Maximum of 3×3 at every other place.
    Down,
}

fn max_pool(x: &Tensor, stride: i64, padding: i64) -> Result<Tensor, TchError> {
    x.f_max_pool2d([3, 3], [stride; 2], [padding; 2], [1, 1], false)
}

/// Branches side by side, the last one after a pool.
#[derive(Debug)]
struct Block {
    branches: Vec<Branch>,
    pool: Pool,
    /// Empty where the pool alone is a branch.
    after_pool: Branch,
}

impl Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut parts =
            self.branches.iter().map(|branch| branch.forward(x)).collect::<Result<Vec<_>, _>>()?;
        let pooled = match self.pool {
            Pool::Mean => x.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?,
            Pool::Max => max_pool(x, 1, 1)?,
            Pool::Down => max_pool(x, 2, 0)?,
        };
        parts.push(self.after_pool.forward(&pooled)?);
        Tensor::f_cat(&parts, 1)
    }
}

/// What scores look at.
#[derive(Debug)]
pub struct Activations {
    /// The last pool: `[B, 2048]`.
    pub pooled: Tensor,
    /// The start of `Mixed_6d`, place by place as TensorFlow lays it out: `[B, 2023]`.
    pub spatial: Tensor,
}

/// The network up to its last pool.
#[derive(Debug)]
pub struct Inception {
    stem: Vec<Branch>, // a maximum pool follows each
    blocks: Vec<Block>,
}

/// Whether a tensor belongs to parts of the published state dict that features do not need.
pub fn is_unneeded(name: &str) -> bool {
    name.starts_with("fc.")
        || name.starts_with("AuxLogits.")
        || name.ends_with(".num_batches_tracked")
}

impl Inception {
    /// Loads the network; it computes in float32.
    ///
    /// # Errors
    /// When a tensor is missing, misshaped, or not one of the network's.
    pub fn load(weights: Weights) -> Result<Self, WeightsError> {
        let network = Self::ask(&weights.root());
        weights.finish()?;
        Ok(network)
    }

    /// Name and shape of every tensor of the network, in its order.
    pub fn tensors() -> Vec<(String, Vec<i64>)> {
        let weights = Weights::from_formula(&Ops::plain(tch::Device::Cpu), Kind::Float);
        Self::ask(&weights.root());
        // Weights from names are never missing.
        weights.finish().unwrap_or_default()
    }

    fn ask(root: &Cursor<'_>) -> Self {
        let stem = vec![
            Branch::load(
                root,
                3,
                &[
                    ("Conv2d_1a_3x3", 32, DOWN3),
                    ("Conv2d_2a_3x3", 32, INNER3),
                    ("Conv2d_2b_3x3", 64, K3),
                ],
                &[],
            ),
            Branch::load(
                root,
                64,
                &[("Conv2d_3b_1x1", 80, K1), ("Conv2d_4a_3x3", 192, INNER3)],
                &[],
            ),
        ];
        let mut blocks = Vec::new();
        for (name, inputs, pooled) in
            [("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)]
        {
            let path = root.enter(name);
            let branch = |chain: &[ConvSpec]| Branch::load(&path, inputs, chain, &[]);
            blocks.push(Block {
                branches: vec![
                    branch(&[("branch1x1", 64, K1)]),
                    branch(&[("branch5x5_1", 48, K1), ("branch5x5_2", 64, K5)]),
                    branch(&[
                        ("branch3x3dbl_1", 64, K1),
                        ("branch3x3dbl_2", 96, K3),
                        ("branch3x3dbl_3", 96, K3),
                    ]),
                ],
                pool: Pool::Mean,
                after_pool: branch(&[("branch_pool", pooled, K1)]),
            });
        }
        let path = root.enter("Mixed_6a");
        let branch = |chain: &[ConvSpec]| Branch::load(&path, 288, chain, &[]);
        blocks.push(Block {
            branches: vec![
                branch(&[("branch3x3", 384, DOWN3)]),
                branch(&[
                    ("branch3x3dbl_1", 64, K1),
                    ("branch3x3dbl_2", 96, K3),
                    ("branch3x3dbl_3", 96, DOWN3),
                ]),
            ],
            pool: Pool::Down,
            after_pool: branch(&[]),
        });
        for (name, width) in
            [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)]
        {
            let path = root.enter(name);
            let branch = |chain: &[ConvSpec]| Branch::load(&path, 768, chain, &[]);
            blocks.push(Block {
                branches: vec![
                    branch(&[("branch1x1", 192, K1)]),
                    branch(&[
                        ("branch7x7_1", width, K1),
                        ("branch7x7_2", width, WIDE7),
                        ("branch7x7_3", 192, TALL7),
                    ]),
                    branch(&[
                        ("branch7x7dbl_1", width, K1),
                        ("branch7x7dbl_2", width, TALL7),
                        ("branch7x7dbl_3", width, WIDE7),
                        ("branch7x7dbl_4", width, TALL7),
                        ("branch7x7dbl_5", 192, WIDE7),
                    ]),
                ],
                pool: Pool::Mean,
                after_pool: branch(&[("branch_pool", 192, K1)]),
            });
        }
        let path = root.enter("Mixed_7a");
        let branch = |chain: &[ConvSpec]| Branch::load(&path, 768, chain, &[]);
        blocks.push(Block {
            branches: vec![
                branch(&[("branch3x3_1", 192, K1), ("branch3x3_2", 320, DOWN3)]),
                branch(&[
                    ("branch7x7x3_1", 192, K1),
                    ("branch7x7x3_2", 192, WIDE7),
                    ("branch7x7x3_3", 192, TALL7),
                    ("branch7x7x3_4", 192, DOWN3),
                ]),
            ],
            pool: Pool::Down,
            after_pool: branch(&[]),
        });
        for (name, inputs, pool) in [("Mixed_7b", 1280, Pool::Mean), ("Mixed_7c", 2048, Pool::Max)]
        {
            let path = root.enter(name);
            let branch =
                |chain: &[ConvSpec], fork: &[ConvSpec]| Branch::load(&path, inputs, chain, fork);
            blocks.push(Block {
                branches: vec![
                    branch(&[("branch1x1", 320, K1)], &[]),
                    branch(
                        &[("branch3x3_1", 384, K1)],
                        &[("branch3x3_2a", 384, WIDE3), ("branch3x3_2b", 384, TALL3)],
                    ),
                    branch(
                        &[("branch3x3dbl_1", 448, K1), ("branch3x3dbl_2", 384, K3)],
                        &[("branch3x3dbl_3a", 384, WIDE3), ("branch3x3dbl_3b", 384, TALL3)],
                    ),
                ],
                pool,
                after_pool: branch(&[("branch_pool", 192, K1)], &[]),
            });
        }
        Self { stem, blocks }
    }

    /// Features `[B, 2048]` of pictures `[B, 3, H, W]` in 0…1, in float32 on the device of the
    /// weights.
    ///
    /// # Errors
    /// When the device cannot.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor, TchError> {
        Ok(self.activations(pictures)?.pooled)
    }

    /// What the scores look at, of pictures `[B, 3, H, W]` in 0…1, in float32 on the device of the
    /// weights.
    ///
    /// # Errors
    /// When the device cannot.
    pub fn activations(&self, pictures: &Tensor) -> Result<Activations, TchError> {
        no_grad(|| {
            let pictures = pictures.f_to_kind(Kind::Float)?;
            let resized =
                pictures.f_upsample_bilinear2d([SIDE, SIDE], false, None::<f64>, None::<f64>)?;
            let mut x = resized.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
            for branch in &self.stem {
                x = max_pool(&branch.forward(&x)?, 2, 0)?;
            }
            let mut spatial = None;
            for (index, block) in self.blocks.iter().enumerate() {
                x = block.forward(&x)?;
                if index == SPATIAL_BLOCK {
                    let first = x.f_narrow(1, 0, SPATIAL_CHANNELS)?;
                    spatial = Some(first.f_permute([0, 2, 3, 1])?.f_flatten(1, 3)?);
                }
            }
            let pooled = x.f_mean_dim([2, 3].as_slice(), false, Kind::Float)?;
            Ok(Activations { pooled, spatial: spatial.unwrap_or_else(Tensor::new) })
        })
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use tch::Device;

    use super::*;

    #[test]
    fn the_features_of_the_reference_pictures_are_met() {
        let bytes = include_bytes!("../../tests/data/evaluation.safetensors");
        let file = SafeTensors::deserialize(bytes).unwrap();
        let reference = |name: &str| {
            let view = file.tensor(name).unwrap();
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            Tensor::from_data_size(view.data(), &shape, Kind::Float)
        };
        let network =
            Inception::load(Weights::from_formula(&Ops::plain(Device::Cpu), Kind::Float)).unwrap();
        let features = network.features(&reference("inception.images")).unwrap();
        let expected = reference("inception.features");
        assert_eq!(features.size(), [2, FEATURES]);
        let error = (&features - &expected).abs().max().double_value(&[]);
        assert!(error < 1e-4, "{error}");
        let spatial = network.activations(&reference("inception.images")).unwrap().spatial;
        assert_eq!(spatial.size(), [2, SPATIAL_FEATURES]);
    }
}
