//! `var-dd train pictures`: the drawn pictures as files.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::Context;
use clap::{Args, value_parser};
use image::RgbImage;
use var_dd_engine::train::{
    pictures::{self, CLASSES, SIDES},
    write_sheet,
};

use super::model;
use crate::outln;
use crate::usage_error::UsageError;

/// Most pictures on the contact sheet.
const SHEET_PICTURES: usize = 256;

/// Flags of `var-dd train pictures`.
#[derive(Args, Clone, Debug)]
pub(super) struct PicturesArgs {
    /// Directory to write to; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "pictures")]
    output: PathBuf,
    /// Number of pictures; classes take turns.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 128,
        value_parser = value_parser!(u32).range(1..=10_000_000),
    )]
    count: u32,
    /// Side in pixels.
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 128,
        value_parser = value_parser!(u32).range(SIDES_U32),
    )]
    side: u32,
    /// Seed of the stream of pictures.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = model::seed)]
    seed: u64,
    /// How much of their range sizes, places and poses take, 0 to 1, as `variety` of a recipe.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, allow_negative_numbers = true)]
    variety: f32,
    /// Only this class, by number or name.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Write the contact sheet alone.
    #[arg(long)]
    sheet_only: bool,
}

/// Bounds of `--side`.
const SIDES_U32: std::ops::RangeInclusive<i64> = *SIDES.start() as i64..=*SIDES.end() as i64;

/// Draws pictures to files.
///
/// # Errors
/// When the class is unknown or a file cannot be written.
pub(super) fn run(args: &PicturesArgs) -> anyhow::Result<()> {
    let class = args.class.as_deref().map(find_class).transpose()?;
    let images = args.output.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    let began = Instant::now();
    let mut sheet = Vec::new();
    for index in 0..u64::from(args.count) {
        let class = class.unwrap_or((index % CLASSES.len() as u64) as usize);
        let bytes = pictures::draw(args.seed, index, class, args.side, args.variety)?;
        if !args.sheet_only {
            let path = images.join(format!("{index}-{}.png", CLASSES[class].replace(' ', "-")));
            let picture = RgbImage::from_raw(args.side, args.side, bytes.clone())
                .context("a picture is cut")?;
            picture.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if sheet.len() < SHEET_PICTURES {
            sheet.push(bytes);
        }
        if args.sheet_only && sheet.len() == SHEET_PICTURES {
            break;
        }
    }
    let path = args.output.join("contact-sheet.png");
    write_sheet(&path, &sheet, args.side as usize, CLASSES.len())?;
    let seconds = began.elapsed().as_secs_f64();
    outln!("{} pictures in {seconds:.1} s: {}", args.count, args.output.display())?;
    Ok(())
}

fn find_class(text: &str) -> Result<usize, UsageError> {
    let by_name = CLASSES.iter().position(|name| name.eq_ignore_ascii_case(text.trim()));
    let class = text.trim().parse().ok().filter(|class| *class < CLASSES.len()).or(by_name);
    class.ok_or_else(|| {
        UsageError(format!(
            "there is no class {text:?}; classes are 0 to {} or: {}",
            CLASSES.len() - 1,
            CLASSES.join(", ")
        ))
    })
}
