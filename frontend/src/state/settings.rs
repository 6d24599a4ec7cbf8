//! The controls: what a person chose, and the request that it makes.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{GenerateRequest, MAX_SEED, ModelInfo, Plan};

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

/// The kind of plan in the editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CustomKind {
    FewStep,
    TeacherInvolved,
    Teacher,
}

impl CustomKind {
    pub(crate) const ALL: [Self; 3] = [Self::FewStep, Self::TeacherInvolved, Self::Teacher];

    /// Value of its option in the editor.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FewStep => "few-step",
            Self::TeacherInvolved => "teacher-involved",
            Self::Teacher => "teacher",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The editor's fields as typed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CustomPlan {
    pub(crate) kind: CustomKind,
    pub(crate) t_list: String,
    pub(crate) split: String,
    pub(crate) start: String,
    pub(crate) cfg: String,
    pub(crate) top_k: String,
    pub(crate) top_p: String,
    pub(crate) causal_prefix: bool,
}

impl Default for CustomPlan {
    fn default() -> Self {
        Self {
            kind: CustomKind::FewStep,
            t_list: "0".into(),
            split: "0".into(),
            start: "0".into(),
            cfg: "2".into(),
            top_k: "900".into(),
            top_p: "0.95".into(),
            causal_prefix: false,
        }
    }
}

impl CustomPlan {
    /// The fields that give `plan`; those that it has no value for stay as they are.
    fn of(plan: &Plan, before: &Self) -> Self {
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let mut custom = before.clone();
        let mut law = |cfg: f64, top_k: u32, top_p: f64| {
            (custom.cfg, custom.top_k, custom.top_p) =
                (cfg.to_string(), top_k.to_string(), top_p.to_string());
        };
        match plan {
            Plan::FewStep { t_list, loss_split_t } => {
                custom.kind = CustomKind::FewStep;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
            }
            Plan::TeacherInvolved {
                t_list,
                loss_split_t,
                teacher_start,
                cfg,
                top_k,
                top_p,
                causal_prefix,
            } => {
                law(*cfg, *top_k, *top_p);
                custom.kind = CustomKind::TeacherInvolved;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
                custom.start = teacher_start.to_string();
                custom.causal_prefix = *causal_prefix;
            }
            Plan::Teacher { cfg, top_k, top_p } => {
                law(*cfg, *top_k, *top_p);
                custom.kind = CustomKind::Teacher;
            }
        }
        custom
    }

    /// The plan.
    ///
    /// # Errors
    /// The field that is amiss, and why, with the bound and the value.
    pub(crate) fn plan(&self, scales: u32) -> Result<Plan, Problem> {
        let whole = |field, text: &str| {
            text.trim()
                .parse::<u32>()
                .map_err(|_| Problem::new(field, format!("{text:?} is not a whole number")))
        };
        let at_most = |field, text: &str, most: u32| match whole(field, text)? {
            value if value <= most => Ok(value),
            value => Err(Problem::new(field, format!("{value} is above {most}"))),
        };
        let law = || {
            let cfg = decimal(Field::Cfg, &self.cfg)?;
            let top_p = decimal(Field::TopP, &self.top_p)?;
            if !(0.0..=1.0).contains(&top_p) {
                return Err(Problem::new(Field::TopP, format!("{top_p} is not within 0…1")));
            }
            Ok((cfg, whole(Field::TopK, &self.top_k)?, top_p))
        };
        match self.kind {
            CustomKind::FewStep => {
                let t_list = self.t_list()?;
                if t_list.first() != Some(&0) {
                    return Err(Problem::new(Field::TList, "the first pass starts at scale 0".into()));
                }
                if let Some(pair) = t_list.windows(2).find(|pair| pair[0] >= pair[1]) {
                    return Err(Problem::new(
                        Field::TList,
                        format!("{} does not come after {}", pair[1], pair[0]),
                    ));
                }
                if let Some(step) = t_list.iter().find(|&&step| step >= scales) {
                    let most = scales.saturating_sub(1);
                    return Err(Problem::new(
                        Field::TList,
                        format!("{step} is above the last scale, {most}"),
                    ));
                }
                Ok(Plan::FewStep { t_list, loss_split_t: at_most(Field::Split, &self.split, scales)? })
            }
            CustomKind::TeacherInvolved => {
                let t_list = self.t_list()?;
                let [a, b] = t_list[..] else {
                    let message = format!("two scales are needed, here are {}", t_list.len());
                    return Err(Problem::new(Field::TList, message));
                };
                if b > scales {
                    return Err(Problem::new(Field::TList, format!("{b} is above {scales}")));
                }
                if a >= scales {
                    let most = scales.saturating_sub(1);
                    return Err(Problem::new(Field::TList, format!("{a} is above the last scale, {most}")));
                }
                let most = b.min(scales.saturating_sub(1));
                let teacher_start = at_most(Field::Start, &self.start, most)?;
                let loss_split_t = at_most(Field::Split, &self.split, scales)?;
                let (cfg, top_k, top_p) = law()?;
                let causal_prefix = self.causal_prefix;
                Ok(Plan::TeacherInvolved {
                    t_list: [a, b],
                    loss_split_t,
                    teacher_start,
                    cfg,
                    top_k,
                    top_p,
                    causal_prefix,
                })
            }
            CustomKind::Teacher => {
                let (cfg, top_k, top_p) = law()?;
                Ok(Plan::Teacher { cfg, top_k, top_p })
            }
        }
    }

    fn t_list(&self) -> Result<Vec<u32>, Problem> {
        let parts = self.t_list.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        let number = |part: &str| {
            part.parse().map_err(|_| Problem::new(Field::TList, format!("{part:?} is not a whole number")))
        };
        parts.map(number).collect()
    }
}

fn decimal(field: Field, text: &str) -> Result<f64, Problem> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Problem::new(field, format!("{text:?} is not a number"))),
    }
}

/// A field of the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Class,
    Seed,
    Plan,
    TList,
    Split,
    Start,
    Cfg,
    TopK,
    TopP,
}

impl Field {
    /// What the page calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Seed => "seed",
            Self::Plan => "plan",
            Self::TList => "passes start at",
            Self::Split => "codewords before scale",
            Self::Start => "teacher from scale",
            Self::Cfg => "guidance",
            Self::TopK => "top-k",
            Self::TopP => "top-p",
        }
    }
}

/// What is amiss in a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) field: Field,
    pub(crate) message: String,
}

impl Problem {
    fn new(field: Field, message: String) -> Self {
        Self { field, message }
    }
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
                let custom = model.plans.get(index).map(|preset| CustomPlan::of(&preset.plan, &self.custom));
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
                let message = format!("{:?} is not a whole number from 0 to {MAX_SEED}", self.seed.trim());
                Err(Problem::new(Field::Seed, message))
            }
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// When the editor holds none that the model can run.
    pub(crate) fn plan(&self, model: &ModelInfo) -> Result<Plan, Problem> {
        let plan = match self.plan {
            PlanChoice::Preset(index) => model
                .plans
                .get(index)
                .map(|preset| preset.plan.clone())
                .ok_or_else(|| Problem::new(Field::Plan, "the model has no such plan".into()))?,
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
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Settings with everything that the address says and a loaded model can do.
    pub(crate) fn apply(&self, settings: Settings, models: &[ModelInfo]) -> Settings {
        let mut settings = Settings { model: self.model.clone().or(settings.model.clone()), ..settings };
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

    fn custom(kind: CustomKind, t_list: &str, split: &str, start: &str) -> Result<Plan, Field> {
        let custom = CustomPlan {
            kind,
            t_list: t_list.into(),
            split: split.into(),
            start: start.into(),
            ..CustomPlan::default()
        };
        custom.plan(4).map_err(|problem| problem.field)
    }

    #[test]
    fn a_few_step_plan_starts_at_0_and_increases_below_the_number_of_scales() {
        use CustomKind::FewStep;
        assert_eq!(custom(FewStep, "0, 2", "2", ""), Ok(two_steps()));
        assert_eq!(custom(FewStep, "0 2", "4", "").map(|plan| plan.passes(4).len()), Ok(2));
        for t_list in ["", "1", "0,2,2", "0,3,1", "0,4", "0,x", "0,-1"] {
            assert_eq!(custom(FewStep, t_list, "2", ""), Err(Field::TList), "{t_list}");
        }
        for split in ["", "5", "-1", "1.5"] {
            assert_eq!(custom(FewStep, "0", split, ""), Err(Field::Split), "{split}");
        }
    }

    #[test]
    fn a_teacher_involved_plan_keeps_its_bounds() {
        use CustomKind::TeacherInvolved;
        for (t_list, start) in [("0,3", "2"), ("0,4", "3"), ("0,3", "3"), ("0,0", "0")] {
            assert!(custom(TeacherInvolved, t_list, "2", start).is_ok(), "{t_list} from {start}");
        }
        for t_list in ["0", "0,1,2", "0,5", "4,4"] {
            assert_eq!(custom(TeacherInvolved, t_list, "2", "0"), Err(Field::TList), "{t_list}");
        }
        for (t_list, start) in [("0,2", "3"), ("0,4", "4"), ("0,3", "x")] {
            assert_eq!(
                custom(TeacherInvolved, t_list, "2", start),
                Err(Field::Start),
                "{t_list} from {start}"
            );
        }
    }

    #[test]
    fn the_law_of_the_teacher_is_checked() {
        let with = |cfg: &str, top_k: &str, top_p: &str| {
            let custom = CustomPlan {
                kind: CustomKind::Teacher,
                cfg: cfg.into(),
                top_k: top_k.into(),
                top_p: top_p.into(),
                ..CustomPlan::default()
            };
            custom.plan(4).map_err(|problem| problem.field)
        };
        assert!(with("1.5", "0", "1").is_ok());
        assert_eq!(with("NaN", "0", "0"), Err(Field::Cfg));
        assert_eq!(with("1", "-1", "0"), Err(Field::TopK));
        assert_eq!(with("1", "0", "1.01"), Err(Field::TopP));
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
        let chosen = Settings { class: 7, plan: PlanChoice::Preset(1), count: 3, ..Settings::new(11) };
        let chosen = chosen.for_model(&models[1]);
        let request = chosen.request(&models[1]).unwrap();
        let query = SettingsQuery::of(&request);
        let again = query.apply(Settings::new(99), &models);
        assert_eq!(again.request(again.model(&models).unwrap()), Ok(request));
        assert_eq!(again.plan, PlanChoice::Preset(1));
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
        };
        let settings = query.apply(Settings::new(1), &models);
        assert!(settings.request(&models[0]).is_ok(), "{settings:?}");
        assert_eq!((settings.class, settings.count), (0, 8));
    }

    #[test]
    fn the_editor_opens_on_the_plan_that_was_chosen() {
        let model = model("a", 3);
        let settings = Settings { plan: PlanChoice::Preset(1), ..Settings::new(1) }.customised(&model);
        assert_eq!(settings.plan, PlanChoice::Custom);
        assert_eq!(settings.plan(&model), Ok(two_steps()));
    }
}
