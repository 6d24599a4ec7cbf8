//! `var-dd sample`: pictures as files.
//!
//! Made for runs of hours on machines that come and go: what is there is never drawn again, a run
//! that was killed goes on where it stood, and any number of processes can share the work.

mod archive;
mod folder;
mod writers;

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
};

use anyhow::Context;
use clap::{Args, value_parser};
use var_dd_engine::{atomic_file, bundle::Bundle, config::Config, device::kind_name};
use var_dd_protocol::PARAMETERS_KEYWORD;

use self::{
    archive::{Archive, beside},
    folder::Folder,
    writers::Writers,
};
use super::{
    model::ModelArgs,
    parameters::{self, Found},
    picture_file::{SHEET_PICTURES, contact_sheet, png, sheet_tile, write_whole},
    progress::Progress,
    series::{self, Series, SeriesArgs},
};
use crate::{generator::engine::Engine, outln, tell, usage_error::UsageError};

/// Most threads that encode and write pictures.
const MAX_WRITERS: usize = 8;

/// Pictures that may wait for a writer.
const WAITING_PICTURES: usize = 256;

/// Flags of `var-dd sample`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Writes images/0.png, images/1.png, … and contact-sheet.png, or one .npz file. Picture i of a \
seed is the same in any batch, and the same that the playground shows as picture i of that \
seed.\n\n\
The same command given again goes on where it was interrupted: parameters.json says what the \
pictures were drawn with, and other parameters are refused. Shards may run at the same time, \
in one directory or in several whose pictures are put together later; a last call without \
--shard draws whatever is missing, and finishes. On several GPUs run one shard on each:\n  \
for i in 0 1 2 3; do var-dd sample --shard $i/4 --device cuda:$i … & done; wait\n\n\
Examples:\n  \
var-dd sample --sample-num 16 --plan \"2 steps\" --class snowman\n  \
var-dd sample --model models/d16 --sample-num 64 --t-list 0,5 --loss-split-t 5 --classes 207,360,388\n  \
var-dd sample --model models/d16 --sample-num 50000 --bs 64 --plan \"1 step\" --rng torch --sample-dir d16-1-step\n  \
var-dd sample --model models/d16 --sample-num 50000 --bs 64 --npz d16-1-step.npz --labels random")]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of pictures.
    #[arg(long, value_name = "COUNT", default_value_t = 8, allow_negative_numbers = true,
          value_parser = value_parser!(u32).range(1..=10_000_000))]
    sample_num: u32,
    /// Directory to write to; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    sample_dir: PathBuf,
    /// Write one NumPy archive instead, with the pictures as `arr_0`, u8 [N, H, W, 3].
    #[arg(long, value_name = "FILE", conflicts_with = "sample_dir")]
    npz: Option<PathBuf>,
    #[command(flatten)]
    series: SeriesArgs,
    /// Draw part I of N only, I from 0; parts end where batches do.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Discard pictures that were drawn with other parameters.
    #[arg(long)]
    overwrite: bool,
}

/// A part of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    part: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if part < of => Ok(Self { part, of }),
            _ => Err("it must be I/N with I from 0 to N − 1, as in 0/4".into()),
        }
    }
}

impl Shard {
    /// Batches of this part: neighbours, as evenly as they can be cut.
    fn batches(self, all: usize) -> std::ops::Range<usize> {
        let border = |part: usize| (part as u128 * all as u128 / self.of as u128) as usize;
        border(self.part)..border(self.part + 1)
    }
}

/// Draws pictures to files.
///
/// # Errors
/// When plan or classes do not fit the model, the model cannot be used, what is there was drawn
/// with other parameters, or a file cannot be written.
pub fn run(args: &SampleArgs) -> anyhow::Result<()> {
    let directory = args.model.directory();
    let bundle = Bundle::open(&directory)?;
    let series = args.series.resolve(args.sample_num, &bundle)?;
    let device = args.model.network.open()?.device();
    let dtype = kind_name(args.model.network.kind_for(device, &bundle.config));
    let parameters = series
        .parameters(&bundle, device, dtype)
        .with_context(|| format!("cannot read the weights in {}", directory.display()))?;
    let task = Task { args, series: &series, parameters };
    let side = bundle.config.image_size() as usize;
    if let Some(path) = args.npz.as_ref().filter(|path| path.is_dir()) {
        let path = path.display();
        let reason = format!("--npz is {path}, a directory; give the name of a file");
        return Err(UsageError(reason).into());
    }
    match &args.npz {
        None => task.to_folder(&Folder::new(&args.sample_dir, &series, &bundle.config)),
        Some(path) => task.to_archive(path, &Archive::new(path, &series, side)),
    }
}

/// One call of the command.
struct Task<'a> {
    args: &'a SampleArgs,
    series: &'a Series,
    parameters: serde_json::Map<String, serde_json::Value>,
}

impl Task<'_> {
    fn to_folder(&self, folder: &Folder<'_>) -> anyhow::Result<()> {
        let directory = &self.args.sample_dir;
        let path = directory.join("parameters.json");
        let clear = || folder.clear();
        let lock = self.prepare(&path, folder.images(), folder.count() > 0, &clear)?;
        let has = |batch| self.series.pictures_of(batch).all(|index| folder.has(index));
        let write = |(index, picture): (usize, image::RgbImage)| folder.write(index, &picture);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let done = self.draw(&has, |todo, engine, progress| {
            thread::scope(|scope| {
                let writers =
                    Writers::start(scope, cores.min(MAX_WRITERS), WAITING_PICTURES, &write);
                let drawn = series::draw(engine, self.series, todo, &mut |batch, pictures| {
                    let count = pictures.len();
                    let mut numbered = self.series.pictures_of(batch).zip(pictures);
                    let goes_on = numbered.all(|picture| writers.submit(picture));
                    progress.advance(count);
                    Ok(if goes_on {
                        std::ops::ControlFlow::Continue(())
                    } else {
                        std::ops::ControlFlow::Break(())
                    })
                });
                // If both failed, it is because writing did.
                writers.finish().and(drawn)
            })
        })?;
        let shown = self.series.pictures().min(SHEET_PICTURES);
        if (0..shown).all(|index| folder.has(index)) {
            let tiles: Vec<_> = (0..shown)
                .map(|index| Ok(sheet_tile(folder.read(index)?)))
                .collect::<anyhow::Result<_>>()?;
            write_whole(&directory.join("contact-sheet.png"), &png(&contact_sheet(&tiles), &[])?)?;
        }
        drop(lock);
        outln!("{done}: {}", directory.display())?;
        Ok(())
    }

    fn to_archive(&self, path: &Path, archive: &Archive<'_>) -> anyhow::Result<()> {
        let clear = || archive.clear();
        let is_there = archive.is_there();
        let lock =
            self.prepare(&beside(path, ".parameters.json"), archive.parts(), is_there, &clear)?;
        let write =
            |(batch, pictures): (usize, Vec<image::RgbImage>)| archive.write(batch, &pictures);
        let done = self.draw(&|batch| archive.has(batch), |todo, engine, progress| {
            thread::scope(|scope| {
                let writers = Writers::start(scope, 1, 1, &write);
                let drawn = series::draw(engine, self.series, todo, &mut |batch, pictures| {
                    progress.advance(pictures.len());
                    let goes_on = writers.submit((batch, pictures));
                    Ok(if goes_on {
                        std::ops::ControlFlow::Continue(())
                    } else {
                        std::ops::ControlFlow::Break(())
                    })
                });
                writers.finish().and(drawn)
            })
        })?;
        // Shards may end at the same time; only a call for the whole puts them together.
        if self.args.shard.is_none() {
            if let Some(lock) = &lock {
                wait_for_others(lock, archive.parts());
            }
            archive.assemble()?;
        }
        drop(lock);
        outln!("{done}: {}", path.display())?;
        Ok(())
    }

    /// Makes sure that what is there may be added to, and makes the directory `of_pictures`.
    fn prepare(
        &self,
        path: &Path,
        of_pictures: &Path,
        is_there: bool,
        clear: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<File>> {
        if of_pictures.symlink_metadata().is_ok() && !of_pictures.is_dir() {
            return Err(UsageError(format!(
                "{} is no directory, and pictures are kept in one of that name; remove what is \
                 there, or choose another place",
                of_pictures.display()
            ))
            .into());
        }
        let advice = "choose another place, or discard what is there with --overwrite";
        let found = parameters::compare(path, &self.parameters, advice);
        let same = match found {
            Ok(Found::Same) => true,
            Ok(Found::Nothing) if !is_there => false,
            _ if self.args.overwrite => {
                if is_in_use(of_pictures) {
                    return Err(UsageError(format!(
                        "another var-dd is drawing to {}; wait for it, or choose another place",
                        of_pictures.display()
                    ))
                    .into());
                }
                clear()?;
                false
            }
            Ok(Found::Nothing) => {
                return Err(UsageError(format!(
                    "there are pictures already, and nothing says what they were drawn with ({} is \
                     missing); {advice}",
                    path.display()
                ))
                .into());
            }
            Err(error) => return Err(error),
        };
        fs::create_dir_all(of_pictures)
            .with_context(|| format!("cannot make {}", of_pictures.display()))?;
        if !same {
            parameters::write(path, &self.parameters)?;
        }
        Ok(share(of_pictures))
    }

    /// Draws what is missing of this call's part; says in words what was done.
    fn draw(
        &self,
        has: &dyn Fn(usize) -> bool,
        work: impl FnOnce(&[usize], &Engine, &Progress) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let shard = self.args.shard.unwrap_or(Shard { part: 0, of: 1 });
        let mine = shard.batches(self.series.batches());
        let pictures = |batches: &[usize]| -> usize {
            batches.iter().map(|&batch| self.series.pictures_of(batch).len()).sum()
        };
        let total = pictures(&mine.clone().collect::<Vec<_>>());
        let todo: Vec<usize> = mine.filter(|&batch| !has(batch)).collect();
        let progress = Progress::of_pictures(total, total - pictures(&todo));
        if !todo.is_empty() {
            let model = &self.args.model;
            let ops = model.network.open()?;
            let engine = Engine::load(&model.directory(), &ops, model.network.dtype())?;
            work(&todo, &engine, &progress)?;
        }
        Ok(progress.finish())
    }
}

/// A lock that says that somebody is writing here. The first one clears away what killed runs left
/// unfinished. `None` where the file system has no locks.
fn share(directory: &Path) -> Option<File> {
    loop {
        let lock = match File::open(directory) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(directory).ok()?;
                continue;
            }
            Err(_) => return None,
        };
        if lock.try_lock().is_ok() {
            atomic_file::remove_unfinished(directory);
            lock.unlock().ok()?;
        }
        lock.lock_shared().ok()?;
        // Whoever puts an archive together removes the directory of its parts.
        if atomic_file::is_at(&lock, directory) {
            return Some(lock);
        }
    }
}

/// Whether somebody is writing in a directory.
fn is_in_use(directory: &Path) -> bool {
    let lock = File::open(directory);
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes a shared lock one that nobody shares.
fn wait_for_others(lock: &File, directory: &Path) {
    // Given up first: two who wait for each other's share would wait for ever.
    if lock.unlock().is_ok() && matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        tell!("others are still drawing to {}; waiting for them", directory.display());
        // Where there are no locks nobody can be waited for.
        let _ = lock.lock();
    }
}

/// Everything that makes the picture again.
fn describe(config: &Config, series: &Series, index: usize) -> Vec<(&'static str, String)> {
    let picture = series.picture(index);
    let class = config.classes.get(picture.class as usize).cloned().unwrap_or_default();
    let parameters = match series.request_of(index, config) {
        Some(request) => serde_json::json!({ "request": request, "picture": picture.index }),
        None => serde_json::json!({
            "model": config.name,
            "class": picture.class,
            "class_name": class,
            "seed": picture.seed,
            "picture": picture.index,
            "plan": series.plan.flags().to_string(),
            "rng": "torch",
        }),
    };
    vec![
        ("Title", class),
        ("Software", format!("var-dd {}", env!("CARGO_PKG_VERSION"))),
        (PARAMETERS_KEYWORD, parameters.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_batches_once_and_in_order() {
        for (all, of) in [(0, 3), (1, 4), (7, 7), (782, 4), (10, 3)] {
            let batches: Vec<usize> =
                (0..of).flat_map(|part| Shard { part, of }.batches(all)).collect();
            assert_eq!(batches, (0..all).collect::<Vec<_>>());
            let sizes: Vec<usize> =
                (0..of).map(|part| Shard { part, of }.batches(all).len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn shards_are_read_as_i_of_n() {
        assert_eq!("2/4".parse(), Ok(Shard { part: 2, of: 4 }));
        for bad in ["4/4", "1", "/", "-1/4", "a/b", "0/0"] {
            assert!(bad.parse::<Shard>().unwrap_err().contains("as in 0/4"), "{bad}");
        }
    }
}
