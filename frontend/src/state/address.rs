//! Settings in the address of the page: `/?class=snowman&plan=2-steps&seed=5&count=2&model=…`.
//!
//! A plan is a preset by its name, or one in words, as in the address of a comparison. `steps`,
//! `split`, `cfg`, `top-k` and `top-p` then change a part of it. A comparison has `plans` instead:
//! `/compare?class=snowman&seed=5&plans=1 step,2 steps`.

use serde::Serialize;
use var_dd_protocol::{
    Axis, COMPARED_PLANS, GenerateRequest, Legible, MAX_PICTURES, ModelInfo, Plan, classes,
    is_near, listed, plan_words, seed_of,
};

use super::settings::Settings;

/// What of a plan has a name of its own in an address; the steps come first, since they are a plan
/// of their own.
const PARTS: [Axis; 5] = [Axis::Steps, Axis::Split, Axis::Cfg, Axis::TopK, Axis::TopP];

/// What the address of the page asks for, as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Its number or its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    /// The name of a preset, or a plan in words (`student=0,5;split=5`) or as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// What changes a part of the plan, in the order in which it is applied.
    #[serde(skip)]
    parts: [Option<String>; PARTS.len()],
    /// Plans to compare, one by one or several with commas or semicolons between them.
    #[serde(skip)]
    plans: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_frame_first: Option<String>,
    /// Names that are none of the settings but look like one, with that one.
    #[serde(skip)]
    misspelled: Vec<(String, &'static str)>,
}

impl Address {
    /// Reads the pairs of a query. Names that are none of the settings (as those that mail programs
    /// add) are passed over, unless they look like one; of a name that stands twice, the last one
    /// counts, but all `plans` do.
    pub(crate) fn of_pairs(pairs: Vec<(String, String)>) -> Self {
        let mut address = Self::default();
        for (name, value) in pairs {
            if name == "plans" {
                address.plans.push(value);
                continue;
            }
            let field = match name.as_str() {
                "model" => &mut address.model,
                "class" => &mut address.class,
                "plan" => &mut address.plan,
                "seed" => &mut address.seed,
                "count" => &mut address.count,
                "last_frame_first" => &mut address.last_frame_first,
                // `top_k` is as good as `top-k`.
                other => match PARTS.iter().position(|axis| axis.name() == other.replace('_', "-"))
                {
                    Some(part) => &mut address.parts[part],
                    None => {
                        let meant = meant_by(other).map(|meant| (name.clone(), meant));
                        address.misspelled.extend(meant);
                        continue;
                    }
                },
            };
            *field = Some(value);
        }
        address
    }

    /// The settings that gave a job.
    pub(crate) fn of_request(request: &GenerateRequest) -> Self {
        Self {
            model: request.model.clone(),
            class: Some(request.class.to_string()),
            plan: Some(plan_words(&request.plan)),
            parts: Default::default(),
            plans: Vec::new(),
            seed: request.seed.map(|seed| seed.to_string()),
            count: Some(request.count.to_string()),
            last_frame_first: Some(request.last_frame_first.to_string()),
            misspelled: Vec::new(),
        }
    }

    /// What can be read of the address of a comparison that cannot be read as a whole.
    pub(crate) fn of_comparison(address: &str, models: &[ModelInfo]) -> Self {
        let Legible { model, class, class_name, seed, plans } = Legible::of_address(address);
        let is_here = models.iter().any(|other| Some(&other.name) == model.as_ref());
        Self {
            // The same number may be another class of another model.
            class: class.filter(|_| is_here).map(|class| class.to_string()).or(class_name),
            model,
            seed: seed.map(|seed| seed.to_string()),
            plans: plans.iter().map(plan_words).collect(),
            ..Self::default()
        }
    }

    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Settings with everything that the address says, that can be read and that a loaded model can
    /// do; then what could not be taken, in words.
    pub(crate) fn apply(
        &self,
        settings: Settings,
        models: &[ModelInfo],
    ) -> (Settings, Vec<String>) {
        let misspelled = self.misspelled.iter();
        let mut left_out: Vec<_> = misspelled
            .map(|(name, meant)| format!("“{name}” is no setting (“{meant}” is one)"))
            .collect();
        if !self.plans.is_empty() {
            left_out.push("“plans” are for a comparison (“plan” is for a picture)".to_owned());
        }
        let mut settings = Settings { chosen: true, ..settings };
        if let Some(name) = &self.model {
            match models.iter().find(|model| model.name == *name) {
                Some(model) => settings.model = Some(model.name.clone()),
                None => left_out.push(format!("there is no model “{name}” here")),
            }
        }
        let Some(model) = settings.model(models).cloned() else { return (settings, left_out) };
        settings = settings.for_model(&model);
        if let Some(text) = &self.class {
            match classes::of_text(&model.classes, text) {
                Some(class) => {
                    settings.class = class;
                    let name = &model.classes[class];
                    if !classes::is_named(name, text) {
                        left_out.push(format!("“{text}” was taken for {name}"));
                    }
                }
                None => left_out.push(format!("there is no class “{text}”")),
            }
        }
        if let Some(text) = &self.plan {
            match plan_of(text, &model) {
                Some(plan) => settings = settings.with_plan(&plan, &model),
                None => left_out.push(format!("“{text}” is no plan that {} can run", model.name)),
            }
        }
        for (axis, text) in PARTS.into_iter().zip(&self.parts) {
            let Some(text) = text else { continue };
            match with_part(&settings, axis, text, &model) {
                Ok(plan) => settings = settings.with_plan(&plan, &model),
                Err(problem) => left_out.push(problem),
            }
        }
        if let Some(text) = &self.seed {
            match seed_of(text) {
                // It is for the next picture; whether seeds stay is the person's choice.
                Ok(seed) => settings = settings.with_seed(seed.to_string()),
                Err(problem) => left_out.push(problem),
            }
        }
        // A link that names pictures means the same ones to everybody: one, if it does not say how
        // many, and not as many as the reader happened to have. In which order their frames come
        // is the reader's own choice.
        let names_pictures = self.class.is_some() || self.plan.is_some() || self.seed.is_some();
        match &self.count {
            Some(text) => match text.trim().parse::<u32>() {
                Ok(count) if (1..=MAX_PICTURES).contains(&count) => settings.count = count,
                _ => left_out
                    .push(format!("“{text}” is no number of pictures from 1 to {MAX_PICTURES}")),
            },
            None if names_pictures => settings.count = 1,
            None => {}
        }
        if let Some(text) = &self.last_frame_first {
            match text.trim().parse() {
                Ok(first) => settings.last_frame_first = first,
                Err(_) => left_out.push(format!("“{text}” is neither true nor false")),
            }
        }
        (settings, left_out)
    }

    /// Settings for a comparison with everything that the address says, as [`Self::apply`] does it.
    pub(crate) fn apply_to_comparison(
        &self,
        settings: Settings,
        models: &[ModelInfo],
    ) -> (Settings, Vec<String>) {
        let of_picture = Self { plans: Vec::new(), ..self.clone() };
        let (mut settings, mut left_out) = of_picture.apply(settings, models);
        let Some(model) = settings.model(models) else { return (settings, left_out) };
        let mut plans: Vec<Plan> = Vec::new();
        for text in self.plans.iter().flat_map(|text| plan_texts(text, model)) {
            match model.plan_of_text(text) {
                Some(plan) if plans.contains(&plan) => {}
                Some(plan) => plans.push(plan),
                None => left_out.push(format!("“{text}” is no plan that {} can run", model.name)),
            }
        }
        let most = *COMPARED_PLANS.end();
        if plans.len() > most {
            left_out.push(format!("only {most} of the {} plans have room", plans.len()));
            plans.truncate(most);
        }
        // The plan of a link is compared with another one, whatever was compared before.
        if !plans.is_empty() || self.plan.is_some() {
            settings.compared = plans;
        }
        (settings, left_out)
    }
}

/// The plans of a text, each by itself: it is one, or there are commas between them; or semicolons
/// where one is in the text, since names may have commas.
fn plan_texts<'a>(text: &'a str, model: &ModelInfo) -> Vec<&'a str> {
    if model.plan_of_text(text).is_some() {
        return vec![text];
    }
    listed(text).collect()
}

impl Settings {
    /// The settings that gave a job, as far as a loaded model has them; the rest stays. Its seed
    /// gave pictures already.
    pub(crate) fn of_request(self, request: &GenerateRequest, models: &[ModelInfo]) -> Self {
        Self { seed_used: true, ..self.drawing_again(request, models).0 }
    }

    /// The settings that a request says, for drawing it again, as far as a loaded model has them;
    /// then what could not be taken, in words.
    pub(crate) fn drawing_again(
        self,
        request: &GenerateRequest,
        models: &[ModelInfo],
    ) -> (Self, Vec<String>) {
        let mut address = Address::of_request(request);
        if models.iter().all(|model| Some(&model.name) != request.model.as_ref()) {
            // The same number may be another class of another model.
            address.class = None;
        }
        address.apply(self, models)
    }
}

/// The setting that a name looks like.
fn meant_by(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let parts = PARTS.map(Axis::name);
    let names = ["model", "class", "plan", "seed", "count", "last_frame_first"];
    let mut names = names.into_iter().chain(parts);
    // Another word may only begin as a setting does: `planet`.
    let about_as_long = |meant: &str| meant.len().abs_diff(name.len()) <= 1;
    names.find(|meant| {
        let plain = meant.replace('_', "-");
        about_as_long(meant) && (plain == name || is_near(&name, &plain))
    })
}

/// A plan by a text, if the model can run it and the controls can hold it.
fn plan_of(text: &str, model: &ModelInfo) -> Option<Plan> {
    let plan = model.plan_of_text(text)?;
    let settings = Settings::new(0).with_plan(&plan, model);
    settings.plan(model).is_ok_and(|read| read == plan).then_some(plan)
}

/// The plan of settings with a part of it changed.
///
/// # Errors
/// What is amiss, in words.
fn with_part(
    settings: &Settings,
    axis: Axis,
    text: &str,
    model: &ModelInfo,
) -> Result<Plan, String> {
    let plan = settings.plan(model).map_err(|problem| problem.message)?;
    let mut request = GenerateRequest::new(settings.class as u32, plan);
    axis.set(text, &mut request, model)?;
    let fits = request.plan.validate(model.scales());
    fits.map_err(|error| format!("{}: {error}", axis.name()))?;
    Ok(request.plan)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{Guidance, PlanPreset};

    use super::*;
    use crate::state::settings::{PlanChoice, tests::model};

    fn address(query: &[(&str, &str)]) -> Address {
        let pairs = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Address::of_pairs(pairs.collect())
    }

    #[test]
    fn settings_survive_the_address() {
        let models = [model("a", 3), model("b", 9)];
        let chosen =
            Settings { class: 7, plan: PlanChoice::Preset(1), count: 3, ..Settings::new(11) };
        let request = chosen.for_model(&models[1]).request(&models[1]).unwrap();
        let (again, left_out) = Address::of_request(&request).apply(Settings::new(99), &models);
        assert_eq!(again.request(again.model(&models).unwrap()), Ok(request));
        assert_eq!(again.plan, PlanChoice::Preset(1));
        assert!(left_out.is_empty(), "{left_out:?}");
    }

    #[test]
    fn what_reads_is_taken_and_what_does_not_is_told() {
        let models = [model("a", 5)];
        for (query, class, seed, words) in [
            (&[("class", "3"), ("seed", "5")][..], 3, "5", &[][..]),
            (&[("class", "3"), ("seed", "abc")], 3, "1", &["abc"]),
            (&[("class", "3"), ("seed", "9007199254740993")], 3, "1", &["9007199254740993"]),
            (&[("class", "3"), ("seed", "-1")], 3, "1", &["-1"]),
            (&[("class", "class 4"), ("seed", "5")], 4, "5", &[]),
            (&[("class", "Class_4"), ("seed", " 5")], 4, "5", &[]),
            (&[("class", "nothing"), ("seed", "5")], 0, "5", &["nothing"]),
            (&[("class", "clas 4"), ("seed", "5")], 4, "5", &["taken for class 4"]),
            (&[("class", "12"), ("seed", "5")], 0, "5", &["12"]),
            (&[("class", "3"), ("seed", "5"), ("utm_source", "x")], 3, "5", &[]),
            (&[("class", "3"), ("count", "99"), ("seed", "5")], 3, "5", &["99"]),
            (&[("class", "3"), ("seed", "5"), ("plan", "{")], 3, "5", &["{"]),
            (&[("model", "gone"), ("class", "2")], 2, "1", &["gone"]),
            (&[("last_frame_first", "perhaps"), ("class", "2")], 2, "1", &["perhaps"]),
        ] {
            let (settings, left_out) = address(query).apply(Settings::new(1), &models);
            assert_eq!((settings.class, settings.seed.as_str()), (class, seed), "{query:?}");
            assert_eq!(left_out.len(), words.len(), "{query:?}: {left_out:?}");
            for (word, told) in words.iter().zip(&left_out) {
                assert!(told.contains(word), "{query:?}: {told}");
            }
            assert!(settings.request(&models[0]).is_ok(), "{settings:?}");
        }
    }

    #[test]
    fn a_link_that_names_pictures_means_one_unless_it_says_how_many() {
        let models = [model("a", 5)];
        let eight = Settings { count: 8, ..Settings::new(1) };
        for (query, count) in [
            (&[("class", "3"), ("seed", "5")][..], 1),
            (&[("plan", "2-steps")], 1),
            (&[("seed", "5"), ("count", "3")], 3),
            (&[("seed", "5"), ("count", "many")], 8),
            (&[("last_frame_first", "true")], 8),
        ] {
            assert_eq!(address(query).apply(eight.clone(), &models).0.count, count, "{query:?}");
        }
    }

    #[test]
    fn a_plan_is_known_by_the_name_of_its_preset_or_as_json() {
        let models = [model("a", 3)];
        for text in ["2 steps", "2-steps", "2_Steps"] {
            let (settings, left_out) = address(&[("plan", text)]).apply(Settings::new(1), &models);
            assert_eq!(settings.plan, PlanChoice::Preset(1), "{text}");
            assert!(left_out.is_empty());
        }
        let own = r#"{"kind":"few_step","t_list":[0,1],"loss_split_t":3}"#;
        let (settings, _) = address(&[("plan", own)]).apply(Settings::new(1), &models);
        assert_eq!(settings.plan, PlanChoice::Custom);
        let wrong = r#"{"kind":"few_step","t_list":[0,9],"loss_split_t":3}"#;
        let (settings, left_out) = address(&[("plan", wrong)]).apply(Settings::new(1), &models);
        assert_eq!(settings.plan, PlanChoice::Preset(0));
        assert_eq!(left_out.len(), 1);
    }

    #[test]
    fn a_part_of_a_plan_is_changed_by_its_own_name() {
        let mut model = model("a", 3);
        let guidance = Guidance { cfg: 1.0, top_k: 0, top_p: 0.0 };
        model.plans.push(PlanPreset::new("teacher", Plan::Teacher { guidance }));
        let models = [model];
        let plan = |query: &[(&str, &str)]| {
            let (settings, left_out) = address(query).apply(Settings::new(1), &models);
            (settings.plan(&models[0]).unwrap(), left_out)
        };
        let all = [("top_p", "0.9"), ("cfg", "2"), ("plan", "teacher"), ("top-k", "5")];
        let guidance = Guidance { cfg: 2.0, top_k: 5, top_p: 0.9 };
        assert_eq!(plan(&all), (Plan::Teacher { guidance }, vec![]));
        let three = Plan::FewStep { t_list: vec![0, 1, 2], loss_split_t: 4 };
        assert_eq!(plan(&[("split", "4"), ("steps", "3")]), (three, vec![]));
        let (unchanged, left_out) = plan(&[("cfg", "2")]);
        assert_eq!(unchanged, models[0].plans[0].plan);
        assert!(left_out.len() == 1 && left_out[0].contains("teacher"), "{left_out:?}");
        let (_, left_out) = plan(&[("plan", "teacher"), ("top-p", "much")]);
        assert!(left_out.len() == 1 && left_out[0].contains("much"), "{left_out:?}");
    }

    #[test]
    fn what_the_page_writes_is_in_words() {
        let plan = Plan::FewStep { t_list: vec![0, 2], loss_split_t: 3 };
        let request = GenerateRequest { seed: Some(5), ..GenerateRequest::new(1, plan.clone()) };
        let written = Address::of_request(&request);
        assert_eq!(written.plan.as_deref(), Some("student=0,2;split=3"));
        let models = [model("a", 3)];
        let (settings, left_out) = written.apply(Settings::new(1), &models);
        assert_eq!((settings.plan(&models[0]), left_out), (Ok(plan), vec![]));
    }

    #[test]
    fn the_seed_of_an_address_is_for_one_picture_unless_seeds_are_kept() {
        let models = [model("a", 3)];
        for seed_locked in [false, true] {
            let now = Settings { seed_locked, seed_used: true, ..Settings::new(1) };
            let linked = address(&[("seed", "5")]).apply(now, &models).0.ready(7);
            assert_eq!((linked.seed.as_str(), linked.seed_locked), ("5", seed_locked));
            let next = linked.used().ready(7);
            assert_eq!(next.seed, if seed_locked { "5" } else { "7" });
        }
    }

    #[test]
    fn a_name_that_looks_like_a_setting_is_told() {
        let models = [model("a", 3)];
        for (typed, meant) in [
            ("sead", "seed"),
            ("Class", "class"),
            ("plna", "plan"),
            ("last-frame-first", "last_frame_first"),
            ("topk", "top-k"),
        ] {
            let (settings, left_out) = address(&[(typed, "1")]).apply(Settings::new(1), &models);
            let told = left_out.join("; ");
            assert!(told.contains(typed) && told.contains(&format!("“{meant}”")), "{told}");
            assert_eq!((settings.class, settings.seed.as_str()), (0, "1"));
        }
        for other in ["planet", "utm_campaign", "gclid", "ref", "mode", "id", "see"] {
            let address = address(&[(other, "1")]);
            assert!(address.is_empty() == (other != "mode"), "{other}: {address:?}");
        }
    }

    #[test]
    fn a_comparison_is_asked_for_by_its_plans() {
        let models = [model("a", 5)];
        let compared = |query: &[(&str, &str)]| {
            let before =
                Settings { compared: vec![models[0].plans[1].plan.clone()], ..Settings::new(1) };
            address(query).apply_to_comparison(before, &models)
        };
        let [one, two] = [0, 1].map(|preset| models[0].plans[preset].plan.clone());
        let own = Plan::FewStep { t_list: vec![0, 1], loss_split_t: 1 };
        let words = plan_words(&own);
        for (plans, expected) in [
            (&["1 step,2-steps"][..], vec![one.clone(), two.clone()]),
            (&["2 steps", "1 step", "2 steps"], vec![two.clone(), one.clone()]),
            (&[&words, "1 step"], vec![own, one]),
        ] {
            let plans = plans.iter().map(|plan| ("plans", *plan));
            let query: Vec<_> = plans.chain([("class", "4"), ("seed", "7")]).collect();
            let (settings, left_out) = compared(&query);
            assert_eq!((settings.compared, left_out), (expected, vec![]), "{query:?}");
            assert_eq!((settings.class, settings.seed.as_str()), (4, "7"));
        }
        let (settings, left_out) = compared(&[("plans", "1 step,nothing"), ("class", "4")]);
        assert!(left_out.len() == 1 && left_out[0].contains("nothing"), "{left_out:?}");
        let [one, _] = [0, 1].map(|preset| models[0].plans[preset].plan.clone());
        assert_eq!((settings.compared, settings.class), (vec![one], 4));
        let (_, left_out) = address(&[("plans", "1 step")]).apply(Settings::new(1), &models);
        assert!(left_out.len() == 1 && left_out[0].contains("comparison"), "{left_out:?}");
    }

    #[test]
    fn a_broken_comparison_leaves_its_class_and_seed() {
        let models = [model("a", 5)];
        for (link, class, seed, count) in [
            ("c/a/4-class-4/7/student=0;split=3/nonsense", 4, "7", 1),
            ("c/a/4-class-4/7", 4, "7", 0),
            // Of a model that is not here, the name of the class counts.
            ("c/gone/9-class-4/7/student=0;split=3", 4, "7", 1),
            ("c/a/4/-1", 4, "1", 0),
        ] {
            let address = Address::of_comparison(link, &models);
            let (settings, left_out) = address.apply_to_comparison(Settings::new(1), &models);
            assert_eq!((settings.class, settings.seed.as_str()), (class, seed), "{link}");
            assert_eq!(settings.compared.len(), count, "{link}");
            let told = link.contains("gone").then(|| "there is no model “gone” here".to_owned());
            assert_eq!(left_out, Vec::from_iter(told), "{link}");
        }
    }

    #[test]
    fn an_address_without_settings_asks_for_nothing() {
        assert!(address(&[("utm_source", "x"), ("fbclid", "y")]).is_empty());
        assert!(!address(&[("seed", "")]).is_empty());
    }

    #[test]
    fn an_address_says_whether_the_finished_picture_comes_first_or_leaves_it_as_it_is() {
        let models = [model("a", 3)];
        for (chosen, now) in [(true, false), (false, true)] {
            let settings = Settings { last_frame_first: chosen, ..Settings::new(1) };
            let query = Address::of_request(&settings.request(&models[0]).unwrap());
            let now = Settings { last_frame_first: now, ..Settings::new(2) };
            assert_eq!(query.apply(now, &models).0.last_frame_first, chosen);
        }
        let hurried = Settings { last_frame_first: true, ..Settings::new(1) };
        assert!(address(&[("class", "1")]).apply(hurried, &models).0.last_frame_first);
    }
}
