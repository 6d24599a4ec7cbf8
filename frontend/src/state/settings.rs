//! The controls: what a person chose, and the request that it makes.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{GenerateRequest, MAX_SEED, ModelInfo, Plan};

use super::custom_plan::{CustomPlan, Field, Problem};

/// Seeds that the page picks itself are short enough to be read out.
pub(crate) const PICKED_SEEDS: u64 = 1_000_000_000;

/// Which plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanChoice {
    /// One of the model's presets, by its number.
    Preset(usize),
    /// The one in the editor.
    Custom,
}

/// Everything that a person set.
#[derive(Clone, Debug, PartialEq)]
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

    /// With another seed (`fresh`) if the one here gave pictures already and is not locked.
    pub(crate) fn ready(self, fresh: u64) -> Self {
        if self.seed_used && !self.seed_locked { self.with_seed(fresh.to_string()) } else { self }
    }

    /// Once the seed was asked for.
    pub(crate) fn used(self) -> Self {
        Self { seed_used: true, ..self }
    }

    /// For another model: what it does not have gives way to its first.
    pub(crate) fn for_model(self, model: &ModelInfo) -> Self {
        let class = if self.class < model.classes.len() { self.class } else { 0 };
        let plan = match self.plan {
            PlanChoice::Preset(index) if index >= model.plans.len() => PlanChoice::Preset(0),
            plan => plan,
        };
        Self { model: Some(model.name.clone()), class, plan, ..self }
    }

    /// With a plan: the preset that it is, else in the editor.
    fn with_plan(self, plan: &Plan, model: &ModelInfo) -> Self {
        let custom = CustomPlan::of(plan, &self.custom);
        let preset = model.plans.iter().position(|preset| preset.plan == *plan);
        Self { plan: preset.map_or(PlanChoice::Custom, PlanChoice::Preset), custom, ..self }
    }

    /// With the editor opened on the plan that is chosen now.
    pub(crate) fn customised(self, model: &ModelInfo) -> Self {
        match self.plan {
            PlanChoice::Preset(index) => {
                let custom =
                    model.plans.get(index).map(|preset| CustomPlan::of(&preset.plan, &self.custom));
                Self { plan: PlanChoice::Custom, custom: custom.unwrap_or_default(), ..self }
            }
            PlanChoice::Custom => self,
        }
    }

    /// The seed as a number.
    ///
    /// # Errors
    /// When the field holds none.
    pub(crate) fn seed(&self) -> Result<u64, Problem> {
        match self.seed.trim().parse::<u64>() {
            Ok(seed) if seed <= MAX_SEED => Ok(seed),
            Ok(seed) => Err(Problem::new(Field::Seed, format!("{seed} is above {MAX_SEED}"))),
            Err(_) => {
                let message =
                    format!("{:?} is not a whole number from 0 to {MAX_SEED}", self.seed.trim());
                Err(Problem::new(Field::Seed, message))
            }
        }
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
        })
    }
}

/// Settings in the address of the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SettingsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<usize>,
    /// As JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_frame_first: Option<bool>,
}

impl SettingsQuery {
    /// The settings that gave a job.
    pub(crate) fn of(request: &GenerateRequest) -> Self {
        Self {
            model: request.model.clone(),
            class: Some(request.class as usize),
            plan: serde_json::to_string(&request.plan).ok(),
            seed: request.seed,
            count: Some(request.count),
            last_frame_first: Some(request.last_frame_first),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Settings with everything that the address says and a loaded model can do.
    pub(crate) fn apply(&self, settings: Settings, models: &[ModelInfo]) -> Settings {
        let mut settings =
            Settings { model: self.model.clone().or(settings.model.clone()), ..settings };
        let Some(model) = settings.model(models).cloned() else { return settings };
        if let Some(class) = self.class {
            settings.class = class;
        }
        if let Some(plan) = self.plan.as_deref().and_then(|plan| serde_json::from_str(plan).ok()) {
            settings = settings.with_plan(&plan, &model);
        }
        if let Some(seed) = self.seed {
            settings = settings.with_seed(seed.to_string());
        }
        if let Some(count) = self.count {
            settings.count = count.clamp(1, var_dd_protocol::MAX_PICTURES);
        }
        if let Some(last_frame_first) = self.last_frame_first {
            settings.last_frame_first = last_frame_first;
        }
        settings.for_model(&model)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use var_dd_protocol::PlanPreset;

    use super::*;
    use crate::state::job::tests::two_steps;

    pub(crate) fn model(name: &str, classes: usize) -> ModelInfo {
        let preset = |name: &str, plan| PlanPreset { name: name.into(), plan, fid: None };
        let one_step = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        ModelInfo {
            name: name.into(),
            image_size: 64,
            patch_nums: vec![1, 2, 3, 4],
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            plans: vec![preset("1 step", one_step), preset("2 steps", two_steps())],
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
    fn a_seed_beyond_what_json_keeps_is_refused() {
        let seed = |seed: &str| Settings::new(0).with_seed(seed.into()).seed().is_ok();
        assert!(seed(&MAX_SEED.to_string()) && seed(" 7 "));
        assert!(!seed(&(MAX_SEED + 1).to_string()) && !seed("") && !seed("-1") && !seed("1e3"));
    }

    #[test]
    fn settings_survive_the_address() {
        let models = [model("a", 3), model("b", 9)];
        let chosen =
            Settings { class: 7, plan: PlanChoice::Preset(1), count: 3, ..Settings::new(11) };
        let chosen = chosen.for_model(&models[1]);
        let request = chosen.request(&models[1]).unwrap();
        let query = SettingsQuery::of(&request);
        let again = query.apply(Settings::new(99), &models);
        assert_eq!(again.request(again.model(&models).unwrap()), Ok(request));
        assert_eq!(again.plan, PlanChoice::Preset(1));
    }

    #[test]
    fn an_address_says_whether_the_finished_picture_comes_first_or_leaves_it_as_it_is() {
        let models = [model("a", 3)];
        for (chosen, now) in [(true, false), (false, true)] {
            let settings = Settings { last_frame_first: chosen, ..Settings::new(1) };
            let query = SettingsQuery::of(&settings.request(&models[0]).unwrap());
            let now = Settings { last_frame_first: now, ..Settings::new(2) };
            assert_eq!(query.apply(now, &models).last_frame_first, chosen);
        }
        let hurried = Settings { last_frame_first: true, ..Settings::new(1) };
        assert!(SettingsQuery::default().apply(hurried, &models).last_frame_first);
    }

    #[test]
    fn an_address_that_asks_for_what_is_not_there_gives_what_is() {
        let models = [model("a", 3)];
        let query = SettingsQuery {
            model: Some("gone".into()),
            class: Some(12),
            plan: Some("{".into()),
            seed: None,
            count: Some(99),
            last_frame_first: None,
        };
        let settings = query.apply(Settings::new(1), &models);
        assert!(settings.request(&models[0]).is_ok(), "{settings:?}");
        assert_eq!((settings.class, settings.count), (0, 8));
    }

    #[test]
    fn the_editor_opens_on_the_plan_that_was_chosen() {
        let model = model("a", 3);
        let settings =
            Settings { plan: PlanChoice::Preset(1), ..Settings::new(1) }.customised(&model);
        assert_eq!(settings.plan, PlanChoice::Custom);
        assert_eq!(settings.plan(&model), Ok(two_steps()));
    }
}
