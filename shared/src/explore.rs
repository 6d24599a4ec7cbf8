//! Requests that go on from pictures at hand, or lie between pictures.
//!
//! Every outcome is still a function of its request: a parent is named by its result, and the
//! server writes that result's own request into the child's, so that a child can be drawn again
//! without asking what became of its parents. The definitions are in `docs/method.md` under
//! "Explore".

use serde::{Deserialize, Serialize};
use var_dd_plan::{Pass, PassKind};

use crate::{GenerateRequest, JobId};

/// Most corners of a blend.
pub const MAX_CORNERS: usize = 4;

/// Most generations of parents behind a result.
pub const MAX_LINEAGE: u32 = 16;

/// Largest side of a mask.
pub const MAX_MASK_SIDE: u32 = 64;

/// Largest gain of a scale.
pub const MAX_GAIN: f64 = 2.0;

/// What a request asks for beyond a picture of one class by one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Explore {
    /// Other seeds from some scales on, by increasing scale. Scales before the first one are those
    /// of the request's own seed, or of the blend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<SeedRange>,
    /// Two to four corners that the picture lies between, in place of the request's class and seed;
    /// the weights sum to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blend: Vec<Corner>,
    /// A picture at hand to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// A gain from 0 (mute) to 2 for what each scale adds to the picture; all 1 if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gains: Vec<f64>,
}

/// Another seed from a scale on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SeedRange {
    /// First scale, from 0, whose noise and draws come from the seed.
    pub first_scale: u32,
    /// The seed, at most [`crate::MAX_SEED`].
    pub seed: u64,
}

/// One corner of a blend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Corner {
    /// Class number.
    pub class: u32,
    /// The seed, at most [`crate::MAX_SEED`].
    pub seed: u64,
    /// How near the picture is to this corner, 0 to 1.
    pub weight: f64,
}

/// What becomes of a picture at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// It is shown scale by scale, as for the gains of a desk. No network runs but the decoder.
    Picture {
        /// The picture.
        parent: Parent,
    },
    /// Scales before `from_scale` stay as codewords; one student step draws the others from the
    /// request's class and seed.
    Reroll {
        /// The picture.
        parent: Parent,
        /// First scale, from 0, that is drawn anew.
        from_scale: u32,
    },
    /// Scales before `from_scale` of one picture, the others of another.
    Crossover {
        /// The coarse scales.
        parent: Parent,
        /// The fine scales.
        other: Parent,
        /// First scale, from 0, of the other.
        from_scale: u32,
    },
    /// Tokens inside a mask are drawn anew, those outside stay as codewords: by the teacher if the
    /// plan has one, else by the student (an experiment).
    Edit {
        /// The picture.
        parent: Parent,
        /// A square of `0` and `1`, row by row; `1` is drawn anew. Side 1 to 64. A token is drawn
        /// if the mask covers at least half of its place.
        mask: String,
    },
}

/// A picture at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum Parent {
    /// A picture of a result of this server.
    Result {
        /// The result.
        result: JobId,
        /// Index of the picture, from 0.
        #[serde(default)]
        picture: u32,
        /// What drew it. The server fills it in; what a client writes here is not looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(no_recursion))]
        request: Option<Box<GenerateRequest>>,
    },
    /// The codewords of all tokens, scale by scale and row by row, as `POST /api/encode` gives them
    /// for a picture of one's own.
    Codes {
        /// Numbers of the codewords.
        codes: Vec<u32>,
    },
}

impl Origin {
    /// The pictures at hand, each with its field in the request.
    pub fn parents(&self) -> Vec<(&'static str, &Parent)> {
        match self {
            Origin::Picture { parent }
            | Origin::Reroll { parent, .. }
            | Origin::Edit { parent, .. } => vec![("explore.from.parent", parent)],
            Origin::Crossover { parent, other, .. } => {
                vec![("explore.from.parent", parent), ("explore.from.other", other)]
            }
        }
    }

    /// As [`Origin::parents`], to fill in.
    pub fn parents_mut(&mut self) -> Vec<(&'static str, &mut Parent)> {
        match self {
            Origin::Picture { parent }
            | Origin::Reroll { parent, .. }
            | Origin::Edit { parent, .. } => vec![("explore.from.parent", parent)],
            Origin::Crossover { parent, other, .. } => {
                vec![("explore.from.parent", parent), ("explore.from.other", other)]
            }
        }
    }
}

impl GenerateRequest {
    /// The passes of this request on a model with `scales` scales, in order: those of its plan, or
    /// of what is done to a picture at hand.
    pub fn passes(&self, scales: u32) -> Vec<Pass> {
        let Some(explore) = &self.explore else { return self.plan.passes(scales) };
        if !explore.gains.is_empty() {
            return Pass::shown(scales);
        }
        match &explore.from {
            None => self.plan.passes(scales),
            Some(Origin::Picture { .. } | Origin::Crossover { .. }) => Pass::shown(scales),
            Some(Origin::Reroll { from_scale, .. }) => Pass::rerolled(*from_scale, scales),
            Some(Origin::Edit { .. }) if self.plan.needs_teacher() => {
                Pass::edited(PassKind::Teacher, scales)
            }
            Some(Origin::Edit { .. }) => Pass::edited(PassKind::Student, scales),
        }
    }

    /// What is done with the picture at hand, in words that follow "drawn by"; nothing if the plan
    /// draws all there is. `sides` are those of the scales' token maps.
    pub fn done_with_picture(&self, sides: &[u32]) -> Option<String> {
        let explore = self.explore.as_ref()?;
        let at = |scale: u32| match sides.get(scale as usize) {
            Some(side) => format!("{side}×{side}"),
            None => "the end".to_owned(),
        };
        Some(match &explore.from {
            Some(Origin::Crossover { from_scale, .. }) => {
                format!("crossing two pictures at {}", at(*from_scale))
            }
            _ if !explore.gains.is_empty() => "weighing the scales of a picture".into(),
            Some(Origin::Picture { .. }) => "taking a picture apart into scales".into(),
            Some(Origin::Reroll { from_scale: 0, .. }) => "1 student step".into(),
            Some(Origin::Reroll { from_scale, .. }) => {
                format!("1 student step from {} on", at(*from_scale))
            }
            Some(Origin::Edit { .. }) if self.plan.needs_teacher() => {
                "the teacher in a part".into()
            }
            Some(Origin::Edit { .. }) => "1 student step in a part".into(),
            None => return None,
        })
    }

    /// Whether a teacher is needed to draw this; what its parents need is not counted.
    pub fn needs_teacher(&self) -> bool {
        let from = self.explore.as_ref().and_then(|explore| explore.from.as_ref());
        match from {
            None | Some(Origin::Edit { .. }) => self.plan.needs_teacher(),
            Some(_) => false,
        }
    }

    /// Whether a picture of somebody's own is among its ancestors. Such a result is in no list:
    /// only who has its link sees it.
    pub fn is_private(&self) -> bool {
        let from = self.explore.as_ref().and_then(|explore| explore.from.as_ref());
        let parents = from.map(Origin::parents).unwrap_or_default();
        parents.into_iter().any(|(_, parent)| match parent {
            Parent::Codes { .. } => true,
            Parent::Result { request, .. } => {
                request.as_ref().is_some_and(|request| request.is_private())
            }
        })
    }

    /// Generations of parents that the server has filled in.
    pub fn lineage(&self) -> u32 {
        let from = self.explore.as_ref().and_then(|explore| explore.from.as_ref());
        let parents = from.map(Origin::parents).unwrap_or_default();
        let of = |(_, parent): (_, &Parent)| match parent {
            Parent::Result { request: Some(request), .. } => 1 + request.lineage(),
            Parent::Result { .. } => 1,
            Parent::Codes { .. } => 0,
        };
        parents.into_iter().map(of).max().unwrap_or(0)
    }
}

/// Every token of one picture: body of `GET /api/results/{id}/tokens`. Computed anew, never kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenReport {
    /// Index of the picture in its result.
    pub picture: u32,
    /// Codewords of the model.
    pub vocabulary: u32,
    /// By scale.
    pub scales: Vec<ScaleTokens>,
}

/// The tokens of one scale, row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScaleTokens {
    /// Side of the map.
    pub side: u32,
    /// Number of the codeword nearest to each token.
    pub codes: Vec<u32>,
    /// Euclidean distance of each token to it: 0 for one that is a codeword, more for a regressed
    /// vector.
    pub distances: Vec<f32>,
    /// The law that each token was drawn by; absent where no network drew the scale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laws: Vec<TokenLaw>,
}

/// The law of one token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenLaw {
    /// In bits: 0 for a certain token, the logarithm of the vocabulary for one about which nothing
    /// is known.
    pub entropy_bits: f32,
    /// The five most probable codewords, the best first.
    pub top: Vec<CodewordChance>,
}

/// A codeword and its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CodewordChance {
    /// Its number.
    pub code: u32,
    /// Its probability.
    pub probability: f32,
}

/// A picture of one's own as tokens: body of the answer to `POST /api/encode`. Nothing of it is
/// kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenizedPicture {
    /// The model whose tokens these are.
    pub model: String,
    /// Numbers of the codewords of all tokens, scale by scale and row by row: a
    /// [`Parent::Codes`].
    pub codes: Vec<u32>,
    /// The picture up to each scale, as `data:` addresses.
    pub frames: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    fn request(explore: Explore) -> GenerateRequest {
        GenerateRequest {
            explore: Some(Box::new(explore)),
            ..GenerateRequest::new(3, Plan::few_step(&[0, 2], 2))
        }
    }

    fn parent(request: Option<GenerateRequest>) -> Parent {
        Parent::Result { result: JobId::from_bits(7), picture: 1, request: request.map(Box::new) }
    }

    fn from(origin: Origin) -> Explore {
        Explore { from: Some(origin), ..Explore::default() }
    }

    #[test]
    fn every_request_survives_the_wire_and_says_only_what_it_means() {
        let reroll = Origin::Reroll { parent: parent(None), from_scale: 2 };
        let corner = |class, weight| Corner { class, seed: 5, weight };
        for explore in [
            Explore::default(),
            Explore { seeds: vec![SeedRange { first_scale: 2, seed: 9 }], ..Explore::default() },
            Explore { blend: vec![corner(1, 0.25), corner(2, 0.75)], ..Explore::default() },
            Explore { gains: vec![1.0, 0.0, 2.0], ..from(reroll.clone()) },
            from(Origin::Edit { parent: parent(None), mask: "0110".into() }),
            from(Origin::Crossover {
                parent: parent(Some(request(from(reroll)))),
                other: Parent::Codes { codes: vec![1, 2, 3] },
                from_scale: 1,
            }),
        ] {
            let wanted = request(explore);
            let text = serde_json::to_string(&wanted).unwrap();
            assert_eq!(serde_json::from_str::<GenerateRequest>(&text).unwrap(), wanted, "{text}");
            assert!(!text.contains("null"), "{text}");
        }
        let plain = GenerateRequest::new(3, Plan::few_step(&[0], 2));
        assert!(!serde_json::to_string(&plain).unwrap().contains("explore"));
    }

    #[test]
    fn numbers_that_are_none_and_unknown_fields_are_refused() {
        for text in [
            r#"{"gains":[NaN]}"#,
            r#"{"gains":[null]}"#,
            r#"{"gains":[1e999]}"#,
            r#"{"gain":[1]}"#,
            r#"{"from":{"kind":"reroll","parent":{"of":"result","result":"x"},"from_scale":1}}"#,
            r#"{"from":{"kind":"edit","parent":{"of":"codes","codes":[-1]},"mask":"1"}}"#,
        ] {
            assert!(serde_json::from_str::<Explore>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn passes_are_those_of_what_is_done() {
        use PassKind::*;
        let kinds = |explore| -> Vec<(PassKind, u32, u32)> {
            let passes = request(explore).passes(4);
            passes.iter().map(|pass| (pass.kind, pass.first_scale, pass.end_scale)).collect()
        };
        let shown = [(Kept, 0, 4)];
        assert_eq!(kinds(Explore::default()), [(Student, 0, 4), (Student, 2, 4)]);
        assert_eq!(kinds(Explore { gains: vec![1.0; 4], ..Explore::default() }), shown);
        assert_eq!(kinds(from(Origin::Picture { parent: parent(None) })), shown);
        let reroll = |from_scale| from(Origin::Reroll { parent: parent(None), from_scale });
        assert_eq!(kinds(reroll(3)), [(Kept, 0, 3), (Student, 3, 4)]);
        assert_eq!(kinds(reroll(0)), [(Student, 0, 4)]);
        let edit = from(Origin::Edit { parent: parent(None), mask: "1".into() });
        assert_eq!(kinds(edit).len(), 4);
    }

    #[test]
    fn what_was_done_with_a_picture_is_told_in_place_of_its_plan() {
        let told = |explore| request(explore).done_with_picture(&[1, 2, 3, 4]);
        assert_eq!(told(Explore::default()), None);
        let reroll = |from_scale| from(Origin::Reroll { parent: parent(None), from_scale });
        assert_eq!(told(reroll(3)).as_deref(), Some("1 student step from 4×4 on"));
        assert_eq!(told(reroll(0)).as_deref(), Some("1 student step"));
        let edit = from(Origin::Edit { parent: parent(None), mask: "1".into() });
        assert_eq!(told(edit).as_deref(), Some("1 student step in a part"));
        let (one, other) = (parent(None), parent(None));
        let crossed = from(Origin::Crossover { parent: one, other, from_scale: 2 });
        assert_eq!(told(crossed).as_deref(), Some("crossing two pictures at 3×3"));
        let weighed = from(Origin::Picture { parent: parent(None) });
        let weighed = Explore { gains: vec![1.0; 4], ..weighed };
        assert_eq!(told(weighed).as_deref(), Some("weighing the scales of a picture"));
    }

    #[test]
    fn lineage_counts_generations() {
        let reroll = |parent| request(from(Origin::Reroll { parent, from_scale: 1 }));
        assert_eq!(request(Explore::default()).lineage(), 0);
        assert_eq!(reroll(Parent::Codes { codes: Vec::new() }).lineage(), 0);
        assert_eq!(reroll(parent(None)).lineage(), 1);
        let child = reroll(parent(Some(request(Explore::default()))));
        assert_eq!((child.lineage(), reroll(parent(Some(child))).lineage()), (1, 2));
    }

    #[test]
    fn what_descends_from_a_picture_of_one_s_own_is_private() {
        let shown = |parent| request(from(Origin::Picture { parent }));
        assert!(!shown(parent(Some(request(Explore::default())))).is_private());
        let own = shown(Parent::Codes { codes: vec![1] });
        assert!(own.is_private() && shown(parent(Some(own))).is_private());
    }
}
