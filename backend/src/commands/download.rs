//! `var-dd download`: released files by name.

use std::{
    cell::Cell,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use var_dd_engine::{
    bundle::{
        Bundle,
        convert::{Conversion, Role, TrainedWeights, check_weights, convert},
        weight_file::WeightFile,
    },
    evaluate::reference::Reference,
    input_file,
    net::inception::FEATURES,
};

use super::picture_file::write_whole_with;

use crate::{
    hub::{
        Hub, HubError, HubFile, Lock, hash_in_name, sha256_of, torch_home, user_cache, without_user,
    },
    mention, out,
    usage_error::UsageError,
};

/// Where the released students and their statistics are.
const STUDENTS: &str = "microsoft/distilled_decoding";

/// Where teachers and VAE are.
const TEACHERS: &str = "FoundationVision/var";

/// Name of the file of Inception weights; its SHA-256 begins with what stands before the dot.
const INCEPTION_FILE: &str = "pt_inception-2015-12-05-6726825d.pth";

/// How the SHA-256 of the Inception weights begins.
const INCEPTION_SHA256: &str = "6726825d";

/// Where the Inception weights are.
const INCEPTION_URL: &str = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth";

/// Flags of `var-dd download`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Files of the hub go to its own cache (HF_HOME, HF_HUB_CACHE), where its other clients find \
them too, the Inception weights to where pytorch-fid keeps them (TORCH_HOME). HF_ENDPOINT \
names another hub, HF_TOKEN who asks; with HF_HUB_OFFLINE=1 only what is there already is \
used. What broke off goes on where it stood. A student is converted to a model directory; \
named together with `teacher`, it carries its teacher.\n\n\
Examples:\n  \
var-dd download d16\n  \
var-dd download d16 teacher statistics inception\n  \
var-dd download d16 --files /media/weights   (files fetched by hand)")]
pub struct DownloadArgs {
    /// What to fetch.
    #[arg(value_enum, value_name = "NAME")]
    names: Vec<Name>,
    /// Directory in which model directories are made, as in models/d16.
    #[arg(long, value_name = "DIR", default_value = "models")]
    output: PathBuf,
    /// Directory of files fetched by hand, which are taken before the hub is asked.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Use only what is in the cache, as HF_HUB_OFFLINE=1 does.
    #[arg(long)]
    offline: bool,
    /// Another address of the Inception weights.
    #[arg(
        long,
        value_name = "URL",
        env = "VAR_DD_INCEPTION_URL",
        default_value = INCEPTION_URL,
        hide_default_value = true,
    )]
    inception_url: String,
}

/// A released file, or a model made of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Name {
    /// The student of depth 16, with the VAE.
    D16,
    /// The student of depth 20, with the VAE.
    D20,
    /// The student of depth 24, with the VAE.
    D24,
    /// The VAE alone.
    Vae,
    /// The teacher of each student named beside it, or of depth 16.
    Teacher,
    /// FID statistics of ImageNet 256×256.
    Statistics,
    /// Weights of the FID network.
    Inception,
}

impl Name {
    fn depth(self) -> Option<u32> {
        match self {
            Self::D16 => Some(16),
            Self::D20 => Some(20),
            Self::D24 => Some(24),
            _ => None,
        }
    }
}

fn student(depth: u32) -> HubFile {
    let path = match depth {
        16 => "VAR-DD/var-d16.pth",
        20 => "VAR-DD/var-d20.pth",
        _ => "VAR-DD/var-d24.pth",
    };
    HubFile { repository: STUDENTS, path }
}

fn teacher(depth: u32) -> HubFile {
    let path = match depth {
        16 => "var_d16.pth",
        20 => "var_d20.pth",
        _ => "var_d24.pth",
    };
    HubFile { repository: TEACHERS, path }
}

const VAE: HubFile = HubFile { repository: TEACHERS, path: "vae_ch160v4096z32.pth" };

const STATISTICS: HubFile =
    HubFile { repository: STUDENTS, path: "ImageNet-256_FID_Statistic/statistic.pth" };

/// Where pytorch-fid, and PyTorch's own hub, keep the Inception weights.
pub(super) fn inception_path() -> PathBuf {
    torch_home().join("hub/checkpoints").join(INCEPTION_FILE)
}

/// The published statistics, if they have been fetched.
pub(super) fn statistics_path() -> Option<PathBuf> {
    let by_hand = || Some(kept_statistics()).filter(|path| path.is_file());
    // Variables that nothing can be fetched with say nothing of what is there.
    let cached = Hub::from_environment(true).ok().and_then(|hub| hub.cached(STATISTICS));
    cached.or_else(by_hand)
}

/// Where statistics are kept that were fetched by hand: in the hub's own cache they would need the
/// commit that they are of.
fn kept_statistics() -> PathBuf {
    user_cache().join("var-dd/statistic.pth")
}

/// Fetches released files.
///
/// # Errors
/// When a file cannot be had whole (what was fetched of it stays, and the same command goes on
/// there), or a student is not what it should be.
pub fn run(args: &DownloadArgs) -> anyhow::Result<()> {
    if args.names.is_empty() {
        return list();
    }
    if let Some(files) = args.files.as_ref().filter(|files| !files.is_dir()) {
        let what = if files.exists() { "no directory" } else { "not there" };
        let reason = format!(
            "--files is {}, which is {what}; give the directory of the files fetched by hand",
            files.display()
        );
        return Err(UsageError(reason).into());
    }
    let task = Task { args, hub: Hub::from_environment(args.offline)? };
    let mut names = args.names.clone();
    names.sort_unstable();
    names.dedup();
    let depths: Vec<u32> = names.iter().filter_map(|name| name.depth()).collect();
    let with_teacher = names.contains(&Name::Teacher);
    for &depth in &depths {
        task.model(depth, with_teacher)?;
    }
    if with_teacher && depths.is_empty() {
        task.weights(teacher(16), Role::Teacher)?;
    }
    for name in names {
        match name {
            // The VAE comes with any student.
            Name::Vae => task.weights(VAE, Role::Vae)?,
            Name::Statistics => task.statistics()?,
            Name::Inception => task.inception()?,
            _ => {}
        }
    }
    Ok(())
}

/// Says what there is to fetch.
fn list() -> anyhow::Result<()> {
    let mut text = String::from("Give one or more of these names:\n");
    for name in Name::value_variants() {
        let value = name.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help());
        let (value, help) = (value.as_ref().map_or("", |value| value.get_name()), help);
        let help = help.map(ToString::to_string).unwrap_or_default();
        text += &format!("  {value:<12}{help}\n");
    }
    out!("{text}")?;
    Ok(())
}

/// One call of the command.
struct Task<'a> {
    args: &'a DownloadArgs,
    hub: Hub,
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Task<'_> {
    /// A file that was fetched by hand, if there is one.
    ///
    /// # Errors
    /// When something else is there under its name.
    fn by_hand(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let Some(directory) = &self.args.files else { return Ok(None) };
        let path = directory.join(name);
        match path.symlink_metadata() {
            _ if path.is_file() => Ok(Some(path)),
            Ok(found) => {
                let what =
                    if found.is_symlink() { "a link that leads to no file" } else { "no file" };
                bail!("{} is {what}; put the file itself there, or remove it", path.display())
            }
            Err(_) => Ok(None),
        }
    }

    fn file(&self, file: HubFile) -> anyhow::Result<PathBuf> {
        match self.by_hand(file_name(file.path))? {
            Some(path) => Ok(path),
            None => self.of_hub(file),
        }
    }

    fn of_hub(&self, file: HubFile) -> anyhow::Result<PathBuf> {
        let name = file_name(file.path);
        let bar = Bar::new(name);
        let fetched = self.hub.fetch(file, &mut |there, all| bar.show(there, all));
        bar.finish();
        fetched.map_err(|error| self.advise(error, name, &self.hub.url(file)))
    }

    /// Adds what to do by hand where the network is the trouble.
    fn advise(&self, error: HubError, name: &str, url: &str) -> anyhow::Error {
        let by_hand = matches!(
            error,
            HubError::Offline(_)
                | HubError::Damaged { .. }
                | HubError::Unreachable { .. }
                | HubError::Status { .. }
                | HubError::Answer { .. }
        );
        let directory = self.args.files.as_deref().unwrap_or(Path::new("weights"));
        if !by_hand {
            return error.into();
        }
        let names: Vec<_> =
            self.args.names.iter().filter_map(|name| name.to_possible_value()).collect();
        let names: Vec<_> = names.iter().map(|name| name.get_name()).collect();
        anyhow::anyhow!(
            "{error}\nto go on without the hub: fetch {} by other means, put it at {}, and \
             run\n  var-dd download {} --files {}",
            without_user(url),
            directory.join(name).display(),
            names.join(" "),
            directory.display()
        )
    }

    /// The VAE or a teacher alone.
    fn weights(&self, file: HubFile, role: Role) -> anyhow::Result<()> {
        let path = self.looked_at(file, &|path| Ok(check_weights(path, role)?))?;
        mention!("{}", path.display())?;
        Ok(())
    }

    /// A file that is used as it is. A web page, half a file or another one under its name is told
    /// now, by `look`, not when it is to be used; what the hub names by its hash has been compared
    /// with that.
    fn looked_at(
        &self,
        file: HubFile,
        look: &dyn Fn(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let by_hand = self.by_hand(file_name(file.path))?;
        let is_by_hand = by_hand.is_some();
        let path = by_hand.map_or_else(|| self.of_hub(file), Ok)?;
        if is_by_hand || hash_in_name(&path).is_none() {
            look(&path).with_context(|| {
                let url = self.hub.url(file);
                format!("{} cannot be used; fetch {} again", path.display(), without_user(&url))
            })?;
        }
        Ok(path)
    }

    /// The statistics; those fetched by hand are kept where the other commands look.
    fn statistics(&self) -> anyhow::Result<()> {
        let mut path = self.looked_at(STATISTICS, &check_statistics)?;
        if self.by_hand(file_name(STATISTICS.path))?.is_some() {
            path = keep(&path, &kept_statistics())?;
        }
        mention!("{}", path.display())?;
        Ok(())
    }

    fn inception(&self) -> anyhow::Result<()> {
        let path = inception_path();
        if let Some(given) = self.by_hand(INCEPTION_FILE)? {
            let found =
                sha256_of(&given).with_context(|| format!("cannot read {}", given.display()))?;
            if !found.starts_with(INCEPTION_SHA256) {
                // Says what it is, if it is something else altogether.
                WeightFile::open(&given)?;
                bail!(
                    "{} is damaged or another file: its SHA-256 is {found} and should begin with \
                     {INCEPTION_SHA256}; fetch it again",
                    given.display()
                );
            }
            mention!("{}", keep(&given, &path)?.display())?;
            return Ok(());
        }
        let url = &self.args.inception_url;
        let bar = Bar::new(INCEPTION_FILE);
        let fetched = self
            .hub
            .fetch_from(url, &path, INCEPTION_SHA256, &mut |there, all| bar.show(there, all));
        bar.finish();
        fetched.map_err(|error| self.advise(error, INCEPTION_FILE, url))?;
        mention!("{}", path.display())?;
        Ok(())
    }

    /// A student as a model directory.
    fn model(&self, depth: u32, with_teacher: bool) -> anyhow::Result<()> {
        let output = self.args.output.join(format!("d{depth}"));
        fs::create_dir_all(&self.args.output)
            .with_context(|| format!("cannot make {}", self.args.output.display()))?;
        let lock = self.args.output.join(format!(".d{depth}.lock"));
        let lock = Lock::acquire(&lock, &mut || {
            tracing::info!(model = %output.display(), "another process makes it; waiting");
        })
        .removed_in_the_end();
        if lock.is_held() {
            remove_unfinished(&self.args.output, depth);
        }
        if output.join("config.json").exists() {
            let bundle = Bundle::open(&output)?;
            if bundle.has_teacher() || !with_teacher {
                mention!("{} is there already", output.display())?;
                return Ok(());
            }
        } else if fs::read_dir(&output).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is in use and no model; choose another --output", output.display());
        }
        let conversion = Conversion {
            student: self.file(student(depth))?,
            vae: self.file(VAE)?,
            teacher: if with_teacher { Some(self.file(teacher(depth))?) } else { None },
            output: self.args.output.join(unfinished(depth) + &std::process::id().to_string()),
            name: Some(format!("d{depth}")),
            patch_nums: None,
            norm_groups: None,
            weights: TrainedWeights::Ema,
            classes: None,
        };
        let made = convert(&conversion)
            .context("a file is whole but cannot be converted")
            .and_then(|converted| {
                for note in &converted.notes {
                    tracing::info!("{note}");
                }
                // A model without its teacher gives way to the same one with it.
                let failed = |what| format!("cannot {what} {}", output.display());
                if output.exists() {
                    fs::remove_dir_all(&output).with_context(|| failed("replace"))?;
                }
                fs::rename(&conversion.output, &output).with_context(|| failed("make"))
            });
        if made.is_err() && conversion.output.exists() {
            // The error at hand says more than one about the rest would.
            let _ = fs::remove_dir_all(&conversion.output);
        }
        made?;
        mention!("{}", output.display())?;
        Ok(())
    }
}

/// Checks the published statistics.
fn check_statistics(path: &Path) -> anyhow::Result<()> {
    let features = Reference::open(path)?.features;
    if features != FEATURES {
        bail!(
            "{} holds statistics of {features} features, and those of Inception are {FEATURES}",
            path.display()
        );
    }
    Ok(())
}

/// How the names of directories begin in which a model is made; the process's number follows.
fn unfinished(depth: u32) -> String {
    format!(".d{depth}.")
}

/// Removes what calls that were killed have left of a model. The caller holds its lock.
fn remove_unfinished(directory: &Path, depth: u32) {
    let begins = unfinished(depth);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(&begins));
        if process.is_some_and(|process| process.parse::<u32>().is_ok()) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies a file to where it is kept; nothing is there before it is whole.
fn keep(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let same = || Some(from.canonicalize().ok()? == to.canonicalize().ok()?);
    if same() == Some(true) {
        return Ok(to.to_owned());
    }
    let directory = to.parent().unwrap_or(to);
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut source =
        input_file::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    write_whole_with(to, |file| std::io::copy(&mut source, file).map(drop))?;
    Ok(to.to_owned())
}

/// How much of a file is there, at a terminal.
struct Bar {
    bar: Option<ProgressBar>,
    length: Cell<Option<u64>>,
}

impl Bar {
    fn new(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(0).with_message(name.to_owned());
            // The template is a constant; without it the bar is merely plainer.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, length: Cell::new(None) }
    }

    fn show(&self, there: u64, all: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if self.length.get() != all {
            self.length.set(all);
            bar.set_length(all.unwrap_or(0));
            // What was there before says nothing about the speed.
            bar.set_position(there);
            bar.reset_eta();
        }
        bar.set_position(there);
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
