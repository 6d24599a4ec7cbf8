//! What the server has to offer.

use serde::{Deserialize, Serialize};

use crate::{GenerateRequest, JobId, Plan, PlanPreset, classes::plain, comparison::plan_of_words};

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelInfo {
    /// Its name, unique on this server; names the model in a request.
    pub name: String,
    /// Side of a picture in pixels.
    pub image_size: u32,
    /// Side of each scale's token map, increasing.
    pub patch_nums: Vec<u32>,
    /// Class names; the class number is the index.
    pub classes: Vec<String>,
    /// Plans offered, cheapest first. The first one is the default.
    pub plans: Vec<PlanPreset>,
    /// Whether plans with a teacher can run.
    pub has_teacher: bool,
    /// Transformer depth.
    pub depth: u32,
    /// Codewords of the tokenizer.
    pub vocabulary: u32,
    /// Parameters of the student.
    pub parameters: u64,
    /// Device, as `cpu` or `cuda:0`.
    pub device: String,
    /// Number type of the networks, as `f32` or `bf16`.
    pub dtype: String,
}

impl ModelInfo {
    /// Number of scales `S`.
    pub fn scales(&self) -> u32 {
        self.patch_nums.len() as u32
    }

    /// What draws a request in a few words, if it has a name: what is done with a picture at hand,
    /// or the preset that its plan is.
    pub fn plan_name(&self, request: &GenerateRequest) -> Option<String> {
        let done = request.done_with_picture(&self.patch_nums);
        done.or_else(|| self.preset_name(&request.plan).map(str::to_owned))
    }

    /// The name of the preset that a plan is, if it is one.
    pub fn preset_name(&self, plan: &Plan) -> Option<&str> {
        let preset = self.plans.iter().find(|preset| preset.plan == *plan)?;
        Some(&preset.name)
    }

    /// The plan that a text means, if this model can run it: the name of a preset (`2 steps`,
    /// `2-steps`), a plan as addresses spell it (`student=0,5;split=5`), or JSON.
    pub fn plan_of_text(&self, text: &str) -> Option<Plan> {
        let preset = self.plans.iter().find(|preset| plain(&preset.name) == plain(text));
        let plan = preset
            .map(|preset| preset.plan.clone())
            .or_else(|| plan_of_words(text.trim()))
            .or_else(|| serde_json::from_str(text).ok())?;
        let can_run = self.has_teacher || !plan.needs_teacher();
        (can_run && plan.validate(self.scales()).is_ok()).then_some(plan)
    }
}

/// The server as a whole: body of `GET /api/info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// [`crate::PROTOCOL_VERSION`] of the server.
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Loaded models; the first one is the default.
    pub models: Vec<ModelInfo>,
    /// Most pictures in one job.
    pub max_pictures: u32,
    /// A finished result to show before the first click, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<JobId>,
}

/// A page of recent results, newest first: body of `GET /api/results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResultPage {
    /// The results.
    pub results: Vec<crate::JobView>,
    /// Value of `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Guidance;

    /// A model of four scales with so many classes.
    pub(crate) fn model(name: &str, classes: usize) -> ModelInfo {
        let few_step = |t_list: &[u32]| Plan::FewStep { t_list: t_list.to_vec(), loss_split_t: 2 };
        ModelInfo {
            name: name.into(),
            image_size: 64,
            patch_nums: vec![1, 2, 3, 4],
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            plans: vec![
                PlanPreset::new("1 step", few_step(&[0])),
                PlanPreset::new("2 steps", few_step(&[0, 2])),
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
    fn a_plan_is_meant_by_its_name_by_words_or_as_json() {
        let model = model("a", 3);
        for text in ["2 steps", "2-steps", "2_Steps", "student=0,2;split=2"] {
            assert_eq!(model.plan_of_text(text), Some(model.plans[1].plan.clone()), "{text}");
        }
        let json = serde_json::to_string(&model.plans[0].plan).unwrap();
        assert_eq!(model.plan_of_text(&json), Some(model.plans[0].plan.clone()));
        for text in ["", "9 steps", "student=0,9;split=2", "{", "student=0,1"] {
            assert_eq!(model.plan_of_text(text), None, "{text}");
        }
        let guidance = Guidance { cfg: 1.0, top_k: 0, top_p: 0.0 };
        let teacher = crate::plan_words(&Plan::Teacher { guidance });
        assert!(model.plan_of_text(&teacher).is_some());
        let alone = ModelInfo { has_teacher: false, ..model };
        assert_eq!(alone.plan_of_text(&teacher), None, "there is no teacher");
    }
}
