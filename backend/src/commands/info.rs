//! `var-dd info`: what a model is and where it would run.

use std::path::Path;

use clap::Args;
use var_dd_engine::{
    bundle::Bundle,
    device::{device_name, kind_name},
    input_file::shown,
    ops::Ops,
    sample::plan::PassKind,
};

use super::model::ModelArgs;
use crate::out;

/// What `--model` is here; most commands take the first one of the variable.
const MODEL_HELP: &str = "Directory of the model, as `var-dd convert` makes it [default: all of \
    the variable VAR_DD_MODEL, else the demo model]";

/// Flags of `var-dd info`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("model", |arg| arg.help(MODEL_HELP)))]
#[command(after_long_help = "Example: var-dd info --model models/d16")]
pub struct InfoArgs {
    #[command(flatten)]
    model: ModelArgs,
}

/// Prints device, dtype, model, sizes and plans.
///
/// # Errors
/// When the device cannot be used or the model is not whole.
pub fn run(args: &InfoArgs) -> anyhow::Result<()> {
    let ops = args.model.network.open()?;
    for (index, directory) in args.model.directories().iter().enumerate() {
        let text = describe(directory, &ops, args)?;
        let gap = if index > 0 { "\n" } else { "" };
        out!("{gap}{text}")?;
    }
    Ok(())
}

/// What there is to say of a model, a line each.
fn describe(directory: &Path, ops: &Ops, args: &InfoArgs) -> anyhow::Result<String> {
    let bundle = Bundle::open(directory)?;
    let kind = args.model.network.kind_for(ops.device(), &bundle.config);
    // Loading is the proof that the weights are whole.
    let sampler = bundle.sampler(ops, kind)?;
    let config = &bundle.config;
    let transformer = &config.transformer;
    let side = config.image_size();
    let mut lines = String::new();
    let mut row = |name: &str, text: String| lines += &format!("{name:<12}{text}\n");
    row("program", format!("var-dd {}", env!("CARGO_PKG_VERSION")));
    row("device", device_name(ops.device()));
    row("dtype", kind_name(kind).into());
    row("model", format!("{} ({})", shown(&config.name), directory.display()));
    row("pictures", format!("{side}×{side}, {} classes", config.num_classes));
    let scales: Vec<_> = config.patch_nums.iter().map(|side| format!("{side}×{side}")).collect();
    row("scales", format!("{}: {} tokens", scales.join(" "), config.tokens()));
    row(
        "tokenizer",
        format!("{} codewords of {} channels", config.vocabulary, config.latent_channels),
    );
    row(
        "transformer",
        format!(
            "depth {}, width {}, {} heads: {} parameters",
            transformer.depth,
            transformer.width,
            transformer.heads,
            grouped(sampler.parameters)
        ),
    );
    row("teacher", if sampler.teacher.is_some() { "yes" } else { "no" }.into());
    for (index, preset) in config.plans.iter().enumerate() {
        let plan = &preset.plan;
        let passes = config.passes(plan);
        let frames: usize = passes.iter().map(|pass| pass.scales().len()).sum();
        let count = |kind| passes.iter().filter(|pass| pass.kind == kind).count();
        let parts = [
            (count(PassKind::Draft), "draft"),
            (count(PassKind::Teacher), "teacher"),
            (count(PassKind::Student), "student"),
        ];
        let parts: Vec<_> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
        let fid = preset.fid.map(|fid| format!(", published FID {fid}")).unwrap_or_default();
        let missing = if plan.needs_teacher() && sampler.teacher.is_none() {
            ", needs a teacher"
        } else {
            ""
        };
        row(
            if index == 0 { "plans" } else { "" },
            format!(
                "{:?}: {} ({}), {frames} frames{fid}{missing}  {}",
                preset.name,
                counted(passes.len(), "pass", "passes"),
                parts.join(" + "),
                plan.flags()
            ),
        );
    }
    Ok(lines)
}

/// A number and what it counts.
fn counted(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(str::to_owned)
        );
    }
}
