//! A result or a comparison in words, as its card, its page and other sites tell it.

use var_dd_protocol::{Axis, Comparison, Grid, JobState, JobView, ModelInfo, Plan};

use super::{
    link::{Asked, Walked},
    results,
};

/// What a result shows.
pub(super) fn title(view: &JobView, picture: Option<usize>) -> String {
    match (view.request.count, picture) {
        (1, _) => view.class_name.clone(),
        (count, None) => format!("{}, {count} pictures", view.class_name),
        (count, Some(index)) => format!("{}, picture {} of {count}", view.class_name, index + 1),
    }
}

/// How a result was made, in two lines.
pub(super) fn lines(view: &JobView) -> Vec<String> {
    let plan = results::plan_name(view);
    let took = view.timings.map(|timings| duration(timings.last_frame_ms - timings.queue_ms));
    let how = match (view.state, took) {
        (JobState::Finished, Some(took)) => format!("Drawn by {plan} in {took}"),
        (JobState::Finished, None) => format!("Drawn by {plan}"),
        (JobState::Queued | JobState::Running, _) => format!("Being drawn by {plan}"),
        _ => format!("{plan}; not finished"),
    };
    let seed = view.request.seed.unwrap_or_default();
    let model = view.request.model.as_deref().unwrap_or("the default model");
    vec![how, format!("{model} · seed {seed}")]
}

/// A time as people read it.
pub(super) fn duration(ms: f64) -> String {
    match ms.max(0.0) {
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// A plan by its name among the model's presets, else by what it runs.
pub(super) fn plan_name(plan: &Plan, model: &ModelInfo) -> String {
    if let Some(name) = model.preset_name(plan) {
        return name.to_owned();
    }
    let passes = plan.passes(model.scales()).len();
    let what = if plan.needs_teacher() { "with teacher" } else { "of the student" };
    format!("{passes} {} {what}", if passes == 1 { "step" } else { "steps" })
}

/// The class of a comparison.
pub(super) fn class_name(comparison: &Comparison, model: &ModelInfo) -> String {
    let name = model.classes.get(comparison.class as usize).cloned();
    name.unwrap_or_else(|| format!("class {}", comparison.class))
}

/// A number of pictures in words.
pub(super) fn pictures(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

/// What a comparison shows.
pub(super) fn of_comparison(comparison: &Comparison, model: &ModelInfo) -> String {
    let names: Vec<_> = comparison.plans.iter().map(|plan| plan_name(plan, model)).collect();
    format!("{}: {}", class_name(comparison, model), names.join(" against "))
}

/// How a link asks for a picture to be drawn, in two lines.
pub(super) fn of_asked(asked: &Asked) -> Vec<String> {
    let how = match &asked.plan {
        Some(plan) => format!("To be drawn by {}", plan_name(plan, &asked.model)),
        None => "To be drawn scale by scale".to_owned(),
    };
    let seed = asked.seed.map(|seed| format!(" · seed {seed}")).unwrap_or_default();
    vec![how, format!("{}{seed}", asked.model.name)]
}

/// What lies around a place of the pad.
pub(super) fn of_walk(walked: &Walked) -> String {
    let [one, two, three, four] = walked.names();
    format!("Between {one}, {two}, {three} and {four}")
}

/// A place of the pad or a walk over it, in a sentence.
pub(super) fn how_walked(walked: &Walked) -> String {
    match walked.pictures {
        Some(count) => format!(
            "A closed walk of {count} pictures between four, each drawn in one step by {}.",
            walked.model.name
        ),
        None => format!(
            "A picture between four others. Drag, and it is drawn anew at every place in one \
             step by {}.",
            walked.model.name
        ),
    }
}

/// What a grid shows, in a sentence.
pub(super) fn of_grid(grid: &Grid, model: &ModelInfo) -> String {
    let (across, down) = grid.axes;
    let values = |values: &[var_dd_protocol::GridValue]| {
        let labels: Vec<_> = values.iter().map(|value| value.label.as_str()).collect();
        labels.join(", ")
    };
    let mut fixed = Vec::new();
    if let Some(first) = grid.cells.first() {
        if ![across, down].contains(&Axis::Seed) {
            fixed.push(format!("seed {}", first.seed.unwrap_or_default()));
        }
        if !grid.changes_plan() {
            fixed.push(plan_name(&first.plan, model));
        }
    }
    fixed.push(model.name.clone());
    format!(
        "{}: {} across, {} down; {}.",
        pictures(grid.cells.len()),
        values(&grid.across),
        values(&grid.down),
        fixed.join(", ")
    )
}
