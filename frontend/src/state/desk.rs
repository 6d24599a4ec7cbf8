//! The desk: what each scale of a picture at hand adds, and another picture for the fine ones.

use var_dd_protocol::{Explore, GenerateRequest, JobId, MAX_GAIN, Origin, Parent};

/// The faders over the scales of a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desk {
    gains: Vec<f64>,
    muted: Vec<bool>,
    /// The scale that is heard alone, if one is.
    solo: Option<usize>,
    /// A result whose scales take the place of one's own from some scale on.
    other: Option<(JobId, u32)>,
}

impl Desk {
    /// Faders of so many scales, where they change nothing.
    pub(crate) fn new(scales: usize) -> Self {
        Self { gains: vec![1.0; scales], muted: vec![false; scales], solo: None, other: None }
    }

    /// What each scale adds.
    pub(crate) fn heard(&self) -> Vec<f64> {
        let silent = |at: usize| self.muted[at] || self.solo.is_some_and(|solo| solo != at);
        let gains = self.gains.iter().enumerate();
        gains.map(|(at, &gain)| if silent(at) { 0.0 } else { gain }).collect()
    }

    /// Where the fader of a scale stands.
    pub(crate) fn gain(&self, at: usize) -> f64 {
        self.gains.get(at).copied().unwrap_or(1.0)
    }

    pub(crate) fn is_muted(&self, at: usize) -> bool {
        self.muted.get(at).copied().unwrap_or(false)
    }

    pub(crate) fn is_solo(&self, at: usize) -> bool {
        self.solo == Some(at)
    }

    /// The other picture, and the first of its scales.
    pub(crate) fn other(&self) -> Option<&(JobId, u32)> {
        self.other.as_ref()
    }

    /// With a fader elsewhere; what is no number changes nothing.
    pub(crate) fn with_gain(&self, at: usize, gain: f64) -> Self {
        let mut desk = self.clone();
        if let Some(place) = desk.gains.get_mut(at).filter(|_| gain.is_finite()) {
            *place = gain.clamp(0.0, MAX_GAIN);
        }
        desk
    }

    /// With a scale muted, or heard again.
    pub(crate) fn with_other_mute(&self, at: usize) -> Self {
        let mut desk = self.clone();
        if let Some(muted) = desk.muted.get_mut(at) {
            *muted = !*muted;
        }
        desk
    }

    /// With a scale heard alone, or all again.
    pub(crate) fn with_other_solo(&self, at: usize) -> Self {
        let solo = (self.solo != Some(at)).then_some(at);
        Self { solo, ..self.clone() }
    }

    /// With another picture from a scale on, or none.
    pub(crate) fn with_picture(&self, other: Option<(JobId, u32)>) -> Self {
        Self { other, ..self.clone() }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        *self == Self::new(self.gains.len())
    }

    /// The request for what the desk makes of a picture of the result that `of` gave.
    pub(crate) fn request(
        &self,
        result: &JobId,
        of: &GenerateRequest,
        picture: usize,
    ) -> GenerateRequest {
        let parent = parent(result, picture);
        let from = match &self.other {
            Some((other, from_scale)) => {
                Origin::Crossover { parent, other: self::parent(other, 0), from_scale: *from_scale }
            }
            None => Origin::Picture { parent },
        };
        let gains = self.heard();
        let gains = if gains.iter().all(|&gain| gain == 1.0) { Vec::new() } else { gains };
        child(of, Explore { from: Some(from), gains, ..Explore::default() })
    }
}

/// The request that draws a picture of a result anew from a scale on.
pub(crate) fn reroll(
    result: &JobId,
    of: &GenerateRequest,
    picture: usize,
    from_scale: u32,
    seed: u64,
) -> GenerateRequest {
    let from = Origin::Reroll { parent: parent(result, picture), from_scale };
    let request = child(of, Explore { from: Some(from), ..Explore::default() });
    GenerateRequest { seed: Some(seed), ..request }
}

fn parent(result: &JobId, picture: usize) -> Parent {
    Parent::Result { result: result.clone(), picture: picture as u32, request: None }
}

fn child(of: &GenerateRequest, explore: Explore) -> GenerateRequest {
    GenerateRequest {
        model: of.model.clone(),
        seed: of.seed,
        explore: Some(Box::new(explore)),
        ..GenerateRequest::new(of.class, of.plan.clone())
    }
}

/// An ancestor of a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ancestor {
    pub(crate) result: JobId,
    pub(crate) picture: usize,
    /// What its child did with it.
    pub(crate) became: Became,
}

/// What became of a picture at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    /// The desk was played.
    Shown,
    /// It was drawn anew from a scale on.
    Rerolled(u32),
    /// Its scales before one were crossed with those of another picture.
    CoarseOf(u32),
    /// Its scales from one on were crossed with those of another picture.
    FineOf(u32),
    /// A part of it was drawn anew.
    Edited,
}

/// The ancestors of a request that are results, the nearest first; of two parents both, and the
/// line goes on behind the first.
pub(crate) fn ancestors(request: &GenerateRequest) -> Vec<Ancestor> {
    let mut line = Vec::new();
    let mut at = Some(request);
    while let Some(request) = at.take() {
        let Some(from) = request.explore.as_ref().and_then(|explore| explore.from.as_ref()) else {
            break;
        };
        for (which, (_, parent)) in from.parents().into_iter().enumerate() {
            let Parent::Result { result, picture, request } = parent else { continue };
            let became = match from {
                Origin::Picture { .. } => Became::Shown,
                Origin::Reroll { from_scale, .. } => Became::Rerolled(*from_scale),
                Origin::Crossover { from_scale, .. } if which == 0 => Became::CoarseOf(*from_scale),
                Origin::Crossover { from_scale, .. } => Became::FineOf(*from_scale),
                Origin::Edit { .. } => Became::Edited,
            };
            line.push(Ancestor { result: result.clone(), picture: *picture as usize, became });
            if which == 0 {
                at = request.as_deref();
            }
        }
    }
    line
}

/// How far two pictures of as many bytes (red, green, blue and a fourth that does not count) lie
/// apart: peak signal-to-noise ratio in decibels, none where they are the same.
pub(crate) fn psnr(a: &[u8], b: &[u8]) -> Option<f64> {
    let colours = a.iter().zip(b).enumerate().filter(|(at, _)| at % 4 != 3);
    let (mut sum, mut count) = (0.0, 0.0_f64);
    for (_, (&a, &b)) in colours {
        sum += (f64::from(a) - f64::from(b)).powi(2);
        count += 1.0;
    }
    (sum > 0.0).then(|| 10.0 * (255.0 * 255.0 * count / sum).log10())
}

/// A distance of [`psnr`] as people read it.
pub(crate) fn difference_in_words(psnr: Option<f64>) -> String {
    let Some(db) = psnr else { return "The same picture, pixel for pixel".to_owned() };
    let how = match db {
        db if db >= 40.0 => "hardly to be seen",
        db if db >= 30.0 => "a small difference",
        db if db >= 20.0 => "a clear difference",
        _ => "another picture",
    };
    format!("PSNR {db:.1} dB: {how}")
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::Plan;

    use super::*;

    fn id(bits: u128) -> JobId {
        JobId::from_bits(bits)
    }

    fn of() -> GenerateRequest {
        GenerateRequest {
            model: Some("m".into()),
            seed: Some(4),
            count: 3,
            ..GenerateRequest::new(2, Plan::few_step(&[0], 2))
        }
    }

    #[test]
    fn mute_and_solo_silence_and_the_faders_keep_their_places() {
        let desk = Desk::new(3).with_gain(0, 0.5).with_gain(2, 9.0).with_gain(1, f64::NAN);
        assert_eq!(desk.heard(), [0.5, 1.0, 2.0]);
        assert_eq!(desk.with_other_mute(0).heard(), [0.0, 1.0, 2.0]);
        let solo = desk.with_other_solo(2);
        assert_eq!(solo.heard(), [0.0, 0.0, 2.0]);
        assert_eq!(solo.with_other_mute(2).heard(), [0.0; 3], "muted is muted");
        assert_eq!(solo.with_other_solo(2), desk);
        assert_eq!(desk.with_other_mute(0).with_other_mute(0), desk);
        assert!(Desk::new(3).is_at_rest() && !desk.is_at_rest());
    }

    #[test]
    fn the_request_says_only_what_the_desk_changes() {
        let rest = Desk::new(2).request(&id(1), &of(), 2);
        let explore = rest.explore.unwrap();
        assert!(explore.gains.is_empty());
        let parent = Parent::Result { result: id(1), picture: 2, request: None };
        assert_eq!(explore.from, Some(Origin::Picture { parent }));
        assert_eq!((rest.count, rest.seed), (1, Some(4)));
        let played = Desk::new(2).with_gain(1, 0.0).with_picture(Some((id(5), 1)));
        let explore = played.request(&id(1), &of(), 0).explore.unwrap();
        assert_eq!(explore.gains, [1.0, 0.0]);
        assert!(matches!(explore.from, Some(Origin::Crossover { from_scale: 1, .. })));
    }

    #[test]
    fn a_family_is_told_from_the_nearest_on() {
        let first = reroll(&id(1), &of(), 1, 2, 9);
        assert_eq!(first.seed, Some(9));
        let mut second = Desk::new(3).with_picture(Some((id(8), 1))).request(&id(2), &first, 0);
        if let Some(Origin::Crossover { parent: Parent::Result { request, .. }, .. }) =
            second.explore.as_mut().and_then(|explore| explore.from.as_mut())
        {
            *request = Some(Box::new(first));
        }
        let line = ancestors(&second);
        let told: Vec<_> = line.iter().map(|of| (of.result.clone(), of.became)).collect();
        let crossed = [(id(2), Became::CoarseOf(1)), (id(8), Became::FineOf(1))];
        assert_eq!(told[..2], crossed);
        assert_eq!(told[2..], [(id(1), Became::Rerolled(2))]);
        assert!(ancestors(&of()).is_empty());
    }

    #[test]
    fn a_difference_is_measured_on_the_colours() {
        let (a, mut b) = ([10_u8; 16], [10_u8; 16]);
        b[3] = 200;
        assert_eq!(psnr(&a, &b), None);
        b[0] = 11;
        let db = psnr(&a, &b).unwrap();
        assert!((db - (10.0 * (255.0_f64 * 255.0 * 12.0).log10())).abs() < 1e-9);
        assert!(difference_in_words(Some(db)).contains("hardly"));
        assert!(difference_in_words(None).contains("same"));
    }
}
