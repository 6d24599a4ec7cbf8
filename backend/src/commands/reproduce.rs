//! `var-dd reproduce`: the paper's tables as one command.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use var_dd_engine::{bundle::Bundle, device::kind_name};
use var_dd_protocol::PlanPreset;

use super::{
    evaluate::{ComparedArgs, Drawing, Scores, check_output, finished},
    model::{ModelArgs, seed},
    picture_file::write_whole,
    series::{Rng, Series, SeriesArgs},
};
use crate::usage_error::UsageError;
use crate::{outln, tell};

/// The published settings: model, plan, FID (ImageNet 256×256, 50,000 pictures).
const PUBLISHED: [(&str, &str, f64); 9] = [
    ("d16", "1 step", 9.94),
    ("d16", "2 steps", 7.82),
    ("d20", "1 step", 9.55),
    ("d20", "2 steps", 7.33),
    ("d24", "1 step", 8.92),
    ("d24", "2 steps", 6.95),
    ("d16", "3 steps with teacher", 6.54),
    ("d16", "4 steps with teacher", 5.47),
    ("d16", "6 steps with teacher", 5.03),
];

/// What `--model` is here; of other commands it has another default.
const MODEL_HELP: &str = "Directory of one model, all of whose plans are drawn [default: the nine \
    published rows of --models]";

/// Flags of `var-dd reproduce`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("model", |arg| arg.help(MODEL_HELP)))]
#[command(after_long_help = "\
Draws and scores one setting after the other, without keeping pictures: nine published ones of \
models/d16, d20 and d24, or all plans of one --model. What is missing is said before anything \
starts. Interrupted, the same command goes on where it stood. Writes table.md and table.json, \
and a directory with report and contact sheet for each row.\n\n\
Examples:\n  \
var-dd download d16 d20 d24 teacher statistics inception && var-dd reproduce\n  \
var-dd reproduce --partial --only d16\n  \
var-dd reproduce --model models/d16 --sample-num 2000 --reference real.npz")]
pub struct ReproduceArgs {
    /// Directory of the models d16, d20 and d24, as `var-dd download` makes them.
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    compared: ComparedArgs,
    /// Rows whose model or plan contains one of these texts.
    #[arg(long, value_name = "TEXT,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out rows whose model is missing.
    #[arg(long)]
    partial: bool,
    /// Pictures a row.
    #[arg(long, value_name = "COUNT", default_value_t = 50_000)]
    sample_num: u32,
    /// Pictures drawn together.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    bs: u32,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// Where labels and noise come from: `torch` draws them as the released scripts do.
    #[arg(long, value_enum, default_value_t = Rng::Picture)]
    rng: Rng,
    /// Directory to write to; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "reproduced")]
    output: PathBuf,
    /// Discard rows that were drawn with other parameters.
    #[arg(long)]
    overwrite: bool,
}

/// A row that is asked for.
struct Wanted {
    model: String,
    plan: String,
    published: Option<f64>,
    directory: PathBuf,
}

/// A row that can be drawn.
struct Planned {
    model: String,
    plan: String,
    published: Option<f64>,
    bundle: Bundle,
    directory: PathBuf,
    series: Series,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    model: String,
    plan: String,
    flags: String,
    /// FID as published.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<f64>,
    /// Time of drawing and scoring in all runs.
    seconds: Option<f64>,
    scores: Scores,
}

/// Draws and scores all rows.
///
/// # Errors
/// Everything that is missing, before anything starts; later, when a row cannot be drawn or
/// written.
pub fn run(args: &ReproduceArgs) -> anyhow::Result<()> {
    let (planned, compared) = args.plan()?;
    let device = args.model.network.open()?.device();
    let network = compared.network(device)?;
    let target = compared.target(&*network)?;
    let scorer = compared.scorer(&*network, &target);
    let before = read_table(&args.output);
    let mut table: Vec<Row> = Vec::new();
    // All of them before the first: other parameters of a later row are told now.
    let mut prepared = Vec::new();
    for row in &planned {
        let dtype = kind_name(args.model.network.kind_for(device, &row.bundle.config));
        let model = ModelArgs { model: Some(row.directory.clone()), ..args.model.clone() };
        let drawing = Drawing { bundle: &row.bundle, series: &row.series, dtype, model: &model };
        let parameters = drawing.parameters(device, &compared)?;
        drawing.check_size(&*network)?;
        let output = args.output.join(slug(&format!("{} {}", row.model, row.plan)));
        check_output(&output)?;
        let done = finished(&output, &parameters, args.overwrite)?;
        prepared.push((row, model.clone(), dtype, parameters, output, done));
    }
    for (number, (row, model, dtype, parameters, output, done)) in prepared.into_iter().enumerate()
    {
        tell!("{} of {}: {}, {}", number + 1, planned.len(), row.model, row.plan);
        let (scores, seconds) = match done {
            Some(scores) => {
                let earlier = before
                    .iter()
                    .find(|earlier| earlier.model == row.model && earlier.plan == row.plan);
                (scores, earlier.and_then(|earlier| earlier.seconds))
            }
            None => {
                let drawing =
                    Drawing { bundle: &row.bundle, series: &row.series, dtype, model: &model };
                let (scores, seconds) = drawing.score(&scorer, &parameters, &output)?;
                (scores, Some(seconds))
            }
        };
        table.push(Row {
            model: row.model.clone(),
            plan: row.plan.clone(),
            flags: row.series.plan.flags().to_string(),
            published: row.published,
            seconds,
            scores,
        });
        write_table(&args.output, &table)?;
    }
    outln!("{}", markdown(&table))?;
    outln!("{}", args.output.join("table.md").display())?;
    Ok(())
}

impl ReproduceArgs {
    /// Rows that the flags ask for.
    fn wanted(&self) -> anyhow::Result<Vec<Wanted>> {
        let all: Vec<Wanted> = match &self.model.model {
            Some(directory) => {
                let bundle = Bundle::open(directory)?;
                let row = |preset: &PlanPreset| Wanted {
                    model: bundle.config.name.clone(),
                    plan: preset.name.clone(),
                    published: preset.fid,
                    directory: directory.clone(),
                };
                bundle.config.plans.iter().map(row).collect()
            }
            None => PUBLISHED
                .iter()
                .map(|&(model, plan, fid)| Wanted {
                    model: model.into(),
                    plan: plan.into(),
                    published: Some(fid),
                    directory: self.models.join(model),
                })
                .collect(),
        };
        let asked = |row: &Wanted| {
            let fits = |text: &String| row.model.contains(text) || row.plan.contains(text);
            self.only.is_empty() || self.only.iter().any(fits)
        };
        let names: Vec<_> = all.iter().map(|row| format!("{} {}", row.model, row.plan)).collect();
        let wanted: Vec<_> = all.into_iter().filter(asked).collect();
        if wanted.is_empty() {
            let reason = format!(
                "--only {:?} fits no row; there are: {}",
                self.only.join(","),
                names.join(", ")
            );
            return Err(UsageError(reason).into());
        }
        Ok(wanted)
    }

    /// Everything that is needed, or everything that is missing.
    fn plan(&self) -> anyhow::Result<(Vec<Planned>, super::evaluate::Compared)> {
        let mut planned = Vec::new();
        let mut missing = Vec::new();
        let compared = self.compared.resolve();
        for Wanted { model, plan, published, directory } in self.wanted()? {
            match self.open(&plan, &directory) {
                Ok((bundle, series)) => {
                    planned.push(Planned { model, plan, published, bundle, directory, series });
                }
                // A flag that is out of bounds is amiss in every row alike.
                Err(error) => missing.push(format!("{model}, {plan}: {error:#}")),
            }
        }
        let leaves_out = self.partial && !planned.is_empty();
        if leaves_out {
            for row in missing.drain(..) {
                tell!("left out: {row}");
            }
        }
        match compared {
            Ok(compared) if missing.is_empty() => Ok((planned, compared)),
            compared => {
                missing.extend(compared.err().map(|error| error.0).unwrap_or_default());
                let advice = if self.model.model.is_none() {
                    "\n`var-dd download d16 d20 d24 teacher statistics inception` fetches all of it; --partial leaves out what \
                     is missing"
                } else {
                    ""
                };
                anyhow::bail!(
                    "nothing has been started; missing:\n  {}{advice}",
                    missing.join("\n  ")
                )
            }
        }
    }

    fn open(&self, plan: &str, directory: &Path) -> anyhow::Result<(Bundle, Series)> {
        let bundle = Bundle::open(directory)?;
        let series = SeriesArgs::of_preset(plan, self.bs, self.seed, self.rng);
        let series = series.resolve(self.sample_num, &bundle)?;
        Ok((bundle, series))
    }
}

/// A text as the name of a directory.
fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().map(plain).collect();
    text.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The rows of an earlier run; none if there are none that can be read.
fn read_table(output: &Path) -> Vec<Row> {
    let bytes = fs::read(output.join("table.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write_table(output: &Path, table: &[Row]) -> anyhow::Result<()> {
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    write_whole(&output.join("table.json"), &serde_json::to_vec_pretty(table)?)?;
    write_whole(&output.join("table.md"), markdown(table).as_bytes())
}

fn markdown(table: &[Row]) -> String {
    let distance = table.first().map_or("FID", |row| row.scores.distance_name());
    let mut text = format!(
        "| model | plan | pictures | {distance} | published | Inception Score | precision | recall | time |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    let number = |number: Option<f64>, digits: usize| {
        number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
    };
    for row in table {
        let scores = &row.scores;
        let shares = scores.precision_and_recall;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {} | {} | {} | {} |",
            row.model,
            row.plan,
            scores.pictures,
            scores.fid,
            number(row.published, 2),
            number(scores.inception_score.map(|score| score.mean), 1),
            number(shares.map(|shares| shares.precision), 3),
            number(shares.map(|shares| shares.recall), 3),
            row.seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.0} s"))
        );
    }
    if let Some(scores) = table.first().map(|row| &row.scores) {
        let _ = write!(
            text,
            "\nAgainst {} ({}). {}.\n",
            scores.reference.path, scores.reference.kind, scores.protocol
        );
        for note in &scores.notes {
            let _ = writeln!(text, "\n{note}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rows_are_plain_and_different() {
        assert_eq!(
            slug("demo-64 (interim) 3 steps with teacher"),
            "demo-64-interim-3-steps-with-teacher"
        );
        let names: std::collections::BTreeSet<_> =
            PUBLISHED.iter().map(|(model, plan, _)| slug(&format!("{model} {plan}"))).collect();
        assert_eq!(names.len(), PUBLISHED.len());
    }
}
