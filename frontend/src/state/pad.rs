//! The pad: a place between four corners, each a class and a seed, and the address that says so.

use var_dd_protocol::{
    Corner, Explore, GenerateRequest, ModelInfo,
    pad::{End, LENGTHS, Linked, MAX_PINS, STEPS},
};

use super::settings::PICKED_SEEDS;

/// Pictures of a walk until somebody says otherwise.
const LENGTH: usize = LENGTHS[1];

/// Four corners, row by row, a place between them, and a walk by its pins and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pad {
    pub(crate) corners: [End; 4],
    /// From the left and from the top, 0 to [`STEPS`].
    pub(crate) x: u32,
    pub(crate) y: u32,
    /// Places of a closed walk, in its order.
    pub(crate) pins: Vec<(u32, u32)>,
    /// Pictures of the walk, one of [`LENGTHS`], however many pins there are.
    pub(crate) length: usize,
}

impl Pad {
    /// What the corners are called, in their order.
    pub(crate) const NAMES: [&str; 4] = ["top left", "top right", "bottom left", "bottom right"];

    /// A pad over a model with `classes` classes: corners spread over them, seeds from `pick`,
    /// which is given a bound. The place is a little off the middle, where all four are heard.
    pub(crate) fn new(classes: usize, mut pick: impl FnMut(u64) -> u64) -> Self {
        let classes = classes.max(1);
        let first = pick(classes as u64) as usize;
        let corners = [0, 1, 2, 3].map(|at| End {
            class: (first + at * classes.div_ceil(4)) % classes,
            seed: pick(PICKED_SEEDS),
        });
        Self { corners, x: 40, y: 40, pins: Vec::new(), length: LENGTH }
    }

    /// The middle between four corners.
    pub(crate) fn between(corners: [End; 4]) -> Self {
        Self { corners, x: STEPS / 2, y: STEPS / 2, pins: Vec::new(), length: LENGTH }
    }

    /// With another place; one beyond the edge is at the edge.
    pub(crate) fn at(&self, x: i64, y: i64) -> Self {
        let within = |at: i64| at.clamp(0, STEPS.into()) as u32;
        Self { x: within(x), y: within(y), ..self.clone() }
    }

    /// With another corner.
    pub(crate) fn with(&self, at: usize, end: End) -> Self {
        let mut pad = self.clone();
        if let Some(corner) = pad.corners.get_mut(at) {
            *corner = end;
        }
        pad
    }

    /// With a pin at its place, if there is room and none is there.
    pub(crate) fn pinned(&self) -> Self {
        let mut pad = self.clone();
        let here = (self.x, self.y);
        if pad.pins.len() < MAX_PINS && !pad.pins.contains(&here) {
            pad.pins.push(here);
        }
        pad
    }

    /// Without one of the pins.
    pub(crate) fn without_pin(&self, at: usize) -> Self {
        let mut pad = self.clone();
        if at < pad.pins.len() {
            pad.pins.remove(at);
        }
        pad
    }

    /// The pin at its place, else the one that was set last.
    pub(crate) fn pin_to_remove(&self) -> Option<usize> {
        let here = self.pins.iter().position(|&pin| pin == (self.x, self.y));
        here.or(self.pins.len().checked_sub(1))
    }

    /// How much of each corner there is at a place in steps; together 1.
    pub(crate) fn weights(x: f64, y: f64) -> [f64; 4] {
        let part = |at: f64| (at / f64::from(STEPS)).clamp(0.0, 1.0);
        let (x, y) = (part(x), part(y));
        [(1.0 - x) * (1.0 - y), x * (1.0 - y), (1.0 - x) * y, x * y]
    }

    /// The corner that is nearest to a place.
    fn nearest(&self, x: f64, y: f64) -> End {
        let far = |at: f64| usize::from(at > f64::from(STEPS) / 2.0);
        self.corners[far(x) + 2 * far(y)]
    }

    /// The place in words.
    pub(crate) fn words(&self, model: &ModelInfo) -> String {
        let name = model
            .classes
            .get(self.nearest(self.x.into(), self.y.into()).class)
            .map_or("", String::as_str);
        format!("{} % across, {} % down; nearest to {name}", self.x, self.y)
    }

    /// The request for the picture at this place, by the cheapest plan that needs no teacher;
    /// nothing if the model has none.
    pub(crate) fn request(&self, model: &ModelInfo) -> Option<GenerateRequest> {
        self.request_at(model, self.x.into(), self.y.into())
    }

    /// As [`Pad::request`], for any place in steps.
    pub(crate) fn request_at(&self, model: &ModelInfo, x: f64, y: f64) -> Option<GenerateRequest> {
        let preset = model.plans.iter().find(|preset| !preset.plan.needs_teacher())?;
        let nearest = self.nearest(x, y);
        let blend = self.corners.iter().zip(Self::weights(x, y));
        let blend =
            blend.map(|(end, weight)| Corner { class: end.class as u32, seed: end.seed, weight });
        Some(GenerateRequest {
            model: Some(model.name.clone()),
            seed: Some(nearest.seed),
            explore: Some(Box::new(Explore { blend: blend.collect(), ..Explore::default() })),
            ..GenerateRequest::new(nearest.class as u32, preset.plan.clone())
        })
    }

    /// The pad that a picture lies on, with the picture's place; nothing if it lies on none.
    pub(crate) fn of_request(request: &GenerateRequest) -> Option<Self> {
        let explore = request.explore.as_ref().filter(|explore| explore.from.is_none())?;
        let corners: &[Corner; 4] = explore.blend.as_slice().try_into().ok()?;
        let weights = corners.map(|corner| corner.weight);
        let steps = |part: f64| (part * f64::from(STEPS)).round() as i64;
        let ends = corners.map(|corner| End { class: corner.class as usize, seed: corner.seed });
        let pad =
            Self::between(ends).at(steps(weights[1] + weights[3]), steps(weights[2] + weights[3]));
        // Four weights of any other kind are nowhere on the square. A walk goes between the steps.
        let its = Self::weights(pad.x.into(), pad.y.into());
        let is_near = its.iter().zip(weights).all(|(its, weight)| (its - weight).abs() < 0.02);
        is_near.then_some(pad)
    }

    /// The query of its address.
    pub(crate) fn query(&self, model: &str) -> Vec<(String, String)> {
        let corners: Vec<_> =
            self.corners.iter().map(|end| format!("{}-{}", end.class, end.seed)).collect();
        let place = |&(x, y): &(u32, u32)| format!("{x}-{y}");
        let pins: Vec<_> = self.pins.iter().map(place).collect();
        let pins = (!pins.is_empty()).then(|| ("pins", pins.join("_")));
        let length = (self.length != LENGTH).then(|| ("pictures", self.length.to_string()));
        let pairs = [
            ("model", model.to_owned()),
            ("corners", corners.join("_")),
            ("at", place(&(self.x, self.y))),
        ];
        let pairs = pairs.into_iter().chain(pins).chain(length);
        pairs.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// With everything that a link says.
    pub(crate) fn linked(self, link: &Linked) -> Self {
        let (x, y) = link.at.unwrap_or((self.x, self.y));
        Self {
            corners: link.corners.unwrap_or(self.corners),
            x,
            y,
            pins: link.pins.clone().unwrap_or(self.pins),
            length: link.length.unwrap_or(self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::settings::tests::model;

    fn pad() -> Pad {
        Pad::new(8, |end| end / 2)
    }

    #[test]
    fn a_corner_is_itself_and_every_place_sums_to_one() {
        for (x, y, corner) in [(0, 0, 0), (100, 0, 1), (0, 100, 2), (100, 100, 3)] {
            let weights = Pad::weights(f64::from(x), f64::from(y));
            assert_eq!(weights[corner], 1.0, "{x}, {y}");
        }
        for x in 0..=100 {
            for y in 0..=100 {
                let sum: f64 = Pad::weights(f64::from(x), f64::from(y)).iter().sum();
                assert!((sum - 1.0).abs() < 1e-9, "{x}, {y}: {sum}");
            }
        }
    }

    #[test]
    fn a_place_beyond_the_edge_is_at_the_edge() {
        let pad = pad().at(-5, 300);
        assert_eq!((pad.x, pad.y), (0, 100));
    }

    #[test]
    fn its_address_brings_it_back() {
        let models = [model("a", 8), model("b", 8)];
        let pad = pad().at(3, 4).pinned().at(12, 93).pinned();
        for length in LENGTHS {
            let pad = Pad { length, ..pad.clone() };
            let link = Linked::of_query(&pad.query("b"), &models);
            assert_eq!(link.model.as_deref(), Some("b"));
            assert_eq!((self::pad().linked(&link), link.left_out), (pad, vec![]));
        }
        let nothing = [("utm_source".to_owned(), "x".to_owned())];
        assert_eq!(Linked::of_query(&nothing, &models), Linked::default());
    }

    #[test]
    fn what_reads_of_an_address_is_taken_and_what_does_not_is_told_with_its_value() {
        let models = [model("a", 8), model("b", 8)];
        let pad = pad().at(3, 4).pinned().at(12, 93).pinned();
        let other = Pad { length: LENGTHS[2], ..Pad::new(8, |_| 0).at(50, 50) };
        for (name, wrong) in [
            ("model", "gone"),
            ("corners", "1-1_2-2_3-3"),
            ("corners", "1-1_2-2_3-3_x-4"),
            ("corners", "1-1_2-2_3-3_99999-4"),
            ("corners", "1-1_2-2_3-3_4-9007199254740992"),
            ("at", "101-0"),
            ("at", "-1-0"),
            ("at", "7"),
            ("pins", ""),
            ("pins", "%%%"),
            ("pins", "1-1_101-1"),
            ("pins", "1-1_2-2_3-3_4-4_5-5_6-6_7-7_8-8_9-9"),
            ("pictures", "51"),
        ] {
            let mut query = pad.query("b");
            query.push((name.to_owned(), wrong.to_owned()));
            let link = Linked::of_query(&query, &models);
            let told = &link.left_out;
            assert!(told.len() == 1 && told[0].contains(&format!("“{wrong}”")), "{told:?}");
            let taken = other.clone().linked(&link);
            let (corners, at) = (taken.corners == pad.corners, (taken.x, taken.y) == (12, 93));
            let pins = taken.pins == pad.pins;
            let is_of_corners = matches!(name, "model" | "corners");
            assert_eq!((corners, at, pins), (!is_of_corners, name != "at", name != "pins"));
            assert_eq!(taken.length, LENGTHS[2], "{name}={wrong}");
        }
        let long = [("at".to_owned(), "é".repeat(4000))];
        assert!(Linked::of_query(&long, &models).left_out[0].chars().count() < 200);
    }

    #[test]
    fn a_picture_leads_back_to_its_place_on_the_pad() {
        let model = model("a", 8);
        for (x, y) in [(0, 0), (100, 100), (33, 71)] {
            let pad = Pad::between(pad().corners).at(x, y);
            assert_eq!(Pad::of_request(&pad.request(&model).unwrap()), Some(pad));
        }
        let between = pad().request_at(&model, 33.4, 70.6).unwrap();
        assert_eq!(Pad::of_request(&between).map(|pad| (pad.x, pad.y)), Some((33, 71)));
        let with = |change: fn(&mut Explore)| {
            let mut request = pad().request(&model).unwrap();
            change(request.explore.as_mut().unwrap());
            Pad::of_request(&request)
        };
        assert_eq!(with(|explore| explore.blend.truncate(3)), None, "three corners");
        assert_eq!(
            with(|explore| explore
                .blend
                .iter_mut()
                .zip([0.5, 0.0, 0.0, 0.5])
                .for_each(|(corner, weight)| corner.weight = weight)),
            None,
            "between two corners across"
        );
        let plain = GenerateRequest { explore: None, ..between };
        assert_eq!(Pad::of_request(&plain), None);
    }

    #[test]
    fn pins_are_set_and_taken_where_the_pad_is() {
        let mut pad = pad();
        for at in 0..20 {
            pad = pad.at(5 * (at / 2), 7).pinned();
        }
        assert_eq!(pad.pins.len(), MAX_PINS);
        assert_eq!(pad.pins[..2], [(0, 7), (5, 7)], "a place is pinned once");
        let there = pad.at(5, 7);
        assert_eq!(there.pin_to_remove(), Some(1));
        assert_eq!(there.without_pin(1).pins[..2], [(0, 7), (10, 7)]);
        assert_eq!(pad.at(50, 50).pin_to_remove(), Some(MAX_PINS - 1), "the last one");
        assert_eq!((pad.without_pin(99), self::pad().pin_to_remove()), (pad.clone(), None));
    }

    #[test]
    fn the_request_lies_between_the_corners_and_is_called_after_the_nearest() {
        let request = pad().at(90, 10).request(&model("a", 8)).unwrap();
        let blend = request.explore.unwrap().blend;
        assert_eq!(blend.len(), 4);
        assert_eq!(request.class, blend[1].class);
        assert_eq!(request.seed, Some(blend[1].seed));
    }
}
