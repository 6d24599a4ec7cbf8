//! A grid of pictures: one setting changes from column to column, another from row to row.

use crate::{GenerateRequest, Guidance, MAX_SEED, ModelInfo, Plan, classes, number_of, seed_of};

/// Most columns, and most rows, of a grid.
pub const GRID_SIDE: usize = 12;

/// What changes along a side of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The class, by its name or number.
    Class,
    /// The seed.
    Seed,
    /// A preset, by its name.
    Plan,
    /// Passes of the student, evenly over the scales.
    Steps,
    /// Scales whose tokens are codewords.
    Split,
    /// Strength of the teacher's guidance.
    Cfg,
    /// How many codewords the teacher draws among.
    TopK,
    /// How much of its law the teacher draws from.
    TopP,
}

impl Axis {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Class,
        Self::Seed,
        Self::Plan,
        Self::Steps,
        Self::Split,
        Self::Cfg,
        Self::TopK,
        Self::TopP,
    ];

    /// Its name, in words and in addresses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Seed => "seed",
            Self::Plan => "plan",
            Self::Steps => "steps",
            Self::Split => "split",
            Self::Cfg => "cfg",
            Self::TopK => "top-k",
            Self::TopP => "top-p",
        }
    }

    /// The one of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|axis| axis.name() == name)
    }

    /// What an address says of a side, `seed: 1-4`: what changes, and its values.
    pub fn of_side(text: &str) -> Option<(Self, String)> {
        let (name, values) = text.split_once(':').unwrap_or((text, ""));
        Some((Self::of_name(name.trim())?, values.trim().to_owned()))
    }

    /// Changes one setting of a request to what a text says.
    ///
    /// # Errors
    /// What is amiss, in words.
    pub fn set(
        self,
        text: &str,
        request: &mut GenerateRequest,
        model: &ModelInfo,
    ) -> Result<(), String> {
        self.value(text.trim(), model)?.set.apply(request, model.scales())
    }

    /// Values to begin with.
    pub fn suggestion(self, model: &ModelInfo) -> String {
        let scales = model.scales();
        match self {
            Self::Class => {
                let first = |name: &String| name.split(',').next().unwrap_or_default().to_owned();
                model.classes.iter().take(4).map(first).collect::<Vec<_>>().join(", ")
            }
            Self::Seed => "1-4".into(),
            Self::Plan => {
                let names = model.plans.iter().take(GRID_SIDE).map(|preset| preset.name.as_str());
                let names: Vec<_> = names.collect();
                names.join(if names.iter().any(|name| name.contains(',')) { "; " } else { ", " })
            }
            Self::Steps => format!("1-{}", scales.min(4)),
            Self::Split => format!("0-{}", scales.min(GRID_SIDE as u32 - 1)),
            Self::Cfg => "0, 1, 2, 4".into(),
            Self::TopK => "1, 10, 100, 900".into(),
            Self::TopP => "0.5, 0.8, 0.95, 1".into(),
        }
    }

    /// The values that a text lists ([`listed`]). Whole numbers also as `1-4`.
    ///
    /// # Errors
    /// What is amiss, in words.
    pub fn values(self, text: &str, model: &ModelInfo) -> Result<Vec<GridValue>, String> {
        let mut values = Vec::new();
        for part in listed(text) {
            match range(part).filter(|_| self.is_whole()) {
                Some((first, last)) => {
                    for number in first..=last.min(first + GRID_SIDE as u64) {
                        values.push(self.value(&number.to_string(), model)?);
                    }
                }
                None => values.push(self.value(part, model)?),
            }
        }
        match values.len() {
            0 => Err(format!("{}: write one value or more, with commas between them", self.name())),
            count if count > GRID_SIDE => {
                Err(format!("{}: at most {GRID_SIDE} values have room, here are more", self.name()))
            }
            _ => Ok(values),
        }
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Seed | Self::Steps | Self::Split | Self::TopK)
    }

    fn value(self, text: &str, model: &ModelInfo) -> Result<GridValue, String> {
        let no = |what: String| format!("{}: “{text}” {what}", self.name());
        let scales = model.scales();
        let whole = |from: u32, to: u32| {
            let number = text.parse::<u32>().ok().filter(|number| (from..=to).contains(number));
            number.ok_or_else(|| no(format!("is no whole number from {from} to {to}")))
        };
        let decimal = |to: f64| {
            let number = number_of(text).filter(|number| (0.0..=to).contains(number));
            number.ok_or_else(|| no(format!("is no number from 0 to {to}")))
        };
        let set = match self {
            Self::Class => {
                let class = classes::of_text(&model.classes, text);
                Set::Class(class.ok_or_else(|| no(format!("is no class of {}", model.name)))? as u32)
            }
            Self::Seed => Set::Seed(seed_of(text).map_err(|why| format!("seed: {why}"))?),
            Self::Plan => {
                let plan = model.plan_of_text(text);
                Set::Plan(plan.ok_or_else(|| no(format!("is no plan of {}", model.name)))?)
            }
            Self::Steps => Set::Steps(whole(1, scales)?),
            Self::Split => Set::Split(whole(0, scales)?),
            Self::Cfg => Set::Cfg(decimal(100.0)?),
            Self::TopK => Set::TopK(whole(0, 1_000_000)?),
            Self::TopP => Set::TopP(decimal(1.0)?),
        };
        let label = match &set {
            Set::Class(class) => {
                let name = model.classes.get(*class as usize);
                name.and_then(|name| name.split(',').next()).unwrap_or(text).to_owned()
            }
            Set::Plan(_) => text.to_owned(),
            Set::Steps(1) => "1 step".into(),
            Set::Steps(count) => format!("{count} steps"),
            _ => format!("{} {text}", self.name()),
        };
        Ok(GridValue { label, set })
    }
}

/// What a text lists between commas; between semicolons where one is in the text, since names may
/// have commas.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    let separator = if text.contains(';') { ';' } else { ',' };
    text.split(separator).map(str::trim).filter(|part| !part.is_empty())
}

/// Two whole numbers with a hyphen between them, in order.
fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once(['-', '–'])?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last <= MAX_SEED).then_some((first, last))
}

/// One value of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct GridValue {
    /// It in words.
    pub label: String,
    set: Set,
}

#[derive(Clone, Debug, PartialEq)]
enum Set {
    Class(u32),
    Seed(u64),
    Plan(Plan),
    Steps(u32),
    Split(u32),
    Cfg(f64),
    TopK(u32),
    TopP(f64),
}

impl Set {
    /// Whether it chooses the plan as a whole, which comes before what changes a part of it.
    fn is_plan(&self) -> bool {
        matches!(self, Self::Plan(_) | Self::Steps(_))
    }

    fn apply(&self, request: &mut GenerateRequest, scales: u32) -> Result<(), String> {
        let mut guidance = |change: &dyn Fn(&mut Guidance)| match &mut request.plan {
            Plan::TeacherInvolved { guidance, .. } | Plan::Teacher { guidance } => {
                change(guidance);
                Ok(())
            }
            Plan::FewStep { .. } => Err("cfg, top-k and top-p are the teacher’s: choose a plan \
                in which it draws"
                .to_owned()),
        };
        match self {
            Self::Class(class) => request.class = *class,
            Self::Seed(seed) => request.seed = Some(*seed),
            Self::Plan(plan) => request.plan = plan.clone(),
            Self::Cfg(cfg) => return guidance(&|guidance| guidance.cfg = *cfg),
            Self::TopK(top_k) => return guidance(&|guidance| guidance.top_k = *top_k),
            Self::TopP(top_p) => return guidance(&|guidance| guidance.top_p = *top_p),
            Self::Split(split) => match &mut request.plan {
                Plan::FewStep { loss_split_t, .. } | Plan::TeacherInvolved { loss_split_t, .. } => {
                    *loss_split_t = *split
                }
                Plan::Teacher { .. } => {
                    return Err(
                        "the teacher alone has no split: choose a plan with the student".to_owned()
                    );
                }
            },
            Self::Steps(count) => {
                let split = match &request.plan {
                    Plan::FewStep { loss_split_t, .. }
                    | Plan::TeacherInvolved { loss_split_t, .. } => *loss_split_t,
                    Plan::Teacher { .. } => scales / 2,
                };
                // Evenly over the scales.
                let t_list = (0..*count).map(|step| step * scales / count).collect();
                request.plan = Plan::FewStep { t_list, loss_split_t: split };
            }
        }
        Ok(())
    }
}

/// The whole grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// What changes across, and what changes down.
    pub axes: (Axis, Axis),
    /// The values of the columns.
    pub across: Vec<GridValue>,
    /// The values of the rows.
    pub down: Vec<GridValue>,
    /// The request of each picture, row by row.
    pub cells: Vec<GenerateRequest>,
}

impl Grid {
    /// The grid of two lists of values around a request.
    ///
    /// # Errors
    /// What is amiss, in words.
    pub fn new(
        base: &GenerateRequest,
        across: (Axis, &str),
        down: (Axis, &str),
        model: &ModelInfo,
    ) -> Result<Self, String> {
        if across.0 == down.0 {
            return Err(format!("both sides change the {}: choose another one", across.0.name()));
        }
        let columns = across.0.values(across.1, model)?;
        let rows = down.0.values(down.1, model)?;
        if columns.iter().chain(&rows).filter(|value| value.set.is_plan()).count()
            > columns.len().max(rows.len())
            && columns[0].set.is_plan()
            && rows[0].set.is_plan()
        {
            return Err("plan and steps both choose the plan: change something else".into());
        }
        let mut cells = Vec::with_capacity(columns.len() * rows.len());
        for row in &rows {
            for column in &columns {
                let mut request = base.clone();
                let mut sets = [&column.set, &row.set];
                sets.sort_by_key(|set| !set.is_plan());
                for set in sets {
                    set.apply(&mut request, model.scales())?;
                }
                let at = || format!("{}, {}", column.label, row.label);
                request
                    .plan
                    .validate(model.scales())
                    .map_err(|error| format!("{}: {error}", at()))?;
                if request.plan.needs_teacher() && !model.has_teacher {
                    return Err(format!("{}: {} has no teacher", at(), model.name));
                }
                cells.push(request);
            }
        }
        Ok(Self { axes: (across.0, down.0), across: columns, down: rows, cells })
    }

    /// The grid that the pairs of an address name, with its model; what they leave out is the first
    /// class, the first plan and seed 0. `across` and `down` say what changes, as in `seed: 1-4`.
    ///
    /// # Errors
    /// What is amiss, in words.
    pub fn of_pairs<'a>(
        pairs: &[(String, String)],
        models: &'a [ModelInfo],
    ) -> Result<(Self, &'a ModelInfo), String> {
        let value = |name: &str| pairs.iter().rfind(|(other, _)| other == name).map(|(_, at)| at);
        let side = |name: &str| {
            let text = value(name).ok_or_else(|| format!("it does not say what changes {name}"))?;
            Axis::of_side(text).ok_or_else(|| format!("“{text}” is nothing that can change {name}"))
        };
        let (across, down) = (side("across")?, side("down")?);
        let model = match value("model") {
            Some(name) => models.iter().find(|model| model.name == *name),
            None => models.first(),
        };
        let model = model.ok_or("there is no such model here")?;
        let first = model.plans.first().ok_or("the model offers no plan")?;
        let mut base = GenerateRequest::new(0, first.plan.clone());
        (base.model, base.seed) = (Some(model.name.clone()), Some(0));
        for axis in [Axis::Class, Axis::Plan, Axis::Seed] {
            if let Some(text) = value(axis.name()) {
                axis.set(text, &mut base, model)?;
            }
        }
        let grid = Self::new(&base, (across.0, &across.1), (down.0, &down.1), model)?;
        Ok((grid, model))
    }

    /// Whether the plan is not the same everywhere.
    pub fn changes_plan(&self) -> bool {
        self.cells.windows(2).any(|pair| pair[0].plan != pair[1].plan)
    }

    /// What it shows, in few words: the class, unless that changes, and what changes.
    pub fn title(&self, model: &ModelInfo) -> String {
        let (across, down) = self.axes;
        let what = format!("{} and {}", across.name(), down.name());
        let class = self.cells.first().map(|cell| cell.class as usize);
        match class.and_then(|class| model.classes.get(class)) {
            Some(class) if ![across, down].contains(&Axis::Class) => format!("{class}: {what}"),
            _ => what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PlanPreset, model::tests::model};

    fn base() -> GenerateRequest {
        let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        GenerateRequest { seed: Some(5), ..GenerateRequest::new(1, plan) }
    }

    #[test]
    fn a_grid_changes_one_setting_along_each_side() {
        let model = model("a", 9);
        let across = (Axis::Seed, "1-3, 7");
        let grid = Grid::new(&base(), across, (Axis::Class, "class 4; 2"), &model).unwrap();
        let labels: Vec<_> = grid.across.iter().map(|value| value.label.as_str()).collect();
        assert_eq!(labels, ["seed 1", "seed 2", "seed 3", "seed 7"]);
        let cells: Vec<_> = grid.cells.iter().map(|cell| (cell.class, cell.seed)).collect();
        let seeds = [Some(1), Some(2), Some(3), Some(7)];
        let expected: Vec<_> =
            [4, 2].into_iter().flat_map(|class| seeds.map(|seed| (class, seed))).collect();
        assert_eq!(cells, expected);
    }

    #[test]
    fn the_plan_comes_before_what_changes_a_part_of_it() {
        let mut model = model("a", 9);
        let guidance = Guidance { cfg: 1.0, top_k: 0, top_p: 0.0 };
        model.plans.push(PlanPreset::new("teacher", Plan::Teacher { guidance }));
        for sides in [
            [(Axis::Cfg, "0.5, 3"), (Axis::Plan, "teacher")],
            [(Axis::Plan, "teacher"), (Axis::Cfg, "0.5, 3")],
        ] {
            let grid = Grid::new(&base(), sides[0], sides[1], &model).unwrap();
            let cfgs: Vec<f64> = grid
                .cells
                .iter()
                .map(|cell| match cell.plan {
                    Plan::Teacher { guidance } => guidance.cfg,
                    _ => panic!("another plan"),
                })
                .collect();
            assert_eq!(cfgs, [0.5, 3.0]);
        }
        let grid = Grid::new(&base(), (Axis::Steps, "1-4"), (Axis::Split, "0,4"), &model).unwrap();
        assert_eq!(grid.cells[1].plan, Plan::FewStep { t_list: vec![0, 2], loss_split_t: 0 });
        assert_eq!(grid.cells[7].plan, Plan::FewStep { t_list: vec![0, 1, 2, 3], loss_split_t: 4 });
    }

    #[test]
    fn what_is_amiss_is_told() {
        let model = model("a", 9);
        for (across, down, part) in [
            ((Axis::Seed, ""), (Axis::Class, "1"), "write one value"),
            ((Axis::Seed, "1-13"), (Axis::Class, "1"), "at most 12"),
            ((Axis::Seed, "1-999999999999"), (Axis::Class, "1"), "at most 12"),
            ((Axis::Seed, "x"), (Axis::Class, "1"), "“x” is no seed"),
            ((Axis::Seed, "1"), (Axis::Seed, "2"), "both sides"),
            ((Axis::Class, "owl"), (Axis::Seed, "2"), "“owl” is no class of a"),
            ((Axis::Plan, "9 steps"), (Axis::Seed, "2"), "“9 steps” is no plan of a"),
            ((Axis::Steps, "5"), (Axis::Seed, "2"), "from 1 to 4"),
            ((Axis::Cfg, "1,2"), (Axis::Seed, "2"), "the teacher’s"),
            ((Axis::TopP, "1.5"), (Axis::Seed, "2"), "from 0 to 1"),
            ((Axis::Plan, "1 step"), (Axis::Steps, "2"), "both choose the plan"),
        ] {
            let told = Grid::new(&base(), across, down, &model).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn every_axis_has_a_name_and_values_to_begin_with() {
        let mut model = model("a", 9);
        let guidance = Guidance { cfg: 1.0, top_k: 0, top_p: 0.0 };
        model.plans.push(PlanPreset::new("teacher, 4 steps", Plan::Teacher { guidance }));
        for axis in Axis::ALL {
            assert_eq!(Axis::of_name(axis.name()), Some(axis));
            let values = axis.values(&axis.suggestion(&model), &model);
            assert!(values.is_ok_and(|values| values.len() > 1), "{axis:?}");
        }
    }

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn an_address_names_a_grid_and_says_what_it_shows() {
        let models = [model("a", 9), model("b", 5)];
        let query = pairs(&[
            ("across", "seed: 1-3"),
            ("down", "plan: 1 step, 2 steps"),
            ("model", "b"),
            ("class", "class 4"),
            ("utm_source", "x"),
        ]);
        let (grid, model) = Grid::of_pairs(&query, &models).unwrap();
        assert_eq!((model.name.as_str(), grid.cells.len()), ("b", 6));
        assert_eq!(grid.title(model), "class 4: seed and plan");
        assert!(grid.cells.iter().all(|cell| cell.class == 4 && cell.model.is_some()));
        let classes = pairs(&[("across", "class: 1, 2"), ("down", "seed: 7")]);
        let (grid, model) = Grid::of_pairs(&classes, &models).unwrap();
        assert_eq!((model.name.as_str(), &*grid.title(model)), ("a", "class and seed"));
        for (query, part) in [
            (&[][..], "does not say what changes across"),
            (&[("across", "seed: 1")], "changes down"),
            (&[("across", "colour: red"), ("down", "seed: 1")], "can change across"),
            (&[("across", "seed: 1"), ("down", "cfg: 1"), ("model", "gone")], "no such model"),
            (&[("across", "seed: 1"), ("down", "plan: 1 step"), ("class", "owl")], "no class"),
            (&[("across", "seed: 1-99"), ("down", "plan: 1 step")], "at most 12"),
        ] {
            let told = Grid::of_pairs(&pairs(query), &models).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn one_setting_of_a_request_is_changed_by_words() {
        let model = model("a", 9);
        let guidance = Guidance { cfg: 1.0, top_k: 0, top_p: 0.0 };
        let mut request = GenerateRequest::new(1, Plan::Teacher { guidance });
        Axis::Cfg.set(" 2.5", &mut request, &model).unwrap();
        Axis::TopK.set("900", &mut request, &model).unwrap();
        let Plan::Teacher { guidance } = request.plan else { panic!("another plan") };
        assert_eq!((guidance.cfg, guidance.top_k), (2.5, 900));
        let told = Axis::Cfg.set("much", &mut request, &model).unwrap_err();
        assert!(told.contains("much"), "{told}");
    }
}
