//! A closed walk between the corners of a blend, as one animated file or video.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, ErrorCode, Explore, GenerateRequest, MAX_CORNERS};

/// Fewest and most pictures of a walk.
pub const WALK_PICTURES: RangeInclusive<usize> = 2..=96;

/// Shortest and longest time of a picture of a walk, in milliseconds.
pub const WALK_PICTURE_MS: RangeInclusive<u32> = 20..=5000;

/// Longest that the drawing of a walk may take, in milliseconds.
pub const MAX_WALK_MS: u64 = 120_000;

/// Longest place in the page that a walk names, in bytes.
const MAX_PAGE: usize = 1000;

/// A walk between corners: body of `POST /api/loop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WalkRequest {
    /// What is drawn: one picture between the corners of its `explore.blend`. Its `deadline_ms` is
    /// for the whole walk and at most two minutes, which also holds where it is absent.
    #[serde(deserialize_with = "crate::object::object")]
    pub request: GenerateRequest,
    /// 2 to 96 pictures in their order, each by the weights of the corners, which take the place of
    /// those in `request`. An animation begins anew after the last one.
    #[cfg_attr(feature = "openapi", schema(min_items = 2, max_items = 96))]
    pub weights: Vec<Vec<f64>>,
    /// What kind of file.
    pub format: WalkFormat,
    /// How long each picture is shown, in milliseconds, 20 to 5000.
    #[serde(default = "picture_ms")]
    #[cfg_attr(feature = "openapi", schema(minimum = 20, maximum = 5000, default = 80))]
    pub picture_ms: u32,
    /// The place in the page that shows the walk, without a slash at its beginning: `explore?…`.
    /// The server only writes it into the file, by which the page finds the way back; at most 1000
    /// bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

/// A kind of animated file, or a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WalkFormat {
    /// At most 256 colours a picture; shown everywhere.
    Gif,
    /// All colours, lossless.
    Apng,
    /// The smallest by far, compressed with loss; whether it begins anew is up to its player.
    Mp4,
}

impl WalkFormat {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gif => "image/gif",
            Self::Apng => "image/apng",
            Self::Mp4 => "video/mp4",
        }
    }

    /// The ending of its files' names.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Gif => "gif",
            Self::Apng => "png",
            Self::Mp4 => "mp4",
        }
    }
}

/// Twelve and a half pictures a second.
fn picture_ms() -> u32 {
    80
}

impl WalkRequest {
    /// The request of each picture, in order.
    ///
    /// # Errors
    /// The first part of the walk that is out of bounds, with the value and the bound. What a model
    /// must fit to is not looked at.
    pub fn requests(&self) -> Result<Vec<GenerateRequest>, ErrorBody> {
        let of = |code, field: String, message: String| {
            Err(ErrorBody::new(code, format!("{field}: {message}")).at(field))
        };
        let wrong = |field: &str, message| of(ErrorCode::InvalidExplore, field.to_owned(), message);
        let explore = *self.request.explore.clone().unwrap_or_default();
        let corners = explore.blend.len();
        if !(2..=MAX_CORNERS).contains(&corners) {
            let message = format!("has {corners} corners; a walk takes 2 to {MAX_CORNERS}");
            return wrong("request.explore.blend", message);
        }
        if self.request.count != 1 {
            let message = format!("is {}; a walk has one picture at a place", self.request.count);
            return of(ErrorCode::CountOutOfRange, "request.count".into(), message);
        }
        if let Some(deadline_ms) = self.request.deadline_ms
            && !(1..=MAX_WALK_MS).contains(&deadline_ms)
        {
            let message = format!("is {deadline_ms}; that of a walk goes from 1 to {MAX_WALK_MS}");
            return of(ErrorCode::DeadlineOutOfRange, "request.deadline_ms".into(), message);
        }
        if !WALK_PICTURES.contains(&self.weights.len()) {
            let (least, most) = (WALK_PICTURES.start(), WALK_PICTURES.end());
            let message =
                format!("has {} pictures; a walk has {least} to {most}", self.weights.len());
            return wrong("weights", message);
        }
        if !WALK_PICTURE_MS.contains(&self.picture_ms) {
            let (least, most) = (WALK_PICTURE_MS.start(), WALK_PICTURE_MS.end());
            let message = format!("is {}; it goes from {least} to {most}", self.picture_ms);
            return wrong("picture_ms", message);
        }
        if let Some(page) = self.page.as_ref().filter(|page| page.len() > MAX_PAGE) {
            let message =
                format!("has {} bytes; a place in the page has at most {MAX_PAGE}", page.len());
            return wrong("page", message);
        }
        let mut requests = Vec::with_capacity(self.weights.len());
        for (at, weights) in self.weights.iter().enumerate() {
            if weights.len() != corners {
                let message = format!(
                    "has {} weights; request.explore.blend has {corners} corners, so it must be as \
                     many",
                    weights.len()
                );
                return wrong(&format!("weights[{at}]"), message);
            }
            let blend = explore.blend.iter().zip(weights);
            let blend = blend.map(|(corner, &weight)| crate::Corner { weight, ..*corner });
            let explore = Explore { blend: blend.collect(), ..explore.clone() };
            let explore = Some(Box::new(explore));
            requests.push(GenerateRequest { explore, ..self.request.clone() });
        }
        Ok(requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Corner, Plan};

    fn walk(pictures: usize) -> WalkRequest {
        let corner = |class, weight| Corner { class, seed: 5, weight };
        let explore = Explore { blend: vec![corner(1, 0.5), corner(2, 0.5)], ..Explore::default() };
        WalkRequest {
            request: GenerateRequest {
                explore: Some(Box::new(explore)),
                ..GenerateRequest::new(1, Plan::few_step(&[0], 2))
            },
            weights: (0..pictures).map(|at| vec![at as f64, 1.0 - at as f64]).collect(),
            format: WalkFormat::Gif,
            picture_ms: 80,
            page: None,
        }
    }

    #[test]
    fn each_picture_has_the_request_with_its_own_weights() {
        let requests = walk(3).requests().unwrap();
        let weights = |request: &GenerateRequest| -> Vec<f64> {
            request.explore.iter().flat_map(|of| &of.blend).map(|corner| corner.weight).collect()
        };
        let all: Vec<_> = requests.iter().map(weights).collect();
        assert_eq!(all, walk(3).weights);
        assert!(requests.iter().all(|request| request.plan == walk(2).request.plan));
    }

    #[test]
    fn it_survives_the_wire_and_a_time_may_be_left_out() {
        let mut text = serde_json::to_value(walk(2)).unwrap();
        assert_eq!(serde_json::from_value::<WalkRequest>(text.clone()).unwrap(), walk(2));
        text.as_object_mut().unwrap().remove("picture_ms");
        assert_eq!(serde_json::from_value::<WalkRequest>(text.clone()).unwrap(), walk(2));
        text["speed"] = 1.into();
        assert!(serde_json::from_value::<WalkRequest>(text).is_err());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_field_with_the_value_and_the_bound() {
        let with = |change: fn(&mut WalkRequest)| {
            let mut changed = walk(4);
            change(&mut changed);
            changed.requests().unwrap_err()
        };
        for (error, field, says) in [
            (with(|walk| walk.request.explore = None), "request.explore.blend", "0 corners"),
            (with(|walk| walk.request.count = 2), "request.count", "is 2"),
            (with(|walk| walk.request.deadline_ms = Some(0)), "request.deadline_ms", "is 0"),
            (
                with(|walk| walk.request.deadline_ms = Some(MAX_WALK_MS + 1)),
                "request.deadline_ms",
                "120000",
            ),
            (with(|walk| walk.weights.truncate(1)), "weights", "1 pictures"),
            (with(|walk| walk.weights = vec![vec![0.5; 2]; 97]), "weights", "97 pictures"),
            (with(|walk| walk.weights[2] = vec![1.0]), "weights[2]", "1 weights"),
            (with(|walk| walk.picture_ms = 19), "picture_ms", "is 19"),
            (with(|walk| walk.picture_ms = 5001), "picture_ms", "20 to 5000"),
            (with(|walk| walk.page = Some("x".repeat(1001))), "page", "1001 bytes"),
        ] {
            assert_eq!(error.field.as_deref(), Some(field), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }
}
