//! `var-dd sample`: pictures as files.

use std::{
    fs,
    io::{Cursor, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use image::{RgbImage, imageops};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use var_dd_engine::{
    bundle::{Bundle, config::Config},
    sample::plan::Plan,
};

use super::{
    engine::Engine,
    info,
    model::{ModelArgs, PlanArgs, check_teacher},
};
use crate::{
    cli::UsageError,
    generator::{BatchRequest, PictureRequest},
};

/// Most pictures on the contact sheet.
const SHEET_PICTURES: usize = 64;

/// Widest picture on the contact sheet, in pixels.
const SHEET_TILE: u32 = 128;

/// How often a log tells the progress.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Flags of `var-dd sample`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Writes images/0.png, images/1.png, … and contact-sheet.png. Picture i of a seed is the same in any batch, and the same\n\
that the playground shows as picture i of that seed.\n\n\
Examples:\n  \
var-dd sample --sample-num 16 --plan \"2 steps\" --class snowman\n  \
var-dd sample --model models/d16 --sample-num 64 --t-list 0,5 --loss-split-t 5 --classes 207,360,388\n  \
var-dd sample --model models/d16 --t-list 0,5 --loss-split-t 5 --t-teacher-start 4 --cfg 2.0 --seed 7")]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of pictures.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    sample_num: u32,
    /// Directory to write to; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    sample_dir: PathBuf,
    /// A plan of the model by its name, as `var-dd info` lists them [default: the model's first plan].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["t_list", "autoregressive", "loss_split_t", "causal_prefix"])]
    plan: Option<String>,
    #[command(flatten)]
    flags: PlanArgs,
    /// Class of every picture: its number or its name.
    #[arg(long, value_name = "CLASS", conflicts_with = "classes")]
    class: Option<String>,
    /// Classes that the pictures take in turn: numbers or names [default: all classes].
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',')]
    classes: Vec<String>,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures drawn together. Changes speed and memory, not the pictures.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    bs: u32,
}

/// What to draw, sound for the model.
struct Task {
    plan: Plan,
    /// Class of each picture.
    classes: Vec<u32>,
    seed: u64,
    batch: usize,
}

/// Draws pictures to files.
///
/// # Errors
/// When plan or classes do not fit the model, the model cannot be used, or a file cannot be written.
pub fn run(args: &SampleArgs) -> anyhow::Result<()> {
    let directory = args.model.directory();
    let bundle = Bundle::open(&directory)?;
    let task = args.resolve(&bundle)?;
    let images = args.sample_dir.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    let engine = Engine::load(&directory, args.model.device, args.model.dtype)?;
    let progress = Progress::new(task.classes.len());
    let mut sheet = Vec::new();
    let pictures: Vec<PictureRequest> = (0..)
        .zip(&task.classes)
        .map(|(index, &class)| PictureRequest { class, seed: task.seed, index })
        .collect();
    for batch in pictures.chunks(task.batch) {
        let request = BatchRequest { plan: task.plan.clone(), pictures: batch.to_vec() };
        let drawn = engine.final_pictures(&request)?;
        for (request, picture) in batch.iter().zip(drawn) {
            let path = images.join(format!("{}.png", request.index));
            let text = describe(&bundle.config, &task.plan, request);
            write_whole(&path, &png(&picture, &text)?)?;
            if sheet.len() < SHEET_PICTURES {
                let (width, height) = picture.dimensions();
                let tile = if width <= SHEET_TILE {
                    picture
                } else {
                    let height = (height * SHEET_TILE).div_ceil(width);
                    imageops::resize(&picture, SHEET_TILE, height, imageops::FilterType::Triangle)
                };
                sheet.push(tile);
            }
        }
        progress.advance(batch.len());
    }
    let path = args.sample_dir.join("contact-sheet.png");
    write_whole(&path, &png(&contact_sheet(&sheet), &[])?)?;
    progress.finish(&args.sample_dir);
    Ok(())
}

impl SampleArgs {
    fn resolve(&self, bundle: &Bundle) -> Result<Task, UsageError> {
        let config = &bundle.config;
        let bounded = |flag, value: u32, limit: u32| {
            if (1..=limit).contains(&value) {
                Ok(value as usize)
            } else {
                Err(UsageError(format!("{flag} is {value}; it must be from 1 to {limit}")))
            }
        };
        let count = bounded("--sample-num", self.sample_num, 10_000_000)?;
        let batch = bounded("--bs", self.bs, 4096)?;
        let plan = if self.flags.is_given() {
            self.flags.resolve(config)?
        } else {
            let first = config.plans.first().map(|preset| preset.name.as_str());
            let name = self.plan.as_deref().or(first).ok_or_else(|| {
                UsageError(format!(
                    "model {:?} lists no plan; give one, as in --t-list 0 --loss-split-t {}",
                    config.name,
                    config.scales() / 2
                ))
            })?;
            self.flags.preset(name, config)?
        };
        check_teacher(&plan, bundle)?;
        let chosen: Vec<u32> = self
            .class
            .iter()
            .chain(&self.classes)
            .map(|class| find_class(class, config))
            .collect::<Result<_, _>>()?;
        let all = config.num_classes as u32;
        let class = |index: usize| match chosen.len() {
            0 => index as u32 % all,
            chosen_count => chosen[index % chosen_count],
        };
        Ok(Task { plan, classes: (0..count).map(class).collect(), seed: self.seed, batch })
    }
}

/// The number of a class that is given by number or name.
fn find_class(text: &str, config: &Config) -> Result<u32, UsageError> {
    let text = text.trim();
    if let Ok(class) = text.parse::<i64>() {
        if (0..config.num_classes).contains(&class) {
            return Ok(class as u32);
        }
        return Err(UsageError(format!(
            "class {class} is out of range; the model has {} classes, 0 to {}",
            config.num_classes,
            config.num_classes - 1
        )));
    }
    let lower = text.to_lowercase();
    let position = config.classes.iter().position(|name| name.to_lowercase() == lower);
    position.map(|class| class as u32).ok_or_else(|| {
        let near =
            config.classes.iter().filter(|name| !lower.is_empty() && name.to_lowercase().contains(&lower));
        let near: Vec<_> = near.take(5).map(String::as_str).collect();
        let advice = if near.is_empty() {
            format!("classes are numbers from 0 to {} or their names", config.num_classes - 1)
        } else {
            format!("did you mean {}?", near.join(", "))
        };
        UsageError(format!("the model has no class {text:?}; {advice}"))
    })
}

/// Everything that makes the picture again.
fn describe(config: &Config, plan: &Plan, request: &PictureRequest) -> Vec<(&'static str, String)> {
    let class = config.classes.get(request.class as usize).cloned().unwrap_or_default();
    let parameters = serde_json::json!({
        "model": config.name,
        "class": request.class,
        "class_name": class,
        "seed": request.seed,
        "picture": request.index,
        "plan": info::flags(plan),
    });
    vec![
        ("Title", class),
        ("Software", format!("var-dd {}", env!("CARGO_PKG_VERSION"))),
        ("parameters", parameters.to_string()),
    ]
}

/// A PNG file with texts by keyword.
fn png(picture: &RgbImage, texts: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(Cursor::new(&mut bytes), picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        if text.is_ascii() {
            encoder.add_text_chunk((*keyword).into(), text.clone())?;
        } else {
            encoder.add_itxt_chunk((*keyword).into(), text.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture)?;
    writer.finish()?;
    Ok(bytes)
}

/// Pictures side by side in rows, about as wide as high.
fn contact_sheet(pictures: &[RgbImage]) -> RgbImage {
    const GAP: u32 = 4;
    let (width, height) = pictures.first().map_or((1, 1), |picture| picture.dimensions());
    let columns = (1..).find(|n| n * n >= pictures.len()).unwrap_or(1);
    let rows = pictures.len().div_ceil(columns);
    let span = |count: usize, size: u32| count as u32 * (size + GAP) + GAP;
    let mut sheet =
        RgbImage::from_pixel(span(columns, width), span(rows, height), image::Rgb([250, 248, 245]));
    for (index, picture) in pictures.iter().enumerate() {
        let (column, row) = (index % columns, index / columns);
        imageops::replace(&mut sheet, picture, span(column, width).into(), span(row, height).into());
    }
    sheet
}

/// Writes a file that appears whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let write = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".")
            .suffix(".tmp")
            // As any new file, less the process's mask.
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A bar at a terminal, a line now and then in a log.
struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    total: usize,
    state: std::cell::Cell<(usize, Instant)>,
}

impl Progress {
    fn new(total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {per_sec}, {eta} left");
            let bar = ProgressBar::new(total as u64);
            // The template is a constant; without it the bar is merely plainer.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let began = Instant::now();
        Self { bar, began, total, state: std::cell::Cell::new((0, began)) }
    }

    fn advance(&self, pictures: usize) {
        let (done, told) = self.state.get();
        let done = done + pictures;
        self.state.set((done, told));
        if let Some(bar) = &self.bar {
            bar.inc(pictures as u64);
        } else if told.elapsed() >= LOG_INTERVAL && done < self.total {
            self.state.set((done, Instant::now()));
            let rate = done as f64 / self.began.elapsed().as_secs_f64();
            let left = HumanDuration(Duration::from_secs_f64((self.total - done) as f64 / rate));
            eprintln!("{done}/{} pictures, {rate:.2} per second, {left} left", self.total);
        }
    }

    fn finish(&self, directory: &Path) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.began.elapsed();
        let rate = self.total as f64 / took.as_secs_f64();
        println!(
            "{} pictures in {:.1} s ({rate:.2} per second): {}",
            self.total,
            took.as_secs_f64(),
            directory.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_sheet_holds_every_picture_in_order() {
        let colour = |n: u8| RgbImage::from_pixel(2, 2, image::Rgb([n, 0, 0]));
        let sheet = contact_sheet(&[colour(1), colour(2), colour(3)]);
        assert_eq!(sheet.dimensions(), (16, 16));
        let at = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!([at(4, 4), at(10, 4), at(4, 10), at(10, 10)], [1, 2, 3, 250]);
    }

    #[test]
    fn text_of_any_script_survives_in_a_picture() {
        let picture = RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]));
        let bytes =
            png(&picture, &[("Title", "Plymouth Rock".into()), ("parameters", "雪だるま".into())]).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), picture);
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().uncompressed_latin1_text[0].text, "Plymouth Rock");
        assert_eq!(reader.info().utf8_text[0].get_text().unwrap(), "雪だるま");
    }
}
