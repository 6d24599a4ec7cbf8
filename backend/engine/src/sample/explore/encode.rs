//! Pictures to tokens, and back.

use tch::{Device, Kind, Tensor};

use super::super::{
    sampler::{Sampler, rows_of},
    start::SampleError,
};

/// A picture as the tokenizer sees it.
#[derive(Debug)]
pub struct Encoded {
    /// Latent map before quantization, f32 `[B, Cv, p, p]`: `quant_conv(encoder(x))`.
    pub f: Tensor,
    /// Codeword numbers of all scales, i64 `[B, N]`.
    pub codes: Tensor,
    /// The sum of what the scales add, f32 `[B, Cv, p, p]`.
    pub f_hat: Tensor,
}

impl Sampler {
    /// Tokens of pictures, f32 `[B, 3, side, side]` in −1…1, as the released VQVAE's `img_to_idxBl`
    /// finds them.
    ///
    /// # Errors
    /// [`SampleError::Shape`] for pictures of another side than the model's.
    pub fn encode(&self, pictures: &Tensor) -> Result<Encoded, SampleError> {
        let side = self.config.image_size();
        let size = pictures.size();
        if size.len() != 4 || size[0] < 1 || size[1..] != [3, side, side] {
            return Err(SampleError::Shape {
                what: "pictures",
                found: size,
                expected: format!("[B, 3, {side}, {side}] with B at least 1"),
            });
        }
        let _no_grad = tch::no_grad_guard();
        let quantize = &self.vae.quantize;
        let pictures = pictures.to_device(self.device).to_kind(Kind::Float);
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for rows in self.rows_together(size[0]) {
            let f = self.vae.encode(&rows_of(&pictures, &rows));
            let codes = Tensor::cat(&quantize.encode(&f), 1);
            let f_hat = quantize.partial_sums(&quantize.lookup(&codes)).pop().unwrap_or_default();
            all.iter_mut().zip([f, codes, f_hat]).for_each(|(all, some)| all.push(some));
        }
        let [f, codes, f_hat] = all.map(|some| Tensor::cat(&some, 0));
        Ok(Encoded { f, codes, f_hat })
    }

    /// Codewords of numbers, i64 `[B, N]` to tokens f32 `[B, N, Cv]`.
    ///
    /// # Errors
    /// [`SampleError::Shape`] for another number of tokens, [`SampleError::Code`] for a number that
    /// no codeword has.
    pub fn tokens_of(&self, codes: &Tensor) -> Result<Tensor, SampleError> {
        let (tokens, vocabulary) = (self.config.tokens(), self.config.vocabulary);
        let size = codes.size();
        if size.len() != 2 || size[1] != tokens {
            return Err(SampleError::Shape {
                what: "codes",
                found: size,
                expected: format!("[B, {tokens}]"),
            });
        }
        let numbers = Vec::<i64>::try_from(codes.to_device(Device::Cpu).view([-1]))?;
        if let Some(&code) = numbers.iter().find(|code| !(0..vocabulary).contains(*code)) {
            return Err(SampleError::Code { code, vocabulary });
        }
        let _no_grad = tch::no_grad_guard();
        Ok(self.vae.quantize.lookup(&codes.to_device(self.device)))
    }
}
