//! What a link to the page means: the server, the comparison, the picture of a result.

use actix_web::{HttpMessage, HttpRequest};
use serde::Deserialize;
use url::form_urlencoded;
use utoipa::IntoParams;
use var_dd_protocol::{
    Axis, Comparison, GenerateRequest, Grid, JobView, ModelInfo, Plan,
    pad::{End, LENGTHS, Linked},
};

use super::{Site, security::Authority};

/// Which picture of a result a link means.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Chosen {
    /// Number of the picture, from 1.
    #[serde(default)]
    picture: Option<String>,
}

impl Chosen {
    /// The picture of this number, as a link spells it.
    pub(super) fn new(picture: Option<String>) -> Self {
        Self { picture }
    }

    /// Index of the picture of a result, if there is such a one.
    pub(super) fn index(&self, view: &JobView) -> Option<usize> {
        let number = self.picture.as_deref()?.parse::<usize>().ok()?;
        number.checked_sub(1).filter(|&index| index < view.pictures.len())
    }
}

/// What a link says of the picture of several that it means, by its index.
pub(super) fn picture_query(picture: Option<usize>) -> String {
    picture.map(|index| format!("?picture={}", index + 1)).unwrap_or_default()
}

/// The comparison that an address names, with its model, if both are here.
pub(super) fn compared(site: &Site, address: &str) -> Option<(Comparison, ModelInfo)> {
    let comparison: Comparison = address.parse().ok()?;
    let models = site.scheduler.models();
    let model = models.iter().find(|model| model.name == comparison.model)?;
    let is_there = (comparison.class as usize) < model.classes.len();
    is_there.then(|| (comparison, model.clone()))
}

/// What the address of a grid says. It is read by hand, since others may add to a link.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct GridQuery {
    /// What changes from column to column, and its values: `seed: 1-4`. One of class, seed, plan,
    /// steps, split, cfg, top-k and top-p; at most twelve values.
    across: Option<String>,
    /// What changes from row to row: `plan: 1 step, 2 steps`.
    down: Option<String>,
    /// Name of a model; the server's first one if absent.
    model: Option<String>,
    /// The class of all pictures, by its name or number.
    class: Option<String>,
    /// The plan of all pictures: the name of a preset, or in words: `student=0,5;split=5`.
    plan: Option<String>,
    /// The seed of all pictures.
    seed: Option<String>,
}

/// The grid that a query names, with its model; nothing if it is none that can be drawn here.
pub(super) fn gridded(site: &Site, query: &str) -> Option<(Grid, ModelInfo)> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let models = site.scheduler.models();
    let (grid, model) = Grid::of_pairs(&pairs, &models).ok()?;
    Some((grid, model.clone()))
}

/// What a link to the playground asks to be drawn: a class, and of the rest what it says.
pub(super) struct Asked {
    pub(super) model: ModelInfo,
    pub(super) class: u32,
    pub(super) plan: Option<Plan>,
    pub(super) seed: Option<u64>,
    /// The settings as a query, without what else was in the link.
    pub(super) query: String,
}

impl Asked {
    /// The name of the class.
    pub(super) fn class_name(&self) -> String {
        let name = self.model.classes.get(self.class as usize).cloned();
        name.unwrap_or_else(|| format!("class {}", self.class))
    }
}

/// What the query of a link to the playground asks for, if it names a class and all of it can be
/// drawn here.
pub(super) fn asked(site: &Site, query: &str) -> Option<Asked> {
    asked_of(query, &site.scheduler.models())
}

fn asked_of(query: &str, models: &[ModelInfo]) -> Option<Asked> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    // `top_k` is as good as `top-k`; of a name that stands twice, the last one counts.
    let value = |name: &str| {
        pairs.iter().rfind(|(other, _)| other.replace('_', "-") == name).map(|(_, value)| value)
    };
    let model = match value("model") {
        Some(name) => models.iter().find(|model| model.name == **name)?,
        None => models.first()?,
    };
    value("class")?;
    let mut request = GenerateRequest::new(0, model.plans.first()?.plan.clone());
    let mut settings = form_urlencoded::Serializer::new(String::new());
    let mut has_plan = false;
    // All of them, in their order: the plan comes before what changes a part of it.
    for axis in Axis::ALL {
        if let Some(text) = value(axis.name()) {
            axis.set(text, &mut request, model).ok()?;
            has_plan |= !matches!(axis, Axis::Class | Axis::Seed);
            settings.append_pair(axis.name(), text);
        }
    }
    if let Some(name) = value("model") {
        settings.append_pair("model", name);
    }
    request.plan.validate(model.scales()).ok()?;
    if request.plan.needs_teacher() && !model.has_teacher {
        return None;
    }
    Some(Asked {
        model: model.clone(),
        class: request.class,
        plan: has_plan.then_some(request.plan),
        seed: request.seed,
        query: settings.finish(),
    })
}

/// What a link to the pad shows: four corners, and a walk between them if it has pins.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) model: ModelInfo,
    pub(super) corners: [End; 4],
    /// Pictures of the walk.
    pub(super) pictures: Option<usize>,
    /// What it says of the pad as a query, without what else was in the link.
    pub(super) query: String,
}

impl Walked {
    /// The classes of the corners by the first of their names, row by row.
    pub(super) fn names(&self) -> [String; 4] {
        self.corners.map(|End { class, .. }| {
            let name = self.model.classes.get(class).and_then(|name| name.split(',').next());
            name.map_or_else(|| format!("class {class}"), str::to_owned)
        })
    }
}

/// What the query of a link to the pad shows, if it names corners and all of it can be drawn here.
pub(super) fn walked(site: &Site, query: &str) -> Option<Walked> {
    walked_of(query, &site.scheduler.models())
}

fn walked_of(query: &str, models: &[ModelInfo]) -> Option<Walked> {
    const NAMES: [&str; 5] = ["model", "corners", "at", "pins", "pictures"];
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let link = Linked::of_query(&pairs, models);
    let corners = link.corners.filter(|_| link.left_out.is_empty())?;
    let model = models.iter().find(|model| Some(&model.name) == link.model.as_ref())?;
    // A walk goes from one pin to another.
    let is_walk = link.pins.as_ref().is_some_and(|pins| pins.iter().any(|pin| *pin != pins[0]));
    let mut settings = form_urlencoded::Serializer::new(String::new());
    for name in NAMES {
        if let Some((_, value)) = pairs.iter().rfind(|(other, _)| other == name) {
            settings.append_pair(name, value);
        }
    }
    Some(Walked {
        model: model.clone(),
        corners,
        pictures: is_walk.then(|| link.length.unwrap_or(LENGTHS[1])),
        query: settings.finish(),
    })
}

/// The address of the server as people see it, without a slash at its end.
pub(super) fn base(request: &HttpRequest, site: &Site) -> String {
    let extensions = request.extensions();
    extensions.get::<Authority>().map(|host| site.gate.base_url(host)).unwrap_or_default()
}

/// The way from a path back to where the page lies: relative, since a proxy may have put something
/// before the path that nobody here knows of.
pub(super) fn root_of(path: &str) -> String {
    match path.strip_prefix('/').unwrap_or(path).matches('/').count() {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::fake;

    #[test]
    fn a_link_asks_for_what_its_words_say_and_for_nothing_if_one_of_them_is_wrong() {
        let models = [fake::model("first"), fake::model("second")];
        let of = |query: &str| asked_of(query, &models);
        let asked = of("class=class-3&plan=2-steps&seed=5&utm_source=mail&model=second").unwrap();
        assert_eq!((asked.model.name.as_str(), asked.class, asked.seed), ("second", 3, Some(5)));
        assert_eq!(asked.plan, Some(fake::few_step(&[0, 1])));
        assert_eq!(asked.query, "class=class-3&seed=5&plan=2-steps&model=second");
        assert_eq!(asked.class_name(), "class 3");
        let bare = of("class=1&class=2").unwrap();
        assert_eq!((bare.class, bare.plan, bare.seed), (2, None, None));
        let part = of("class=2&steps=1").unwrap().plan;
        assert!(matches!(part, Some(Plan::FewStep { ref t_list, .. }) if t_list.len() == 1));
        for query in [
            "",
            "plan=2-steps&seed=5",
            "class=unheard-of",
            "class=8",
            "class=1&plan=none",
            "class=1&seed=-5",
            "class=1&steps=99",
            "class=1&model=third",
            "class=%FF%00",
        ] {
            assert!(of(query).is_none(), "{query}");
        }
    }

    #[test]
    fn a_link_to_the_pad_shows_its_corners_and_its_walk_and_nothing_if_one_part_is_wrong() {
        let models = [fake::model("first"), fake::model("second")];
        let of = |query: &str| walked_of(query, &models);
        let corners = "corners=0-5_1-6_2-7_3-8";
        let place = of(&format!("{corners}&at=40-60&utm_source=mail&pins=9-9")).unwrap();
        assert_eq!((place.model.name.as_str(), place.pictures), ("first", None));
        assert_eq!(place.names(), ["class 0", "class 1", "class 2", "class 3"]);
        assert_eq!(place.corners[3], End { class: 3, seed: 8 });
        assert_eq!(place.query, "corners=0-5_1-6_2-7_3-8&at=40-60&pins=9-9");
        let walk = of(&format!("model=second&{corners}&pins=9-9_50-50")).unwrap();
        assert_eq!((walk.model.name.as_str(), walk.pictures), ("second", Some(50)));
        let long = of(&format!("{corners}&pins=9-9_50-50&pictures=96")).unwrap();
        assert_eq!(long.pictures, Some(96));
        for query in [
            "",
            "at=40-60",
            "corners=0-5_1-6_2-7",
            "corners=0-5_1-6_2-7_8-8",
            "corners=0-5_1-6_2-7_3-8&at=101-0",
            "corners=0-5_1-6_2-7_3-8&model=third",
            "corners=%FF%00",
        ] {
            assert!(of(query).is_none(), "{query}");
        }
    }

    #[test]
    fn the_way_back_to_the_page_is_as_long_as_the_path() {
        for (path, root) in [
            ("/", "./"),
            ("/compare", "./"),
            ("/r/1", "../"),
            ("/r/1/", "../../"),
            ("/c/a/b", "../../"),
        ] {
            assert_eq!(root_of(path), root, "{path}");
        }
    }
}
