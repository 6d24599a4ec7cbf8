//! The command line as typed, and what becomes of its outcome.

use std::{any::TypeId, env, ffi::OsString, io::ErrorKind, path::PathBuf, process::ExitCode};

use clap::{
    Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    commands::{
        bench, check_cluster, convert, download, evaluate, gateway, info, read, reproduce, sample,
        serve, trace, train, worker,
    },
    config::models_of_variable,
    log::Log,
    output::OutputError,
    tell,
    usage_error::UsageError,
};

/// Few-step image generation with VAR and Distilled Decoding.
#[derive(Debug, Parser)]
#[command(name = "var-dd", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the playground in the browser.
    Serve(serve::ServeArgs),
    /// Serve the playground before a queue that workers on other machines empty.
    Gateway(gateway::GatewayArgs),
    /// Draw what gateways put into the queue.
    Worker(worker::WorkerArgs),
    /// Say what of a cluster can be reached, and make its streams.
    CheckCluster(check_cluster::CheckClusterArgs),
    /// Draw pictures to files.
    Sample(sample::SampleArgs),
    /// Say how a picture was drawn, and whether drawing it again gives the same.
    Read(read::ReadArgs),
    /// Fetch released weights and statistics by name.
    Download(download::DownloadArgs),
    /// Score pictures: FID, Inception Score, precision and recall, sFID.
    Evaluate(evaluate::EvaluateArgs),
    /// Draw and score the published settings: the paper's tables, measured beside published.
    Reproduce(reproduce::ReproduceArgs),
    /// Measure how fast a model draws, and how close that is to what the machine can do.
    Bench(bench::BenchArgs),
    /// Show device, model, sizes and plans.
    Info(info::InfoArgs),
    /// Make a model directory from released PyTorch checkpoints.
    Convert(convert::ConvertArgs),
    /// Train a model from nothing: pictures, tokenizer, teacher, trajectories, student.
    Train(train::TrainArgs),
    /// Run one sampling on given noise and write every tensor on the way.
    Trace(trace::TraceArgs),
    /// Encode given `pictures` [B, 3, H, W] in −1…1 to tokens; writes `f`, `codes`, `f_hat` and the
    /// decoded `picture`.
    TraceEncode(trace::TraceEncodeArgs),
    /// Apply top-k and top-p to given `logits` […, V]; writes `probs`.
    TraceFilter(trace::TraceFilterArgs),
    /// Measure the Fréchet distance between given `act_a` and `act_b` [n, d]; writes `distance`, one
    /// f64.
    TraceFrechet(trace::FileArgs),
    /// Compute the Inception features of given `images` [B, 3, H, W] in 0…1; writes `features` [B,
    /// 2048].
    TraceInception(trace::TraceInceptionArgs),
}

/// Runs the program: reads its arguments, does what they say, and says how that ended. Codes: 0
/// done, 1 failed, 2 not a valid request.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let command = with_our_manners(Cli::command());
    let parsed = command.clone().try_get_matches_from(&arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error, &command, &arguments),
    };
    outlive_file_limit();
    let log = Log::start();
    let outcome = cli.command.run();
    drop(log);
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    match error.downcast_ref::<OutputError>() {
        Some(output) if output.is_closed() => return ExitCode::SUCCESS,
        _ => {}
    }
    let message = in_one_line(&error);
    tell!("error: {message}");
    if let Some(note) = variables_in(&message, &matches, &command) {
        tell!("{note}");
    }
    if names_model_of_variable(&message, &arguments) {
        tell!("The model is that of the variable VAR_DD_MODEL.");
    }
    ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(args) => serve::run(args),
            Self::Gateway(args) => gateway::run(args),
            Self::Worker(args) => worker::run(args),
            Self::CheckCluster(args) => check_cluster::run(&args),
            Self::Sample(args) => sample::run(&args),
            Self::Read(args) => read::run(&args),
            Self::Download(args) => download::run(&args),
            Self::Evaluate(args) => evaluate::run(&args),
            Self::Reproduce(args) => reproduce::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Info(args) => info::run(&args),
            Self::Convert(args) => convert::run(args),
            Self::Train(args) => train::run(&args),
            Self::Trace(args) => trace::run(&args),
            Self::TraceEncode(args) => trace::encode(&args),
            Self::TraceFilter(args) => trace::filter(&args),
            Self::TraceFrechet(args) => trace::frechet(&args),
            Self::TraceInception(args) => trace::inception(&args),
        }
    }
}

/// A command that takes an empty or blank variable for one that is not set, as others do: an empty
/// line in a file of variables says no more. A negative number after a flag is its value, so that
/// the flag says which values it takes.
fn with_our_manners(command: clap::Command) -> clap::Command {
    let is_blank = |arg: &Arg| {
        let value = arg.get_env().and_then(env::var_os);
        value.is_some_and(|value| value.as_encoded_bytes().trim_ascii().is_empty())
    };
    command
        .mut_args(|arg| if is_blank(&arg) { arg.env(None::<&str>) } else { arg })
        .mut_args(|arg| {
            let takes_numbers =
                !arg.is_positional() && arg.get_action().takes_values() && !takes_path(&arg);
            if takes_numbers { arg.allow_negative_numbers(true) } else { arg }
        })
        .mut_subcommands(with_our_manners)
}

/// Whether the value of an argument is a path, which need not be text.
fn takes_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// What the standard library says of a text that is no number, and what people call that.
const NO_NUMBERS: [(&str, &str); 6] = [
    ("invalid digit found in string", "it is no whole number"),
    ("cannot parse integer from empty string", "a whole number is needed"),
    ("number too large to fit in target type", "it is too large"),
    ("number too small to fit in target type", "it is too small"),
    ("invalid float literal", "it is no number"),
    ("cannot parse float from empty string", "a number is needed"),
];

/// What is wrong with the arguments, where the libraries have other words for it than people.
fn in_plain_words(
    error: &clap::Error,
    command: &clap::Command,
    arguments: &[OsString],
) -> Option<String> {
    if error.kind() == clap::error::ErrorKind::InvalidUtf8 {
        return Some(not_text(command, arguments));
    }
    let text = error.to_string();
    let (said, meant) = NO_NUMBERS.iter().find(|(said, _)| text.contains(said))?;
    let is_negative = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.parse::<i128>().is_ok_and(|value| value < 0),
        _ => false,
    };
    let meant = if is_negative { "it must not be negative" } else { *meant };
    Some(text.replace(said, meant).trim_end().to_owned())
}

/// What is no text among the arguments and, if they all are, among the variables of the command
/// that they name.
fn not_text(command: &clap::Command, arguments: &[OsString]) -> String {
    if let Some(argument) = arguments.iter().find(|argument| argument.to_str().is_none()) {
        return format!("error: the argument {argument:?} is no text in UTF-8; give it as text");
    }
    let mut command = command;
    for argument in arguments.iter().skip(1) {
        command = command.find_subcommand(argument).unwrap_or(command);
    }
    let of_texts = command.get_arguments().filter(|arg| !takes_path(arg));
    let mut variables = of_texts.filter_map(Arg::get_env);
    let found = variables.find_map(|name| {
        let value = env::var_os(name).filter(|value| value.to_str().is_none())?;
        Some(format!("the variable {} ({value:?})", name.to_string_lossy()))
    });
    let found = found.unwrap_or_else(|| "an argument or a variable".to_owned());
    format!("error: {found} is no text in UTF-8; set it to text, or unset it")
}

/// Prints help, or what is wrong with the arguments.
fn refuse(error: &clap::Error, command: &clap::Command, arguments: &[OsString]) -> ExitCode {
    let printed = match in_plain_words(error, command, arguments) {
        Some(text) => {
            tell!("{text}");
            Ok(())
        }
        None => error.print(),
    };
    if !error.use_stderr() {
        // Help and version are the output.
        return match printed {
            Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
                tell!("error: cannot write to standard output: {cause}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        };
    }
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && let Some(name) = flag.split([' ', '=']).next()
    {
        let is_typed = arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
            argument.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        let variable = (!is_typed).then(|| variable_of(command, name)).flatten();
        if let Some(variable) = variable {
            tell!("The value of {name} is that of the variable {variable}.");
        }
    }
    ExitCode::from(2)
}

/// The variable that a flag is taken from, if it is set.
fn variable_of(command: &clap::Command, flag: &str) -> Option<String> {
    let long = flag.strip_prefix("--")?;
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    let own = own.and_then(Arg::get_env).filter(|name| env::var_os(name).is_some());
    own.map(|name| name.to_string_lossy().into_owned())
        .or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}

/// Which of the flags that a message names come from variables.
fn variables_in(message: &str, matches: &ArgMatches, command: &clap::Command) -> Option<String> {
    let (name, mut matches) = matches.subcommand()?;
    let mut command = command.find_subcommand(name)?;
    while let Some((name, inner)) = matches.subcommand() {
        (command, matches) = (command.find_subcommand(name)?, inner);
    }
    let named = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let names_flag = arg.get_long().is_some_and(|long| says_flag(message, long));
        let mut values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        // A number or a short word may stand in a message for another reason.
        let mut names_value = || {
            let is_named = |value: &str| value.contains('/') && message.contains(value);
            values.any(|value| value.to_str().is_some_and(is_named))
        };
        matches.value_source(id) == Some(ValueSource::EnvVariable) && (names_flag || names_value())
    };
    let notes: Vec<String> = command
        .get_arguments()
        .filter(named)
        .filter_map(|arg| {
            let variable = arg.get_env()?.to_string_lossy();
            Some(format!("The value of --{} is that of the variable {variable}.", arg.get_long()?))
        })
        .collect();
    (!notes.is_empty()).then(|| notes.join("\n"))
}

/// Whether a message names a model that no flag did.
fn names_model_of_variable(message: &str, arguments: &[OsString]) -> bool {
    let mut texts = arguments.iter().filter_map(|argument| argument.to_str());
    let is_typed = texts.any(|argument| argument == "--model" || argument.starts_with("--model="));
    let models = models_of_variable();
    let mut models = models.iter().filter_map(|model| model.to_str());
    !is_typed && models.any(|model| !model.is_empty() && message.contains(model))
}

/// Whether a text has a flag in it, and not just one that begins so.
fn says_flag(text: &str, long: &str) -> bool {
    let flag = format!("--{long}");
    text.match_indices(&flag).any(|(at, _)| {
        let rest = &text[at + flag.len()..];
        !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    })
}

/// Makes a file that grows over the limit (`ulimit -f`) an error of the write instead of the end of
/// the program. Once heard of, a signal never ends the program again.
fn outlive_file_limit() {
    const SIGXFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    if let Ok(runtime) = runtime {
        let heard = runtime.block_on(async { signal(SignalKind::from_raw(SIGXFSZ)) });
        // Without it such a write ends the program, as it does other programs.
        drop(heard);
    }
}

/// An error and its causes, as in "cannot read x: no such file". A cause that a message has said
/// already is not said again.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// What is said of arguments that are refused.
    fn refusal(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> =
            ["var-dd"].iter().chain(arguments).map(OsString::from).collect();
        let command = with_our_manners(Cli::command());
        let error = command.clone().try_get_matches_from(&arguments).unwrap_err();
        in_plain_words(&error, &command, &arguments).unwrap_or_else(|| error.to_string())
    }

    #[test]
    fn a_negative_number_is_told_what_its_flag_takes() {
        for (arguments, part) in [
            (&["serve", "--queue-limit", "-1"][..], "1..=100000"),
            (&["serve", "--keep-results", "-1"], "--keep-results"),
            (&["serve", "--drain-s", "-1"], "must not be negative"),
            (&["serve", "--threads", "-2"], "1..=1024"),
            (&["train", "pictures", "--count", "-1"], "1..=10000000"),
            (&["evaluate", "x", "--sample-num", "-1"], "--sample-num"),
        ] {
            let text = refusal(arguments);
            assert!(text.contains(part) && text.contains("invalid value"), "{text}");
        }
        for arguments in [&["evaluate", "-1"][..], &["serve", "--data-dir", "-1"]] {
            let text = refusal(arguments);
            assert!(text.contains("unexpected argument '-1'"), "{text}");
        }
    }

    #[test]
    fn a_flag_is_found_whatever_follows_it() {
        for text in ["--data-dir", "use --data-dir: it is full", "(--data-dir)", "--data-dir=x; y"]
        {
            assert!(says_flag(text, "data-dir"), "{text}");
        }
        for text in ["", "--data", "--data-dirs", "--data-dir-x", "data-dir"] {
            assert!(!says_flag(text, "data-dir"), "{text}");
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no such file").context("cannot read x: no such file");
        assert_eq!(in_one_line(&error), "cannot read x: no such file");
        let error = Err::<(), _>(error).context("the model cannot be used").unwrap_err();
        assert_eq!(in_one_line(&error), "the model cannot be used: cannot read x: no such file");
    }
}
