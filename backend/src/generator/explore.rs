//! Requests that explore, as courses of the engine: parents are drawn again, or found among the
//! tokens of late.

use std::ops::ControlFlow;

use image::RgbImage;
use tch::{Kind, Tensor};
use var_dd_engine::sample::{
    Batch, Frames, SampleError, Sampler,
    explore::{Course, Editor, Inspected, Mask, Mix, SeedRange, noise_of, seeds_by_scale},
    noise::PictureSeed,
};
use var_dd_protocol::{
    CodewordChance, Explore, GenerateRequest, Origin, Parent, Plan, ScaleTokens, TokenLaw,
    TokenReport,
};

use super::PictureRequest;

/// Pictures whose tokens are remembered, so that a desk or a re-roll need not draw its parent
/// again.
const REMEMBERED: usize = 64;

/// Why a request cannot be made a course.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExploreError {
    /// It does not fit the model, or the device failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The server did not look the parent up.
    #[error("the request of a parent is missing")]
    NoParent,
    /// The drawing ended early.
    #[error("the drawing of a parent was stopped")]
    Stopped,
}

impl From<tch::TchError> for ExploreError {
    fn from(error: tch::TchError) -> Self {
        Self::Sample(error.into())
    }
}

/// What a request goes on from.
#[derive(Debug)]
enum Start {
    Plan,
    Shown(Tensor),
    Reroll { parent: Tensor, from_scale: u32 },
    Edit { parent: Tensor, mask: Mask },
}

/// Pictures ready to be drawn.
#[derive(Debug)]
pub(crate) struct Prepared {
    plan: Plan,
    labels: Tensor,
    noise: Option<Tensor>,
    seeds: Vec<PictureSeed>,
    start: Start,
    gains: Option<Vec<f64>>,
}

impl Prepared {
    /// What to draw.
    pub(crate) fn course(&self) -> Course<'_> {
        match &self.start {
            Start::Plan => Course::Plan(&self.plan),
            Start::Shown(tokens) => Course::Shown { tokens, gains: self.gains.as_deref() },
            Start::Reroll { parent, from_scale } => Course::Reroll {
                parent,
                from_scale: *from_scale,
                loss_split_t: self.plan.loss_split_t(),
            },
            Start::Edit { parent, mask } => {
                Course::Edit { parent, mask, by: Editor::of(&self.plan) }
            }
        }
    }

    /// From what.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { labels: &self.labels, noise: self.noise.as_ref(), seeds: &self.seeds }
    }
}

/// Makes courses of requests, and remembers tokens of late.
#[derive(Debug, Default)]
pub(crate) struct Explorer {
    /// What drew them, and tokens f32 `[1, N, Cv]`; those used last are at the end.
    recent: Vec<(String, Tensor)>,
}

impl Explorer {
    /// Pictures that share plan and `explore`, ready to be drawn.
    pub(crate) fn prepare(
        &mut self,
        sampler: &Sampler,
        plan: &Plan,
        explore: &Explore,
        pictures: &[PictureRequest],
    ) -> Result<Prepared, ExploreError> {
        let config = &sampler.config;
        let ranges: Vec<SeedRange> = explore
            .seeds
            .iter()
            .map(|range| SeedRange { first_scale: range.first_scale as usize, seed: range.seed })
            .collect();
        let mix_of = |picture: &PictureRequest| {
            let corners = explore.blend.iter().map(|corner| (corner.seed, corner.weight));
            if explore.blend.is_empty() {
                Ok(Mix::alone(picture.seed))
            } else {
                Mix::new(corners.collect()).map_err(SampleError::from)
            }
        };
        let (mut noise, mut seeds) = (Vec::new(), Vec::new());
        for picture in pictures {
            let (mix, index) = (mix_of(picture)?, picture.index.into());
            noise.push(noise_of(&mix, &ranges, index, config));
            seeds.extend(seeds_by_scale(&mix, &ranges, index, config.scales()));
        }
        let mut prepared = Prepared {
            plan: plan.clone(),
            labels: labels(explore, pictures, config.num_classes),
            noise: Some(Tensor::stack(&noise, 0)),
            seeds,
            start: Start::Plan,
            gains: None,
        };
        if !explore.gains.is_empty() {
            let tokens =
                pictures.iter().map(|picture| self.tokens(sampler, plan, explore, picture));
            let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
            prepared.start = Start::Shown(Tensor::cat(&tokens, 0));
            prepared.gains = Some(explore.gains.clone());
            return Ok(prepared);
        }
        let all =
            |tokens: Tensor| tokens.expand([pictures.len() as i64, -1, -1], false).contiguous();
        prepared.start = match &explore.from {
            None => Start::Plan,
            Some(Origin::Picture { parent }) => Start::Shown(all(self.parent(sampler, parent)?)),
            Some(Origin::Reroll { parent, from_scale }) => Start::Reroll {
                parent: all(self.parent(sampler, parent)?),
                from_scale: *from_scale,
            },
            Some(Origin::Crossover { parent, other, from_scale }) => {
                let (coarse, fine) = (self.parent(sampler, parent)?, self.parent(sampler, other)?);
                let kept = config.tokens_before(*from_scale as usize);
                let rest = config.tokens() - kept;
                let crossed =
                    Tensor::cat(&[coarse.narrow(1, 0, kept), fine.narrow(1, kept, rest)], 1);
                Start::Shown(all(crossed))
            }
            Some(Origin::Edit { parent, mask }) => {
                let marks = mask.bytes().map(|mark| mark == b'1').collect();
                let mask = Mask::new(marks).map_err(SampleError::from)?;
                Start::Edit { parent: all(self.parent(sampler, parent)?), mask }
            }
        };
        Ok(prepared)
    }

    /// Tokens of a picture at hand, f32 `[1, N, Cv]`.
    fn parent(&mut self, sampler: &Sampler, parent: &Parent) -> Result<Tensor, ExploreError> {
        match parent {
            Parent::Codes { codes } => {
                let codes: Vec<i64> = codes.iter().map(|&code| code.into()).collect();
                Ok(sampler.tokens_of(&Tensor::from_slice(&codes).unsqueeze(0))?)
            }
            Parent::Result { picture, request: Some(request), .. } => {
                let explore = request.explore.clone().unwrap_or_default();
                let of = picture_of(request, *picture);
                self.tokens(sampler, &request.plan, &explore, &of)
            }
            Parent::Result { .. } => Err(ExploreError::NoParent),
        }
    }

    /// Tokens that a request draws, f32 `[1, N, Cv]`; gains do not change them.
    fn tokens(
        &mut self,
        sampler: &Sampler,
        plan: &Plan,
        explore: &Explore,
        picture: &PictureRequest,
    ) -> Result<Tensor, ExploreError> {
        let explore = Explore { gains: Vec::new(), ..explore.clone() };
        let PictureRequest { class, seed, index } = *picture;
        let key = format!("{:?}", (plan, &explore, class, seed, index));
        if let Some(at) = self.recent.iter().position(|(known, _)| *known == key) {
            let found = self.recent.remove(at);
            let tokens = found.1.shallow_clone();
            self.recent.push(found);
            return Ok(tokens);
        }
        let prepared = self.prepare(sampler, plan, &explore, std::slice::from_ref(picture))?;
        let go_on = &mut |_: var_dd_engine::sample::Event<'_>| ControlFlow::<()>::Continue(());
        let drawn = sampler.follow(&prepared.course(), &prepared.batch(), Frames::None, go_on)?;
        let tokens = drawn.ok_or(ExploreError::Stopped)?;
        if self.recent.len() >= REMEMBERED {
            drop(self.recent.remove(0));
        }
        self.recent.push((key, tokens.shallow_clone()));
        Ok(tokens)
    }

    /// Every token of one picture of a request.
    pub(crate) fn inspect(
        &mut self,
        sampler: &Sampler,
        request: &GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, ExploreError> {
        let explore = request.explore.as_deref().cloned().unwrap_or_default();
        let explore = Explore { gains: Vec::new(), ..explore };
        let of = picture_of(request, picture);
        let prepared = self.prepare(sampler, &request.plan, &explore, &[of])?;
        let seen = sampler.inspect(&prepared.course(), &prepared.batch())?;
        report(sampler, &seen, picture)
    }
}

/// What is drawn of a request at an index.
fn picture_of(request: &GenerateRequest, index: u32) -> PictureRequest {
    PictureRequest { class: request.class, seed: request.seed.unwrap_or_default(), index }
}

/// Class numbers, i64 `[B]`, or the weights of a blend, f32 `[B, classes]`.
fn labels(explore: &Explore, pictures: &[PictureRequest], classes: i64) -> Tensor {
    if explore.blend.is_empty() {
        let labels: Vec<i64> = pictures.iter().map(|picture| picture.class.into()).collect();
        return Tensor::from_slice(&labels);
    }
    let mut weights = vec![0f64; classes as usize];
    for corner in &explore.blend {
        if let Some(weight) = weights.get_mut(corner.class as usize) {
            *weight += corner.weight;
        }
    }
    let weights = Tensor::from_slice(&weights).to_kind(Kind::Float).unsqueeze(0);
    weights.expand([pictures.len() as i64, classes], false).contiguous()
}

fn report(sampler: &Sampler, seen: &Inspected, picture: u32) -> Result<TokenReport, ExploreError> {
    let config = &sampler.config;
    let codes = Vec::<i64>::try_from(seen.codes.view([-1]))?;
    let distances = Vec::<f32>::try_from(seen.distances.contiguous().view([-1]))?;
    let mut scales = Vec::with_capacity(config.scales());
    for (k, &side) in config.patch_nums.iter().enumerate() {
        let range = config.tokens_before(k) as usize..config.tokens_before(k + 1) as usize;
        let mut laws = Vec::new();
        if let Some(Some(law)) = seen.laws.get(k) {
            let entropy = Vec::<f32>::try_from(law.entropy.contiguous().view([-1]))?;
            let top = Vec::<i64>::try_from(law.top.contiguous().view([-1]))?;
            let chances = Vec::<f32>::try_from(law.probabilities.contiguous().view([-1]))?;
            let each = top.len() / entropy.len().max(1);
            let of_token = top.chunks(each.max(1)).zip(chances.chunks(each.max(1)));
            laws = entropy
                .iter()
                .zip(of_token)
                .map(|(&entropy_bits, (top, chances))| TokenLaw {
                    entropy_bits,
                    top: top
                        .iter()
                        .zip(chances)
                        .map(|(&code, &probability)| CodewordChance {
                            code: code as u32,
                            probability,
                        })
                        .collect(),
                })
                .collect();
        }
        scales.push(ScaleTokens {
            side: side as u32,
            codes: codes[range.clone()].iter().map(|&code| code as u32).collect(),
            distances: distances[range].to_vec(),
            laws,
        });
    }
    Ok(TokenReport { picture, vocabulary: config.vocabulary as u32, scales })
}

/// A picture of the model's side as the tokenizer takes it, f32 `[1, 3, side, side]` in −1…1.
pub(crate) fn as_tensor(picture: &RgbImage) -> Tensor {
    let (width, height) = picture.dimensions();
    let bytes = Tensor::from_slice(picture.as_raw());
    let bytes = bytes.view([1, height.into(), width.into(), 3]).permute([0, 3, 1, 2]);
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use var_dd_engine::ops::Ops;
    use var_dd_engine::{
        bundle::formula_sampler,
        config::{Config, TransformerConfig, VaeConfig},
    };
    use var_dd_protocol::{Corner, JobId};

    use super::*;

    /// Four scales, ten classes, weights from their names.
    fn sampler() -> Sampler {
        let vae = VaeConfig {
            channels: 32,
            channel_multipliers: vec![1, 2],
            residual_blocks: 1,
            norm_groups: 32,
        };
        let config = Config {
            name: "formula".into(),
            patch_nums: vec![1, 2, 3, 4],
            vocabulary: 64,
            latent_channels: 8,
            vae,
            transformer: TransformerConfig { depth: 1, width: 64, heads: 1 },
            num_classes: 10,
            classes: (0..10).map(|class| format!("class {class}")).collect(),
            plans: Vec::new(),
        };
        formula_sampler(&config, true, &Ops::plain(Device::Cpu), Kind::Float).unwrap()
    }

    fn request(seed: u64, explore: Option<Explore>) -> GenerateRequest {
        GenerateRequest {
            seed: Some(seed),
            explore: explore.map(Box::new),
            ..GenerateRequest::new(3, Plan::few_step(&[0], 2))
        }
    }

    fn parent(request: &GenerateRequest) -> Parent {
        let request = Some(Box::new(request.clone()));
        Parent::Result { result: JobId::from_bits(1), picture: 0, request }
    }

    fn tokens(explorer: &mut Explorer, sampler: &Sampler, request: &GenerateRequest) -> Tensor {
        let explore = request.explore.clone().unwrap_or_default();
        let of = picture_of(request, 0);
        explorer.tokens(sampler, &request.plan, &explore, &of).unwrap()
    }

    fn going_on(seed: u64, origin: Origin) -> GenerateRequest {
        request(seed, Some(Explore { from: Some(origin), ..Explore::default() }))
    }

    #[test]
    fn a_crossover_takes_scales_from_both_and_of_a_picture_with_itself_is_that_picture() {
        let (sampler, mut explorer) = (sampler(), Explorer::default());
        let (a, b) = (request(1, None), request(2, None));
        let [of_a, of_b] = [&a, &b].map(|of| tokens(&mut explorer, &sampler, of));
        for from_scale in 0..=4 {
            let crossed = |other| {
                going_on(
                    9,
                    Origin::Crossover { parent: parent(&a), other: parent(other), from_scale },
                )
            };
            assert!(tokens(&mut explorer, &sampler, &crossed(&a)).equal(&of_a));
            let mixed = tokens(&mut explorer, &sampler, &crossed(&b));
            let kept = sampler.config.tokens_before(from_scale as usize);
            assert!(mixed.narrow(1, 0, kept).equal(&of_a.narrow(1, 0, kept)));
            assert!(mixed.narrow(1, kept, 30 - kept).equal(&of_b.narrow(1, kept, 30 - kept)));
        }
    }

    #[test]
    fn a_child_is_a_function_of_its_request() {
        let sampler = sampler();
        let first = request(1, None);
        let child = going_on(2, Origin::Reroll { parent: parent(&first), from_scale: 2 });
        let grandchild =
            going_on(3, Origin::Edit { parent: parent(&child), mask: "1100".repeat(4) });
        let drawn = |explorer: &mut Explorer| tokens(explorer, &sampler, &grandchild);
        let mut explorer = Explorer::default();
        let once = drawn(&mut explorer);
        assert_eq!(explorer.recent.len(), 3, "its ancestors are remembered");
        assert!(drawn(&mut explorer).equal(&once), "from memory");
        assert!(drawn(&mut Explorer::default()).equal(&once), "anew");
    }

    #[test]
    fn gains_change_what_is_shown_and_not_what_is_gone_on_from() {
        let (sampler, mut explorer) = (sampler(), Explorer::default());
        let plain = request(1, None);
        let loud =
            request(1, Some(Explore { gains: vec![1.0, 2.0, 0.0, 1.0], ..Explore::default() }));
        let [of_plain, of_loud] = [&plain, &loud].map(|of| tokens(&mut explorer, &sampler, of));
        assert!(of_plain.equal(&of_loud));
        let explore = loud.explore.clone().unwrap();
        let ready =
            explorer.prepare(&sampler, &loud.plan, &explore, &[picture_of(&loud, 0)]).unwrap();
        assert!(matches!(ready.course(), Course::Shown { gains: Some(_), .. }));
    }

    #[test]
    fn a_corner_of_a_blend_is_that_class_and_seed() {
        let (sampler, mut explorer) = (sampler(), Explorer::default());
        let corner = |class, seed, weight| Corner { class, seed, weight };
        let blend = vec![corner(3, 1, 1.0), corner(5, 2, 0.0)];
        let at_corner = request(7, Some(Explore { blend, ..Explore::default() }));
        let plain = tokens(&mut explorer, &sampler, &request(1, None));
        assert!(tokens(&mut explorer, &sampler, &at_corner).equal(&plain));
        let middle = vec![corner(3, 1, 0.5), corner(5, 2, 0.5)];
        let between = request(7, Some(Explore { blend: middle, ..Explore::default() }));
        assert!(!tokens(&mut explorer, &sampler, &between).equal(&plain));
    }

    #[test]
    fn a_report_tells_every_token() {
        let (sampler, mut explorer) = (sampler(), Explorer::default());
        let report = explorer.inspect(&sampler, &request(1, None), 0).unwrap();
        let sizes: Vec<_> = report.scales.iter().map(|of| (of.side, of.laws.len())).collect();
        assert_eq!(sizes, [(1, 1), (2, 4), (3, 9), (4, 16)]);
        for law in report.scales.iter().flat_map(|of| &of.laws) {
            assert_eq!(law.top.len(), 5);
            assert!(law.top.is_sorted_by(|a, b| a.probability >= b.probability));
            assert!((0.0..=6.0).contains(&law.entropy_bits), "{}", law.entropy_bits);
        }
        let shown = going_on(1, Origin::Picture { parent: parent(&request(1, None)) });
        let report = explorer.inspect(&sampler, &shown, 0).unwrap();
        assert!(report.scales.iter().all(|of| of.laws.is_empty()), "no network drew these");
    }

    #[test]
    fn bytes_become_numbers_from_minus_one_to_one() {
        let picture = RgbImage::from_fn(2, 1, |x, _| image::Rgb([255 * x as u8, 0, 255]));
        let tensor = as_tensor(&picture);
        assert_eq!(tensor.size(), [1, 3, 1, 2]);
        let numbers = Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap();
        assert_eq!(numbers, [-1.0, 1.0, -1.0, -1.0, 1.0, 1.0]);
    }
}
