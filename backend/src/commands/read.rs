//! `var-dd read`: how a picture was drawn, by what its file says, and whether that is so.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use var_dd_engine::input_file;
use var_dd_protocol::{FileParameters, Verification};

use super::model::ModelArgs;
use crate::{
    generator::{Generator, engine::Engine, finished_picture},
    outln, scheduler, verification,
};

/// Most bytes of a file that is read.
const MOST_BYTES: u64 = 64 << 20;

/// Flags of `var-dd read`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Pictures, animations and sheets that the playground's page downloads and pictures of `var-dd \
sample`, but for those of `--rng torch`, carry their request as text. It is printed as JSON, as \
`POST /api/jobs` takes it under \"request\"; of a sheet, all of them under \"requests\". Of an \
animation, the last picture is verified; a GIF or an MP4 is never equal to what was drawn.\n\n\
Examples:\n  \
var-dd read snowman_seed-42_2-steps.png\n  \
var-dd read snowman_seed-42_2-steps.png --verify --model models/d16")]
pub struct ReadArgs {
    /// A PNG, WebP, GIF or MP4 file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Draw it again and say whether both are equal; code 1 if they are not.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Prints how a file was drawn, or whether drawing it again gives the same.
///
/// # Errors
/// When the file cannot be read or does not say how it was drawn, its request is not the model's,
/// or the picture that it gives is another.
pub fn run(args: &ReadArgs) -> anyhow::Result<()> {
    let place = || args.file.display().to_string();
    let bytes = bytes(&args.file).with_context(|| format!("cannot read {}", place()))?;
    if !args.verify {
        let kept = FileParameters::of(&bytes).with_context(place)?;
        outln!("{}", serde_json::to_string_pretty(&kept)?)?;
        return Ok(());
    }
    let kept = verification::parameters(&bytes).with_context(place)?;
    let ops = args.model.network.open()?;
    let engine = Engine::load(&args.model.directory(), &ops, args.model.network.dtype())?;
    let models = std::slice::from_ref(engine.info());
    let request = scheduler::checked(kept.request.clone(), models).with_context(place)?;
    let drawn = finished_picture(&engine, request, kept.picture)?;
    let verification = Verification {
        largest_difference: verification::largest_difference(&bytes, &drawn).with_context(place)?,
        request: kept.request,
        picture: kept.picture,
    };
    if verification.largest_difference > 0 {
        bail!("{}: drawn again, {}", place(), verification.verdict());
    }
    outln!("{}: {}", place(), verification.verdict())?;
    Ok(())
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input_file::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it has more than {} MiB, which no picture of this program has", MOST_BYTES >> 20);
    }
    Ok(bytes)
}
