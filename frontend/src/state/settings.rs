//! The controls: what a person chose, and the request that it makes.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{GenerateRequest, ModelInfo, Plan, seed_of};

use super::custom_plan::{CustomPlan, Field, Problem};

/// Seeds that the page picks itself are short enough to be read out.
pub(crate) const PICKED_SEEDS: u64 = 1_000_000_000;

/// Which plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlanChoice {
    /// One of the model's presets, by its number.
    Preset(usize),
    /// The one in the editor.
    Custom,
}

/// Everything that a person set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Name of the model; the server's first one if absent or not loaded.
    pub(crate) model: Option<String>,
    pub(crate) class: usize,
    pub(crate) plan: PlanChoice,
    pub(crate) custom: CustomPlan,
    /// As typed.
    pub(crate) seed: String,
    /// Whether the seed stays from picture to picture.
    pub(crate) seed_locked: bool,
    /// Whether the seed gave pictures already.
    pub(crate) seed_used: bool,
    pub(crate) count: u32,
    /// Whether the finished picture comes before the steps to it.
    pub(crate) last_frame_first: bool,
    /// Plans ticked for a comparison; none until the person ticks some.
    pub(crate) compared: Vec<Plan>,
    /// Whether a person, or an address, chose any of this; else it gives way to the settings of
    /// what is shown first.
    pub(crate) chosen: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Settings {
    /// Settings of a first visit.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            model: None,
            class: 0,
            plan: PlanChoice::Preset(0),
            custom: CustomPlan::default(),
            seed: seed.to_string(),
            seed_locked: false,
            seed_used: false,
            count: 1,
            last_frame_first: false,
            compared: Vec::new(),
            chosen: false,
        }
    }

    /// The chosen one of the loaded models.
    pub(crate) fn model<'a>(&self, models: &'a [ModelInfo]) -> Option<&'a ModelInfo> {
        let chosen = models.iter().find(|model| Some(&model.name) == self.model.as_ref());
        chosen.or_else(|| models.first())
    }

    /// With a seed that was just picked or typed.
    pub(crate) fn with_seed(self, seed: String) -> Self {
        Self { seed, seed_used: false, ..self }
    }

    /// With a seed that a person gave: it stays until it is unlocked.
    pub(crate) fn typed_seed(self, seed: String) -> Self {
        let seed_locked = self.seed_locked || seed_of(&seed).is_ok();
        Self { seed_locked, ..self.with_seed(seed) }
    }

    /// With another seed (`fresh`) if the one here gave pictures already and is not locked.
    pub(crate) fn ready(self, fresh: u64) -> Self {
        if self.next_seed().is_none() { self.with_seed(fresh.to_string()) } else { self }
    }

    /// Once the seed was asked for.
    pub(crate) fn used(self) -> Self {
        Self { seed_used: true, ..self }
    }

    /// For another model than the one of `models` that they are for: class and plan keep their
    /// names, where the other has some of these; what it does not have gives way to its first.
    pub(crate) fn for_other_model(self, model: &ModelInfo, models: &[ModelInfo]) -> Self {
        let Some(before) = self.model(models) else { return self.for_model(model) };
        let class = same_name(self.class, &before.classes, &model.classes, |name| name);
        let plan = match self.plan {
            PlanChoice::Preset(index) => {
                let place = same_name(index, &before.plans, &model.plans, |preset| &preset.name);
                PlanChoice::Preset(place.unwrap_or(0))
            }
            PlanChoice::Custom => PlanChoice::Custom,
        };
        Self { class: class.unwrap_or(self.class), plan, ..self }.for_model(model)
    }

    /// For a model: what it does not have gives way to its first.
    pub(crate) fn for_model(self, model: &ModelInfo) -> Self {
        let class = if self.class < model.classes.len() { self.class } else { 0 };
        let plan = match self.plan {
            PlanChoice::Preset(index) if index >= model.plans.len() => PlanChoice::Preset(0),
            plan => plan,
        };
        Self { model: Some(model.name.clone()), class, plan, ..self }
    }

    /// With a plan: the preset that it is, else in the editor.
    pub(super) fn with_plan(self, plan: &Plan, model: &ModelInfo) -> Self {
        match model.plans.iter().position(|preset| preset.plan == *plan) {
            // What was put together in the editor stays there.
            Some(preset) => Self { plan: PlanChoice::Preset(preset), ..self },
            None => {
                let custom = CustomPlan::of(plan, &self.custom);
                Self { plan: PlanChoice::Custom, custom, ..self }
            }
        }
    }

    /// With the editor open: on what was put together there before, else on the plan that is chosen
    /// now.
    pub(crate) fn customised(self, model: &ModelInfo) -> Self {
        match self.plan {
            PlanChoice::Preset(index) if self.custom == CustomPlan::default() => {
                self.started_from(index, model)
            }
            _ => Self { plan: PlanChoice::Custom, ..self },
        }
    }

    /// With the editor open on a preset.
    pub(crate) fn started_from(self, preset: usize, model: &ModelInfo) -> Self {
        let custom =
            model.plans.get(preset).map(|preset| CustomPlan::of(&preset.plan, &self.custom));
        Self { plan: PlanChoice::Custom, custom: custom.unwrap_or_default(), ..self }
    }

    /// Whether both draw the same picture.
    pub(crate) fn draws_as(&self, other: &Self, models: &[ModelInfo]) -> bool {
        let request = |settings: &Self| {
            let alone = Self { count: 1, last_frame_first: false, ..settings.clone() };
            alone.request(alone.model(models)?).ok()
        };
        request(self) == request(other)
    }

    /// Which seed the next picture gets: the one that is written here, or another.
    pub(crate) fn next_seed(&self) -> Option<&str> {
        (self.seed_locked || !self.seed_used).then_some(&*self.seed)
    }

    /// The seed as a number.
    ///
    /// # Errors
    /// When the field holds none.
    pub(crate) fn seed(&self) -> Result<u64, Problem> {
        seed_of(&self.seed).map_err(|message| Problem::new(Field::Seed, message))
    }

    /// The plan.
    ///
    /// # Errors
    /// When the editor holds none that the model can run.
    pub(crate) fn plan(&self, model: &ModelInfo) -> Result<Plan, Problem> {
        let plan =
            match self.plan {
                PlanChoice::Preset(index) => {
                    model.plans.get(index).map(|preset| preset.plan.clone()).ok_or_else(|| {
                        Problem::new(Field::Plan, "the model has no such plan".into())
                    })?
                }
                PlanChoice::Custom => self.custom.plan(model.scales())?,
            };
        if plan.needs_teacher() && !model.has_teacher {
            let message = format!("it needs a teacher, which {:?} does not have", model.name);
            return Err(Problem::new(Field::Plan, message));
        }
        Ok(plan)
    }

    /// The request.
    ///
    /// # Errors
    /// The first field that is amiss.
    pub(crate) fn request(&self, model: &ModelInfo) -> Result<GenerateRequest, Problem> {
        if self.class >= model.classes.len() {
            let message = format!("{} of {} classes", self.class, model.classes.len());
            return Err(Problem::new(Field::Class, message));
        }
        Ok(GenerateRequest {
            model: Some(model.name.clone()),
            class: self.class as u32,
            plan: self.plan(model)?,
            seed: Some(self.seed()?),
            count: self.count,
            last_frame_first: self.last_frame_first,
            deadline_ms: None,
            explore: None,
        })
    }
}

/// Where there is one of the name that stands at a place of `before`: at the same place if it can
/// be, since some names stand twice.
fn same_name<T>(at: usize, before: &[T], now: &[T], name: fn(&T) -> &String) -> Option<usize> {
    let wanted = name(before.get(at)?);
    let is_it = |other: &T| name(other) == wanted;
    match now.get(at) {
        Some(same) if is_it(same) => Some(at),
        _ => now.iter().position(is_it),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use var_dd_protocol::PlanPreset;

    use super::*;
    use crate::state::job::tests::two_steps;

    pub(crate) fn model(name: &str, classes: usize) -> ModelInfo {
        let one_step = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        ModelInfo {
            name: name.into(),
            image_size: 64,
            patch_nums: vec![1, 2, 3, 4],
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            plans: vec![
                PlanPreset::new("1 step", one_step),
                PlanPreset::new("2 steps", two_steps()),
            ],
            has_teacher: true,
            depth: 2,
            vocabulary: 64,
            parameters: 1,
            device: "cpu".into(),
            dtype: "f32".into(),
        }
    }

    #[test]
    fn a_seed_changes_from_picture_to_picture_unless_it_is_locked_or_new() {
        let first = Settings::new(5).ready(6);
        assert_eq!(first.seed, "5");
        let second = first.used().ready(6);
        assert_eq!(second.seed, "6");
        let locked = Settings { seed_locked: true, ..second.used() }.ready(7);
        assert_eq!(locked.seed, "6");
        assert_eq!(locked.with_seed("9".into()).ready(7).seed, "9");
    }

    #[test]
    fn a_typed_seed_stays_until_it_is_unlocked() {
        let typed = Settings::new(5).typed_seed("12".into());
        assert!(typed.seed_locked);
        assert_eq!(typed.used().ready(6).seed, "12");
        let cleared = Settings::new(5).typed_seed(String::new());
        assert!(!cleared.seed_locked, "an empty field locks nothing");
    }

    #[test]
    fn settings_are_kept_as_text_and_old_ones_still_read() {
        let settings = Settings { plan: PlanChoice::Custom, count: 4, ..Settings::new(5) };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        let old: Settings = serde_json::from_str(r#"{"class":2,"other":1}"#).unwrap();
        assert_eq!((old.class, old.count), (2, 1));
    }

    #[test]
    fn class_and_plan_keep_their_names_from_model_to_model() {
        let before = [model("a", 4)];
        let mut other = model("b", 4);
        other.classes.reverse();
        other.plans.reverse();
        let settings = Settings { class: 1, plan: PlanChoice::Preset(1), ..Settings::new(1) };
        let there = settings.clone().for_other_model(&other, &before);
        assert_eq!((there.class, there.plan), (2, PlanChoice::Preset(0)));
        assert_eq!(there.model.as_deref(), Some("b"));

        // What the other does not have gives way to its first.
        other.plans.retain(|preset| preset.name == "1 step");
        let fewer = settings.clone().for_other_model(&other, &before);
        assert_eq!(fewer.plan, PlanChoice::Preset(0));
        let own = Settings { plan: PlanChoice::Custom, ..settings };
        assert_eq!(own.for_other_model(&other, &before).plan, PlanChoice::Custom);

        // Of two with one name, the one that was chosen.
        let twins = [ModelInfo { classes: vec!["crane".into(); 2], ..model("a", 2) }];
        let second = Settings { class: 1, ..Settings::new(1) };
        assert_eq!(second.for_other_model(&twins[0], &twins).class, 1);
    }

    #[test]
    fn the_editor_opens_on_the_plan_that_was_chosen() {
        let model = model("a", 3);
        let settings =
            Settings { plan: PlanChoice::Preset(1), ..Settings::new(1) }.customised(&model);
        assert_eq!(settings.plan, PlanChoice::Custom);
        assert_eq!(settings.plan(&model), Ok(two_steps()));
        let elsewhere = Settings { plan: PlanChoice::Preset(0), ..settings };
        let back = elsewhere.customised(&model);
        assert_eq!(back.plan(&model), Ok(two_steps()), "what was put together is not lost");
        assert_ne!(back.started_from(0, &model).plan(&model), Ok(two_steps()));

        // A preset that a link brought leaves the editor to the one that is chosen then.
        let linked = Settings::new(1).with_plan(&two_steps(), &model);
        assert_eq!(linked.plan, PlanChoice::Preset(1));
        let chosen = Settings { plan: PlanChoice::Preset(0), ..linked }.customised(&model);
        assert_eq!(chosen.plan(&model).as_ref(), Ok(&model.plans[0].plan));
    }
}
