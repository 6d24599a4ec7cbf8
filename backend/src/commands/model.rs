//! Which model a command uses, where it runs, and how it draws.

use std::path::{Path, PathBuf};

use clap::Args;
use var_dd_engine::{
    bundle::Bundle,
    config::Config,
    sample::plan::{Guidance, Plan, PlanFlags},
};
use var_dd_protocol::MAX_SEED;

use super::suggestion::did_you_mean;
use crate::{
    config::{models_of_variable, models_or},
    device_args::NetworkArgs,
    usage_error::UsageError,
};

/// The demo model as it lies in the source tree that the program was built from.
const DEMO_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../static/demo-model");

/// The model of commands that are given none: `demo-model` beside the program if it was installed
/// so, else the one of the source tree.
pub fn default_model() -> PathBuf {
    let beside =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("demo-model")));
    let installed = beside.filter(|directory| directory.join("config.json").is_file());
    installed.unwrap_or_else(|| {
        let source = Path::new(DEMO_MODEL);
        // Shorter in messages, where the tree still exists.
        source.canonicalize().unwrap_or_else(|_| source.to_owned())
    })
}

/// A model and where its networks run.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Directory of the model, as `var-dd convert` makes it [default: the first one of the variable
    /// VAR_DD_MODEL, else the demo model].
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Where the networks run, and in which numbers.
    #[command(flatten)]
    pub network: NetworkArgs,
}

impl ModelArgs {
    /// Directory of the model.
    pub fn directory(&self) -> PathBuf {
        let first = || models_of_variable().into_iter().next();
        self.model.clone().or_else(first).unwrap_or_else(default_model)
    }

    /// Directories of all models that are named: by the flag, else by the variable.
    pub fn directories(&self) -> Vec<PathBuf> {
        models_or(self.model.clone().into_iter().collect(), default_model)
    }
}

/// A plan as the released scripts' flags spell it.
#[derive(Args, Clone, Debug, Default)]
pub struct PlanArgs {
    /// First scale of each student pass, as in `0` (one step) or `0,5` (two steps).
    #[arg(
        long,
        value_name = "T,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        value_parser = scale,
    )]
    pub t_list: Vec<u32>,
    /// Tokens of scales before this one are codewords, from it on regressed vectors: 0 to the
    /// number of scales.
    #[arg(
        long,
        value_name = "SCALE",
        requires = "t_list",
        conflicts_with = "autoregressive",
        allow_negative_numbers = true,
        value_parser = scale
    )]
    pub loss_split_t: Option<u32>,
    /// Teacher-involved: the teacher draws the scales from this one up to the second number of
    /// --t-list. 0 counts too: no draft then.
    #[arg(
        long,
        visible_alias = "teacher-start",
        value_name = "SCALE",
        requires = "t_list",
        allow_negative_numbers = true,
        value_parser = scale
    )]
    pub t_teacher_start: Option<u32>,
    /// Let the teacher alone draw, scale by scale.
    #[arg(long, conflicts_with_all = ["t_list", "t_teacher_start"])]
    pub autoregressive: bool,
    /// Strength of classifier-free guidance at the last scale (teacher only) [default: the plan's
    /// own; 2.0 with --t-list or --autoregressive].
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub cfg: Option<f64>,
    /// Codewords kept before each draw; 0 keeps all (teacher only) [default: the plan's own; 900
    /// with --t-list or --autoregressive].
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true, value_parser = count)]
    pub top_k: Option<u32>,
    /// Probability mass kept before each draw; 0 keeps all (teacher only) [default: the plan's own;
    /// 0.95 with --t-list or --autoregressive].
    #[arg(long, value_name = "MASS", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Run the teacher's given prefix block-causally. The released code, whose scores are
    /// published, lets every prefix position see every other.
    #[arg(long, requires = "t_teacher_start", conflicts_with = "autoregressive")]
    pub causal_prefix: bool,
}

/// A scale as typed; whether the model has it is for the plan to say.
pub(super) fn scale(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "scales are whole numbers from 0 on".to_owned())
}

/// A seed as typed: the playground, which is written in JavaScript's numbers, takes the same ones.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    let seed = text.trim().parse::<u64>().ok().filter(|seed| *seed <= MAX_SEED);
    seed.ok_or_else(|| format!("seeds are whole numbers from 0 to {MAX_SEED}"))
}

/// A count of codewords as typed. Beyond those that there can be, all are meant.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let count = text.parse::<u64>().map_err(|_| "it must be a whole number, 0 or more".to_owned());
    count.map(|count| count.try_into().unwrap_or(u32::MAX))
}

impl PlanArgs {
    /// Whether any flag describes a plan.
    pub fn is_given(&self) -> bool {
        !self.t_list.is_empty() || self.autoregressive
    }

    /// The flags as given.
    fn flags(&self) -> PlanFlags {
        PlanFlags {
            t_list: Some(self.t_list.clone()),
            loss_split_t: self.loss_split_t,
            t_teacher_start: self.t_teacher_start,
            autoregressive: self.autoregressive,
            cfg: self.cfg,
            top_k: self.top_k,
            top_p: self.top_p,
            causal_prefix: self.causal_prefix,
        }
    }

    /// The plan that the flags describe, sound for a model.
    ///
    /// # Errors
    /// The first bound that is broken, with the value.
    pub fn resolve(&self, config: &Config) -> Result<Plan, UsageError> {
        if !self.autoregressive && self.loss_split_t.is_none() {
            return Err(UsageError(format!(
                "--loss-split-t is missing; give the first scale whose tokens are regressed, from \
                 0 to {}",
                config.scales()
            )));
        }
        let plan = self.flags().plan().map_err(|error| UsageError(error.to_string()))?;
        self.checked(plan, config)
    }

    /// The preset of this name with the teacher's law as given over its own.
    ///
    /// # Errors
    /// When there is none of this name, with the names that there are.
    pub fn preset(&self, name: &str, config: &Config) -> Result<Plan, UsageError> {
        let named = config.plans.iter().find(|preset| preset.name.eq_ignore_ascii_case(name));
        let preset = named.ok_or_else(|| {
            let names: Vec<_> =
                config.plans.iter().map(|preset| format!("{:?}", preset.name)).collect();
            let near = did_you_mean(name, config.plans.iter().map(|preset| preset.name.as_str()));
            UsageError(format!(
                "model {:?} has no plan {name:?}{near}; it has {}",
                config.name,
                names.join(", ")
            ))
        })?;
        self.checked(preset.plan.clone(), config)
    }

    fn checked(&self, mut plan: Plan, config: &Config) -> Result<Plan, UsageError> {
        match &mut plan {
            Plan::TeacherInvolved { guidance, .. } | Plan::Teacher { guidance } => {
                *guidance = self.flags().guidance(*guidance);
            }
            Plan::FewStep { .. } => {
                // Without effect, but no number all the same.
                self.flags()
                    .guidance(Guidance::default())
                    .validate()
                    .map_err(|error| UsageError(error.to_string()))?;
                let flags = [
                    ("--cfg", self.cfg.is_some()),
                    ("--top-k", self.top_k.is_some()),
                    ("--top-p", self.top_p.is_some()),
                ];
                if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
                    // The released script takes --cfg with few-step plans and ignores it; so do we,
                    // but say so.
                    tracing::warn!("{flag} has no effect: this plan has no teacher");
                }
            }
        }
        config.check_plan(&plan).map_err(|error| UsageError(error.to_string()))?;
        Ok(plan)
    }
}

/// Refuses a plan that needs a teacher on a model without one.
///
/// # Errors
/// Then.
pub fn check_teacher(plan: &Plan, bundle: &Bundle) -> Result<(), UsageError> {
    if plan.needs_teacher() && !bundle.has_teacher() {
        return Err(UsageError(format!(
            "this plan needs the teacher, and model {:?} has none; convert it with --teacher, or \
             choose a few-step plan",
            bundle.config.name
        )));
    }
    Ok(())
}
