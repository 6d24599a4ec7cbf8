//! The embedding of classes, and of what lies between them.

use tch::{Kind, Tensor};

/// `class_emb` of labels, f32 `[B, C]`: of class numbers, i64 `[B]`, its rows; of weights for the
/// first classes, f32 `[B, classes]`, the sum of rows by weight.
pub(super) fn class_embedding(class_emb: &Tensor, labels: &Tensor) -> Tensor {
    if labels.kind() == Kind::Int64 {
        return class_emb.index_select(0, labels);
    }
    labels.matmul(&class_emb.narrow(0, 0, labels.size()[1]))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_corner_of_a_blend_of_classes_is_that_class_to_the_bit() {
        let class_emb = Tensor::randn([11, 64], (Kind::Float, Device::Cpu));
        let numbers = Tensor::from_slice(&[3i64, 0, 9]);
        let weights = numbers.one_hot(10).to_kind(Kind::Float);
        assert_eq!(class_embedding(&class_emb, &weights), class_embedding(&class_emb, &numbers));
    }

    #[test]
    fn between_classes_lies_their_mean_by_weight() {
        let class_emb = Tensor::randn([4, 8], (Kind::Float, Device::Cpu));
        let weights = Tensor::from_slice(&[0.25f32, 0.0, 0.75]).view([1, 3]);
        let expected = class_emb.get(0) * 0.25 + class_emb.get(2) * 0.75;
        let off = (class_embedding(&class_emb, &weights).get(0) - expected).abs().max();
        assert!(off.double_value(&[]) < 1e-6);
    }
}
