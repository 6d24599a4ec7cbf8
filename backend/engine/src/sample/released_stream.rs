//! Labels and noise in the order in which the released scripts draw them.
//!
//! `sample.py` and `combine_sample.py` draw the labels of all pictures from PyTorch's CPU
//! generator, then the noise of one batch after the other. So the noise of a batch depends on the
//! number of pictures and on the size of the batches before it. The scripts seed the generator
//! before they build their networks, which use it up further; this stream begins with a fresh
//! generator.

use tch::Tensor;

use super::torch_rng::TorchGenerator;

/// The stream of one run of a script.
#[derive(Clone, Debug)]
pub struct ReleasedStream {
    labels: Vec<i64>,
    batch: usize,
    tokens: i64,
    channels: i64,
    /// As it stands after the labels.
    start: TorchGenerator,
    generator: TorchGenerator,
    /// The batch whose noise comes next.
    next: usize,
}

impl ReleasedStream {
    /// The stream of `pictures` pictures of `classes` classes in batches of `batch`, with noise
    /// `[B, tokens, channels]`.
    pub fn new(
        seed: u64,
        pictures: usize,
        classes: u64,
        batch: usize,
        tokens: i64,
        channels: i64,
    ) -> Self {
        let mut start = TorchGenerator::new(seed);
        let labels = start.integers(classes, pictures);
        Self {
            labels,
            batch: batch.max(1),
            tokens,
            channels,
            generator: start.clone(),
            start,
            next: 0,
        }
    }

    /// Class of each picture.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// Pictures in a batch, the last of which may be smaller.
    fn pictures_of(&self, batch: usize) -> usize {
        self.labels.len().saturating_sub(batch * self.batch).min(self.batch)
    }

    /// Noise of a batch, f32 `[B, tokens, channels]` on the CPU. Going on to the next batch costs
    /// nothing more, going on to a later one little, and going back begins anew.
    pub fn noise(&mut self, batch: usize) -> Tensor {
        let each = (self.tokens * self.channels) as usize;
        if batch < self.next {
            self.generator = self.start.clone();
            self.next = 0;
        }
        while self.next < batch {
            let passed = self.pictures_of(self.next) * each;
            self.generator.skip_normal(passed);
            self.next += 1;
        }
        let pictures = self.pictures_of(batch);
        let numbers = self.generator.normal(pictures * each);
        self.next = batch + 1;
        Tensor::from_slice(&numbers).reshape([pictures as i64, self.tokens, self.channels])
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn the_script_s_labels_and_batches_are_met_in_any_order() {
        let bytes = include_bytes!("../../tests/data/evaluation.safetensors");
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut stream = ReleasedStream::new(0, 5, 1000, 2, 30, 8);
        let labels = file.tensor("rng.seed0.n5.labels").unwrap();
        let expected = Tensor::from_data_size(labels.data(), &[5], Kind::Int64);
        assert_eq!(Tensor::from_slice(stream.labels()), expected);
        for batch in [0, 1, 2, 1, 0, 2] {
            let noise = file.tensor(&format!("rng.seed0.n5.bs2.noise{batch}")).unwrap();
            let shape: Vec<i64> = noise.shape().iter().map(|&n| n as i64).collect();
            let expected = Tensor::from_data_size(noise.data(), &shape, Kind::Float);
            assert_eq!(stream.noise(batch), expected, "batch {batch}");
        }
    }
}
