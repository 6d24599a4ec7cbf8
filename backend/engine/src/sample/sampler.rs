//! The networks of a model, ready to draw.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::{
    config::Config,
    device,
    graphs::Graphs,
    net::{student::Student, teacher::Teacher, vae::Vae},
    parallel::Alone,
};

/// The networks of a model on one device, ready to draw.
#[derive(Debug)]
pub struct Sampler {
    /// Sizes and names.
    pub config: Config,
    /// The student.
    pub student: Student,
    /// The teacher, if the model carries one.
    pub teacher: Option<Teacher>,
    /// Tokens to pictures and back.
    pub vae: Vae,
    /// Where the weights are.
    pub device: Device,
    /// Weights of the student.
    pub parameters: u64,
    /// Student passes and decoding as graphs, on a GPU.
    pub graphs: Graphs,
}

impl Sampler {
    /// `f_hat` after every scale of a sequence, f32 `[B, N, Cv]`: one `[B, Cv, p, p]` a scale.
    pub fn f_hats(&self, sequence: &Tensor) -> Vec<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let sequence = sequence.to_device(self.device);
        let each: Vec<Vec<Tensor>> = self
            .rows_together(sequence.size()[0])
            .map(|rows| self.vae.quantize.partial_sums(&rows_of(&sequence, &rows)))
            .collect();
        (0..self.config.scales())
            .map(|scale| {
                Tensor::cat(&each.iter().map(|f_hats| &f_hats[scale]).collect::<Vec<_>>(), 0)
            })
            .collect()
    }

    /// Pictures of an `f_hat`, f32 `[B, Cv, p, p]`: f32 `[B, 3, side, side]` in 0…1.
    pub fn pictures(&self, f_hat: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let each: Vec<Tensor> = self
            .rows_together(f_hat.size()[0])
            .flat_map(|rows| {
                let decode = |inputs: &[Tensor]| vec![decoded(&self.vae, &inputs[0])];
                self.graphs.run("the decoder", &[&rows_of(f_hat, &rows)], decode)
            })
            .collect();
        if let [all] = &each[..] { all.shallow_clone() } else { Tensor::cat(&each, 0) }
    }

    /// Every token replaced by its nearest codeword. One that is not finite is near to none, and
    /// gives no numbers.
    pub fn quantized(&self, tokens: &Tensor) -> Tensor {
        let quantize = &self.vae.quantize;
        lost_with(&quantize.lookup(&quantize.nearest(tokens)), tokens)
    }

    /// While what this gives lives, libtorch runs on one thread here and the engine's own threads
    /// share out the work; not for large models, whose single operations want all threads.
    pub(super) fn alone(&self) -> Option<Alone> {
        let small = self.device == Device::Cpu && !device::is_large(&self.config);
        small.then(Alone::here)
    }

    /// Whether all scales of a student pass run together: a GPU wants all its work at once, and as
    /// a graph where it can.
    pub(super) fn runs_whole(&self) -> bool {
        self.device != Device::Cpu || self.graphs.wanted()
    }

    /// The rows of a batch that run together.
    pub(super) fn rows_together(&self, batch: i64) -> impl Iterator<Item = Range<i64>> + use<> {
        let step = if self.device == Device::Cpu { 1 } else { batch.max(1) };
        (0..batch).step_by(step as usize).map(move |start| start..(start + step).min(batch))
    }
}

/// Codewords, f32 `[…, Cv]`, but no numbers in place of those that were chosen by numbers of which
/// some are not finite, `[…, n]`: any choice among such gives a codeword, which would look sound.
/// They are found where results are read; nothing here waits for the device.
pub(super) fn lost_with(codewords: &Tensor, chosen_by: &Tensor) -> Tensor {
    // 0 times what is finite is 0, else no number.
    codewords + chosen_by.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float) * 0.0
}

/// Pictures in 0…1 of an `f_hat`.
pub(super) fn decoded(vae: &Vae, f_hat: &Tensor) -> Tensor {
    (vae.decode(f_hat) + 1.0) * 0.5
}

/// Some rows of a tensor, as a tensor of their own: rounding may depend on where in memory numbers
/// lie.
pub(super) fn rows_of(tensor: &Tensor, rows: &Range<i64>) -> Tensor {
    if *rows == (0..tensor.size()[0]) {
        return tensor.contiguous();
    }
    tensor.narrow(0, rows.start, rows.end - rows.start).copy()
}
