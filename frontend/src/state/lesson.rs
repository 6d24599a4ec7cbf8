//! How the method works, in eight steps: what each says, and what its figure asks the server for.

use var_dd_protocol::{Corner, Explore, GenerateRequest, Guidance, ModelInfo, Plan, TokenLaw};

/// One idea and its figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lesson {
    Pyramid,
    Prefix,
    NextScale,
    Flow,
    Function,
    OneStep,
    Teacher,
    Distance,
}

/// What a lesson says.
pub(crate) struct Words {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    /// What the slider moves.
    pub(crate) slider: &'static str,
    /// Formulae, one fold deeper.
    pub(crate) formulae: &'static str,
    /// Their place in the text on the method.
    pub(crate) anchor: &'static str,
}

impl Lesson {
    pub(crate) const ALL: [Self; 8] = [
        Self::Pyramid,
        Self::Prefix,
        Self::NextScale,
        Self::Flow,
        Self::Function,
        Self::OneStep,
        Self::Teacher,
        Self::Distance,
    ];

    /// The lesson of a number in an address, from 1.
    pub(crate) fn of_number(text: &str) -> Option<Self> {
        Self::ALL.get(text.parse::<usize>().ok()?.checked_sub(1)?).copied()
    }

    /// Its number, from 1.
    pub(crate) fn number(self) -> usize {
        1 + Self::ALL.iter().position(|&other| other == self).unwrap_or(0)
    }

    pub(crate) fn words(self) -> Words {
        match self {
            Self::Pyramid => Words {
                title: "A picture is a pyramid of tokens",
                text: "A tokenizer turns a picture into square maps of tokens, coarse to fine. \
                    Each token is one of a few hundred or thousand codewords, like a letter of an \
                    alphabet. Here every colour stands for one codeword.",
                slider: "Scale",
                formulae: "Maps of sides p₁ < p₂ < … < p_S; N = Σ pₖ² tokens.\n\
                    A token is the nearest codeword: q(x) = argmin_c ‖x − c‖².",
                anchor: "1-pictures-and-tokens",
            },
            Self::Prefix => Words {
                title: "Every beginning is a whole picture",
                text: "Each map adds detail to a sum, and a decoder makes a picture of the sum. \
                    So the first few maps already decode to the whole picture, only blurred. That \
                    is what comes into focus on the playground.",
                slider: "Scales that are added up",
                formulae: "f̂ ← f̂ + φₖ(up(hₖ)), scale by scale, from f̂ = 0.\n\
                    φ(h) = ½·h + ½·conv3×3(h); the picture is decoder(f̂).",
                anchor: "1-pictures-and-tokens",
            },
            Self::NextScale => Words {
                title: "Scale after scale, not token after token",
                text: "VAR, the teacher, draws all tokens of a map in one pass of its network, \
                    knowing the maps before. For each place it says how likely each codeword is, \
                    and draws one. Coarse maps settle what the picture shows; the choice there \
                    is the hardest.",
                slider: "Scale that is drawn",
                formulae: "p(r₁, …, r_S) = Π p(rₖ | r₁, …, rₖ₋₁): S passes instead of N.\n\
                    Uncertainty of a token, in bits: −Σ p log₂ p.",
                anchor: "2-the-teacher-var",
            },
            Self::Flow => Words {
                title: "From noise to a token, without chance",
                text: "Drawing by chance can be turned into a path without any: start at a point \
                    of random noise and flow along a field that the probabilities determine. Each \
                    point ends at one codeword, and as many points end there as it is probable.",
                slider: "Time, from noise to tokens",
                formulae: "dx/dt = (x − x̂)/t from t = 1 (noise) to 0, with x̂ = Σ wⱼ cⱼ and\n\
                    wⱼ ∝ pⱼ · exp(((1−t)·⟨x, cⱼ⟩ − (1−t)²·|cⱼ|²/2) / t²).",
                anchor: "3-the-map-that-is-distilled",
            },
            Self::Function => Words {
                title: "A whole picture is a function of its noise",
                text: "Token by token, scale by scale, the noise so determines everything: the \
                    same noise is the same picture. Noise in between makes pictures in between. \
                    The left end is one seed, the right end another.",
                slider: "From one seed to the other",
                formulae: "Noise between a and b at angle θ:\n\
                    (sin((1−w)θ)·a + sin(wθ)·b) / sin θ, lengths likewise in between.",
                anchor: "9-explore",
            },
            Self::OneStep => Words {
                title: "Learn the whole way as one step",
                text: "If the way is a function, a network can learn its end directly. The \
                    student, distilled from the teacher, jumps from the noise of all maps to all \
                    their tokens in one pass. A second step from a later map on repairs what the \
                    jump got wrong.",
                slider: "Plan",
                formulae: "One step at t: the first K(t) tokens are kept, the original noise \
                    follows, and one pass gives all tokens from scale t on.",
                anchor: "4-the-student-distilled-decoding",
            },
            Self::Teacher => Words {
                title: "Let the teacher draw a part",
                text: "Student and teacher can share the work. The student drafts, the teacher \
                    draws some maps over the draft, one pass each, and the student finishes. The \
                    earlier the teacher begins, the longer it takes and the more of the picture \
                    is the teacher’s own.",
                slider: "The teacher begins at",
                formulae: "Steps a, b with teacher start s: a student step at a; the teacher \
                    draws scales s … b−1; a student step at b.\n\
                    Guidance: (1+u)·conditional − u·unconditional, u = cfg·k/(S−1).",
                anchor: "5-both-together-teacher-involved-plans",
            },
            Self::Distance => Words {
                title: "How good is that? The Fréchet distance",
                text: "FID compares many drawn pictures with many real ones: a network turns each \
                    into numbers, both crowds of numbers are taken for bell curves, and FID is \
                    the distance of the two, 0 where they are the same. The table has what the \
                    paper measured on ImageNet, with 50,000 pictures each.",
                slider: "How far the drawn pictures are off",
                formulae: "d² = |μₐ − μ_b|² + tr(Σₐ + Σ_b − 2·(Σₐ Σ_b)^½);\n\
                    for two bell curves over a line, (μₐ − μ_b)² + (σₐ − σ_b)².",
                anchor: "8-scores",
            },
        }
    }

    /// How many places the slider has.
    pub(crate) fn places(self, model: &ModelInfo) -> usize {
        let scales = model.scales() as usize;
        match self {
            Self::Pyramid | Self::Prefix | Self::NextScale => scales,
            Self::Flow => FLOW_STEPS + 1,
            Self::Function => 21,
            Self::OneStep => model.plans.len().max(1),
            Self::Teacher => teacher_plan(model).map_or(1, |(_, end, _)| end as usize + 1),
            Self::Distance => 41,
        }
    }

    /// Where the slider is in the beginning.
    pub(crate) fn begin(self, model: &ModelInfo) -> usize {
        let last = self.places(model) - 1;
        match self {
            Self::Pyramid | Self::Prefix | Self::NextScale => last / 2,
            Self::Flow | Self::OneStep => 0,
            Self::Function | Self::Teacher => last / 2,
            Self::Distance => 12,
        }
    }

    /// The picture that the figure shows with its slider at a place, if it shows one that is drawn
    /// for it.
    pub(crate) fn request(
        self,
        at: usize,
        model: &ModelInfo,
        class: u32,
        seed: u64,
    ) -> Option<GenerateRequest> {
        let (plan, explore) = match self {
            Self::Pyramid | Self::NextScale | Self::Flow | Self::Distance => return None,
            Self::Prefix => {
                let gains = (0..model.scales() as usize).map(|scale| f64::from(scale <= at));
                let explore = Explore { gains: gains.collect(), ..Explore::default() };
                (model.plans.first()?.plan.clone(), Some(explore))
            }
            Self::Function => {
                let weight = at as f64 / (self.places(model) - 1) as f64;
                let corner = |seed, weight| Corner { class, seed, weight };
                let blend = vec![corner(seed, 1.0 - weight), corner(seed + 1, weight)];
                let explore = Explore { blend, ..Explore::default() };
                (model.plans.first()?.plan.clone(), Some(explore))
            }
            Self::OneStep => (model.plans.get(at)?.plan.clone(), None),
            Self::Teacher => {
                let (plan, end, guidance) = teacher_plan(model)?;
                let teacher_start = (at as u32).min(end);
                let Plan::TeacherInvolved { t_list, loss_split_t, causal_prefix, .. } = plan else {
                    return None;
                };
                let start = teacher_start.min(model.scales() - 1);
                let plan = Plan::TeacherInvolved {
                    t_list,
                    loss_split_t,
                    teacher_start: start,
                    guidance,
                    causal_prefix,
                };
                (plan, None)
            }
        };
        let model = Some(model.name.clone());
        let request = GenerateRequest::new(class, plan);
        Some(GenerateRequest { model, seed: Some(seed), explore: explore.map(Box::new), ..request })
    }
}

/// A plan of both networks, the scale at which the student takes over, and the law of the teacher;
/// nothing if the model has no teacher.
pub(crate) fn teacher_plan(model: &ModelInfo) -> Option<(Plan, u32, Guidance)> {
    model.plans.iter().filter(|_| model.has_teacher).find_map(|preset| match &preset.plan {
        plan @ Plan::TeacherInvolved { t_list, guidance, .. } => {
            Some((plan.clone(), t_list[1], *guidance))
        }
        _ => None,
    })
}

/// Steps of the flow.
pub(crate) const FLOW_STEPS: usize = 40;

/// Points that flow.
const POINTS: usize = 60;

/// Codewords in a plane, and points on their way from noise to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flow {
    /// Place and probability of each codeword.
    pub(crate) codewords: Vec<([f64; 2], f64)>,
    /// The places of each point, from noise to its codeword.
    pub(crate) paths: Vec<Vec<[f64; 2]>>,
}

impl Flow {
    /// The flow of a token's law: of its most probable codewords, which together stand for all.
    pub(crate) fn of(law: Option<&TokenLaw>) -> Self {
        let chances: Vec<f64> = match law {
            Some(law) if law.top.len() > 1 => {
                law.top.iter().map(|of| f64::from(of.probability).max(0.0)).collect()
            }
            _ => vec![0.4, 0.25, 0.15, 0.12, 0.08],
        };
        let sum: f64 = chances.iter().sum();
        let count = chances.len() as f64;
        let codewords: Vec<([f64; 2], f64)> = chances
            .iter()
            .enumerate()
            .map(|(at, chance)| {
                let angle = std::f64::consts::TAU * (at as f64 / count - 0.25);
                ([2.0 * angle.cos(), 2.0 * angle.sin()], chance / sum.max(f64::MIN_POSITIVE))
            })
            .collect();
        let paths = (0..POINTS).map(|point| path(noise(point), &codewords)).collect();
        Self { codewords, paths }
    }

    /// How many points end at each codeword.
    pub(crate) fn ends(&self) -> Vec<usize> {
        let mut ends = vec![0; self.codewords.len()];
        for path in &self.paths {
            if let Some(end) = path.last() {
                ends[self.nearest(*end)] += 1;
            }
        }
        ends
    }

    /// The codeword nearest to a place.
    pub(crate) fn nearest(&self, place: [f64; 2]) -> usize {
        let distance = |at: [f64; 2]| (at[0] - place[0]).powi(2) + (at[1] - place[1]).powi(2);
        let near = self.codewords.iter().enumerate();
        let near = near.min_by(|(_, (a, _)), (_, (b, _))| distance(*a).total_cmp(&distance(*b)));
        near.map_or(0, |(at, _)| at)
    }
}

/// Noise of a point: evenly spread over the normal distribution, so that few points show its shape.
fn noise(point: usize) -> [f64; 2] {
    // Radius by the quantile, angle by the golden section.
    let part = (point as f64 + 0.5) / POINTS as f64;
    let radius = (-2.0 * (1.0 - part).ln()).sqrt();
    let angle = point as f64 * 2.399_963_229_728_653;
    [radius * angle.cos(), radius * angle.sin()]
}

/// The places of a point from `t = 1` to 0, by steps that are exact where `x̂` stands still.
fn path(noise: [f64; 2], codewords: &[([f64; 2], f64)]) -> Vec<[f64; 2]> {
    /// Steps within one that is shown.
    const WITHIN: usize = 8;
    let mut at = noise;
    let mut places = vec![at];
    let steps = FLOW_STEPS * WITHIN;
    for step in 0..steps {
        let t = 1.0 - step as f64 / steps as f64;
        let s = 1.0 - (step + 1) as f64 / steps as f64;
        let end = expected(at, t, codewords);
        at = [0, 1].map(|axis| s / t * at[axis] + (1.0 - s / t) * end[axis]);
        if (step + 1) % WITHIN == 0 {
            places.push(at);
        }
    }
    places
}

/// The mean of the codewords at which a point may end, `x̂`.
fn expected(x: [f64; 2], t: f64, codewords: &[([f64; 2], f64)]) -> [f64; 2] {
    let logits: Vec<f64> = codewords
        .iter()
        .map(|(c, p)| {
            let product = x[0] * c[0] + x[1] * c[1];
            let square = c[0] * c[0] + c[1] * c[1];
            p.ln() + ((1.0 - t) * product - (1.0 - t).powi(2) * square / 2.0) / (t * t)
        })
        .collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    [0, 1]
        .map(|axis| weights.iter().zip(codewords).map(|(w, (c, _))| w * c[axis]).sum::<f64>() / sum)
}

/// The squared Fréchet distance of two bell curves over a line, each by mean and deviation.
pub(crate) fn frechet(one: (f64, f64), other: (f64, f64)) -> f64 {
    (one.0 - other.0).powi(2) + (one.1 - other.1).powi(2)
}

/// What the paper measured: model, and FID with 1 and 2 steps of the student, with 3, 4 and 6 steps
/// where the teacher helps, and of the teacher alone.
pub(crate) const MEASURED: [(&str, [Option<f64>; 6]); 3] = [
    ("d16", [Some(9.94), Some(7.82), Some(6.54), Some(5.47), Some(5.03), Some(4.19)]),
    ("d20", [Some(9.55), Some(7.33), None, None, None, Some(3.35)]),
    ("d24", [Some(8.92), Some(6.95), None, None, None, Some(2.51)]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::settings::tests::model;

    #[test]
    fn as_many_points_end_at_a_codeword_as_it_is_probable() {
        let flow = Flow::of(None);
        let ends = flow.ends();
        assert_eq!(ends.iter().sum::<usize>(), POINTS);
        for ((_, chance), ends) in flow.codewords.iter().zip(ends) {
            let part = ends as f64 / POINTS as f64;
            assert!((part - chance).abs() < 0.08, "{part} for {chance}");
        }
        for path in &flow.paths {
            assert_eq!(path.len(), FLOW_STEPS + 1);
            let end = *path.last().unwrap();
            let codeword = flow.codewords[flow.nearest(end)].0;
            let off = (codeword[0] - end[0]).hypot(codeword[1] - end[1]);
            assert!(off < 1e-6, "a point ends {off} away from its codeword");
        }
    }

    #[test]
    fn a_certain_token_has_all_points() {
        use var_dd_protocol::CodewordChance;
        let chance = |code, probability| CodewordChance { code, probability };
        let law = TokenLaw { entropy_bits: 0.0, top: vec![chance(1, 1.0), chance(2, 0.0)] };
        assert_eq!(Flow::of(Some(&law)).ends(), [POINTS, 0]);
    }

    #[test]
    fn every_figure_asks_for_what_the_model_can_do_wherever_its_slider_is() {
        let mut with_teacher = model("a", 3);
        with_teacher.plans.push(var_dd_protocol::PlanPreset::new(
            "with teacher",
            Plan::TeacherInvolved {
                t_list: [0, 3],
                loss_split_t: 3,
                teacher_start: 1,
                guidance: Guidance { cfg: 1.5, top_k: 0, top_p: 0.0 },
                causal_prefix: false,
            },
        ));
        let without = ModelInfo { has_teacher: false, ..model("b", 3) };
        for model in [with_teacher, without] {
            for lesson in Lesson::ALL {
                assert!(lesson.begin(&model) < lesson.places(&model), "{lesson:?}");
                for at in 0..lesson.places(&model) {
                    let Some(request) = lesson.request(at, &model, 1, 5) else { continue };
                    let valid = request.plan.validate(model.scales());
                    assert_eq!(valid, Ok(()), "{lesson:?} at {at}");
                    assert!(model.has_teacher || !request.plan.needs_teacher());
                }
            }
        }
    }

    #[test]
    fn lessons_are_counted_from_one() {
        for (at, lesson) in Lesson::ALL.into_iter().enumerate() {
            assert_eq!(lesson.number(), at + 1);
            assert_eq!(Lesson::of_number(&lesson.number().to_string()), Some(lesson));
        }
        for text in ["0", "9", "", "-1", "x"] {
            assert_eq!(Lesson::of_number(text), None);
        }
    }

    #[test]
    fn equal_bells_have_no_distance() {
        assert_eq!(frechet((1.0, 2.0), (1.0, 2.0)), 0.0);
        assert_eq!(frechet((0.0, 1.0), (3.0, 5.0)), 25.0);
    }
}
