//! What a request may go on from or lie between: checked once, field by field.

use var_dd_engine::sample::explore::{Mask, check_gains, check_weights};
use var_dd_protocol::{
    ErrorBody, ErrorCode, Explore, GenerateRequest, MAX_CORNERS, MAX_LINEAGE, MAX_MASK_SIDE,
    MAX_SEED, ModelInfo, Origin, Parent,
};

fn wrong(field: impl Into<String>, message: impl std::fmt::Display) -> ErrorBody {
    let field = field.into();
    ErrorBody::new(ErrorCode::InvalidExplore, format!("{field}: {message}")).at(field)
}

/// Checks the part of a request that explores against its model.
///
/// # Errors
/// The first field that is out of bounds, with the value and the bound.
pub(super) fn check(request: &GenerateRequest, model: &ModelInfo) -> Result<(), ErrorBody> {
    let Some(explore) = &request.explore else { return Ok(()) };
    check_seeds(explore, model)?;
    check_blend(explore, model)?;
    if !explore.gains.is_empty() {
        check_gains(&explore.gains, model.patch_nums.len())
            .map_err(|error| wrong("explore.gains", error))?;
    }
    let Some(from) = &explore.from else { return Ok(()) };
    for (field, parent) in from.parents() {
        check_parent(field, parent, model)?;
    }
    if request.lineage() > MAX_LINEAGE {
        let message = format!(
            "this would be generation {} after its first ancestor; at most {MAX_LINEAGE} are \
             followed, so begin anew from a picture of one's own or a new seed",
            request.lineage()
        );
        return Err(wrong("explore.from.parent", message));
    }
    let scales = model.scales();
    match from {
        Origin::Picture { .. } => Ok(()),
        Origin::Reroll { from_scale, .. } if *from_scale >= scales => Err(wrong(
            "explore.from.from_scale",
            format!(
                "is {from_scale}; the model has {scales} scales, so it goes from 0 to {}",
                scales - 1
            ),
        )),
        Origin::Crossover { from_scale, .. } if *from_scale > scales => Err(wrong(
            "explore.from.from_scale",
            format!(
                "is {from_scale}; the model has {scales} scales, so it goes from 0 to {scales}"
            ),
        )),
        Origin::Edit { mask, .. } => check_mask(mask, model),
        _ => Ok(()),
    }
}

fn check_seed(field: String, seed: u64) -> Result<(), ErrorBody> {
    if seed > MAX_SEED {
        return Err(wrong(field, format!("is {seed}; a seed goes from 0 to {MAX_SEED}")));
    }
    Ok(())
}

fn check_seeds(explore: &Explore, model: &ModelInfo) -> Result<(), ErrorBody> {
    let scales = model.scales();
    let mut least = 0;
    for (at, range) in explore.seeds.iter().enumerate() {
        if !(least..scales).contains(&range.first_scale) {
            let message = format!(
                "is {}; the ranges are by increasing scale, so it goes from {least} to {}",
                range.first_scale,
                scales - 1
            );
            return Err(wrong(format!("explore.seeds[{at}].first_scale"), message));
        }
        check_seed(format!("explore.seeds[{at}].seed"), range.seed)?;
        least = range.first_scale + 1;
    }
    Ok(())
}

fn check_blend(explore: &Explore, model: &ModelInfo) -> Result<(), ErrorBody> {
    let corners = &explore.blend;
    if corners.is_empty() {
        return Ok(());
    }
    if !(2..=MAX_CORNERS).contains(&corners.len()) {
        let message = format!("has {} corners; it must have 2 to {MAX_CORNERS}", corners.len());
        return Err(wrong("explore.blend", message));
    }
    for (at, corner) in corners.iter().enumerate() {
        let classes = model.classes.len();
        if corner.class as usize >= classes {
            let message = format!(
                "is {}; the model {:?} has {classes} classes, so it goes from 0 to {}",
                corner.class,
                model.name,
                classes.saturating_sub(1)
            );
            return Err(wrong(format!("explore.blend[{at}].class"), message));
        }
        check_seed(format!("explore.blend[{at}].seed"), corner.seed)?;
    }
    let weights: Vec<f64> = corners.iter().map(|corner| corner.weight).collect();
    check_weights(weights.into_iter()).map_err(|error| wrong("explore.blend", error))
}

fn check_mask(mask: &str, model: &ModelInfo) -> Result<(), ErrorBody> {
    let field = "explore.from.mask";
    if let Some(mark) = mask.chars().find(|mark| !matches!(mark, '0' | '1')) {
        return Err(wrong(field, format!("holds {mark:?}; it may hold 0 and 1 alone, row by row")));
    }
    let side = mask.len().isqrt();
    if side * side != mask.len() || !(1..=MAX_MASK_SIDE as usize).contains(&side) {
        let message = format!(
            "has {} marks; it must be a square with a side from 1 to {MAX_MASK_SIDE}, row by row",
            mask.len()
        );
        return Err(wrong(field, message));
    }
    let marks = mask.bytes().map(|mark| mark == b'1').collect();
    let patch_nums: Vec<i64> = model.patch_nums.iter().map(|&side| side.into()).collect();
    let covers = Mask::new(marks).and_then(|mask| mask.tokens(&patch_nums));
    covers.map(|_| ()).map_err(|error| wrong(field, error))
}

fn check_parent(field: &str, parent: &Parent, model: &ModelInfo) -> Result<(), ErrorBody> {
    match parent {
        Parent::Codes { codes } => {
            let tokens: u32 = model.patch_nums.iter().map(|side| side * side).sum();
            if codes.len() != tokens as usize {
                let message = format!(
                    "has {} codes; the model {:?} has {tokens} tokens, so it must be as many",
                    codes.len(),
                    model.name
                );
                return Err(wrong(format!("{field}.codes"), message));
            }
            match codes.iter().enumerate().find(|(_, code)| **code >= model.vocabulary) {
                None => Ok(()),
                Some((at, code)) => {
                    let last = model.vocabulary.saturating_sub(1);
                    let message = format!("is {code}; the codewords go from 0 to {last}");
                    Err(wrong(format!("{field}.codes[{at}]"), message))
                }
            }
        }
        Parent::Result { result, picture, request } => {
            let Some(request) = request else {
                return Err(wrong(
                    format!("{field}.result"),
                    format!("{result} was not looked up"),
                ));
            };
            if request.model.as_deref() != Some(&model.name) {
                let other = request.model.as_deref().unwrap_or_default();
                let message = format!(
                    "{result} was drawn by the model {other:?}; a picture goes on with the model \
                     that drew it, not with {:?}",
                    model.name
                );
                return Err(wrong(format!("{field}.result"), message));
            }
            if *picture >= request.count {
                let last = request.count.saturating_sub(1);
                let message = format!(
                    "is {picture}; {result} has {} pictures, so it goes from 0 to {last}",
                    request.count
                );
                return Err(wrong(format!("{field}.picture"), message));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{Corner, JobId, SeedRange};

    use super::*;
    use crate::generator::fake::{few_step, model};

    /// 3 scales of 1, 4 and 16 tokens, 16 codewords, 8 classes.
    fn outcome(explore: Explore) -> Result<(), ErrorBody> {
        let request = GenerateRequest {
            explore: Some(Box::new(explore)),
            ..GenerateRequest::new(0, few_step(&[0]))
        };
        check(&request, &model("small"))
    }

    fn from(origin: Origin) -> Explore {
        Explore { from: Some(origin), ..Explore::default() }
    }

    fn codes(codes: Vec<u32>) -> Parent {
        Parent::Codes { codes }
    }

    fn result(model: &str, picture: u32) -> Parent {
        let mut request = GenerateRequest::new(0, few_step(&[0]));
        request.model = Some(model.to_owned());
        let request = Some(Box::new(request));
        Parent::Result { result: JobId::from_bits(5), picture, request }
    }

    fn corner(class: u32, seed: u64, weight: f64) -> Corner {
        Corner { class, seed, weight }
    }

    #[test]
    fn what_lies_within_the_bounds_passes() {
        let sound = [
            Explore::default(),
            Explore {
                seeds: vec![
                    SeedRange { first_scale: 0, seed: 1 },
                    SeedRange { first_scale: 2, seed: MAX_SEED },
                ],
                blend: vec![corner(0, 1, 0.0), corner(7, 2, 1.0)],
                gains: vec![0.0, 1.0, 2.0],
                ..Explore::default()
            },
            from(Origin::Reroll { parent: codes(vec![15; 21]), from_scale: 2 }),
            from(Origin::Crossover {
                parent: result("small", 0),
                other: codes(vec![0; 21]),
                from_scale: 3,
            }),
            from(Origin::Edit { parent: result("small", 0), mask: "1000".into() }),
        ];
        for explore in sound {
            assert_eq!(outcome(explore.clone()), Ok(()), "{explore:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_field_with_the_value_and_the_bound() {
        let seeds = |ranges: &[(u32, u64)]| Explore {
            seeds: ranges
                .iter()
                .map(|&(first_scale, seed)| SeedRange { first_scale, seed })
                .collect(),
            ..Explore::default()
        };
        let blend = |blend: Vec<Corner>| Explore { blend, ..Explore::default() };
        let gains = |gains: &[f64]| Explore { gains: gains.to_vec(), ..Explore::default() };
        let reroll = |parent, from_scale| from(Origin::Reroll { parent, from_scale });
        let edit =
            |mask: &str| from(Origin::Edit { parent: codes(vec![0; 21]), mask: mask.to_owned() });
        let some = || codes(vec![0; 21]);
        for (explore, field, says) in [
            (seeds(&[(3, 0)]), "seeds[0].first_scale", ["is 3", "0 to 2"]),
            (seeds(&[(1, 0), (1, 0)]), "seeds[1].first_scale", ["is 1", "2 to 2"]),
            (seeds(&[(0, MAX_SEED + 1)]), "seeds[0].seed", ["9007199254740992", "0 to"]),
            (blend(vec![corner(0, 0, 1.0)]), "blend", ["1 corners", "2 to 4"]),
            (blend(vec![corner(0, 0, 0.2); 5]), "blend", ["5 corners", "2 to 4"]),
            (blend(vec![corner(8, 0, 0.5); 2]), "blend[0].class", ["is 8", "0 to 7"]),
            (blend(vec![corner(0, MAX_SEED + 1, 0.5); 2]), "blend[0].seed", ["is 9007", "0 to"]),
            (blend(vec![corner(0, 0, 0.6); 2]), "blend", ["sum to 1.2", "sum to 1"]),
            (blend(vec![corner(0, 0, f64::NAN); 2]), "blend", ["NaN", "0 to 1"]),
            (gains(&[1.0; 2]), "gains", ["2 gains", "3 scales"]),
            (gains(&[1.0, 1.0, f64::NAN]), "gains", ["scale 2 is NaN", "0 (mute) to 2"]),
            (gains(&[1.0, -0.1, 1.0]), "gains", ["scale 1 is -0.1", "to 2"]),
            (reroll(some(), 3), "from.from_scale", ["is 3", "0 to 2"]),
            (reroll(codes(vec![0; 20]), 1), "from.parent.codes", ["20 codes", "21 tokens"]),
            (reroll(codes(vec![16; 21]), 1), "from.parent.codes[0]", ["is 16", "0 to 15"]),
            (reroll(result("other", 0), 1), "from.parent.result", ["\"other\"", "\"small\""]),
            (reroll(result("small", 1), 1), "from.parent.picture", ["is 1", "0 to 0"]),
            (edit("10"), "from.mask", ["2 marks", "1 to 64"]),
            (edit(""), "from.mask", ["0 marks", "square"]),
            (edit(&"1".repeat(65 * 65)), "from.mask", ["4225 marks", "1 to 64"]),
            (edit("10x1"), "from.mask", ["'x'", "0 and 1"]),
            (edit("0000"), "from.mask", ["covers no token", "paint"]),
        ] {
            let error = outcome(explore.clone()).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidExplore, "{explore:?}");
            assert_eq!(error.field.as_deref(), Some(&*format!("explore.{field}")), "{error}");
            let told = says.iter().all(|words| error.message.contains(words));
            assert!(told, "{}", error.message);
        }
    }

    #[test]
    fn a_lineage_ends_somewhere() {
        let mut request = GenerateRequest::new(0, few_step(&[0]));
        request.model = Some("small".to_owned());
        for generation in 1..=MAX_LINEAGE + 1 {
            let parent = Parent::Result {
                result: JobId::from_bits(1),
                picture: 0,
                request: Some(Box::new(request.clone())),
            };
            request.explore = Some(Box::new(from(Origin::Picture { parent })));
            let outcome = check(&request, &model("small"));
            assert_eq!(outcome.is_ok(), generation <= MAX_LINEAGE, "generation {generation}");
        }
    }
}
