//! `var-dd serve`: the playground.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use var_dd_protocol::{GenerateRequest, ModelInfo, PlanPreset};

pub use crate::config::ServeArgs;
use crate::{
    commands::model::default_model,
    config::Config,
    device_args::NetworkArgs,
    generator::{Generator, engine::Engine},
    http,
    jobs::Jobs,
    scheduler::Scheduler,
    storage::{Store, StoreError},
};

/// Bytes that there must be room for at the start: some pages of the database.
const PROBE_BYTES: usize = 256 << 10;

/// Serves until told to stop.
///
/// # Errors
/// When the server cannot start.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve(default_model)?;
    // First what is likeliest to be wrong, and quickest to tell.
    let listener = listen(config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system gives no threads for the server")?;
    runtime.block_on(serve(config, listener))
}

async fn serve(config: Config, listener: TcpListener) -> anyhow::Result<()> {
    // Everything that may fail before anything is made.
    allow_descriptors(config.http.limits.connections);
    let generators = load(&config.models, &config.network)?;
    let address = listener.local_addr().context("the address it listens on")?;
    let stop = stop_signal()?;
    let directory = DataDirectory::prepare(&config.data_dir)?;
    let unusable = || {
        format!(
            "the data directory {} cannot be used; make it usable, or give another one with \
             --data-dir",
            config.data_dir.display()
        )
    };
    let store = match Store::open(&config.data_dir).await {
        Ok(store) => store,
        Err(error) => {
            // Another server has begun there meanwhile: what was made is its.
            if matches!(error, StoreError::InUse { .. }) {
                directory.keep();
            }
            return Err(error).with_context(unusable);
        }
    };
    let scheduler =
        Scheduler::start(config.scheduler, store, generators).await.with_context(unusable)?;
    directory.keep();
    greet(&config.http, address, &scheduler.models());
    draw_example(&scheduler).await;
    http::serve(config.http, listener, Arc::new(scheduler), stop)
        .await
        .context("the server failed")?;
    tracing::info!("stopped");
    Ok(())
}

pub(super) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "another program listens there; stop it or give another one with --listen"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 are reserved; give another one with --listen"
            }
            ErrorKind::AddrNotAvailable => {
                "this computer has no such address; give another one with --listen"
            }
            _ => "give another one with --listen",
        };
        anyhow!("cannot listen on {address}: {error}; {advice}")
    })
}

/// The data directory on the way to a server that runs; what was made of it is removed again if the
/// server does not start.
struct DataDirectory {
    /// The directories that were not there before, the outermost first.
    made: Vec<PathBuf>,
}

impl DataDirectory {
    /// Makes the directory, and sees to it that something can be kept there.
    fn prepare(path: &Path) -> anyhow::Result<Self> {
        let missing = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err());
        let mut made: Vec<_> = missing.map(Path::to_owned).collect();
        made.reverse();
        let directory = Self { made };
        // What the database would say of a full disk is a number.
        let probe = || -> io::Result<()> {
            fs::create_dir_all(path)?;
            let mut file = tempfile::tempfile_in(path)?;
            file.write_all(&[0; PROBE_BYTES])?;
            file.sync_all()
        };
        probe().map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "make room there, or give another place with --data-dir"
                }
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "let this user write there, or give another place with --data-dir"
                }
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    "a file is in the way; give another place with --data-dir"
                }
                _ => "give another place with --data-dir",
            };
            anyhow!("nothing can be kept in {}: {error}; {advice}", path.display())
        })?;
        Ok(directory)
    }

    fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        if let [outermost, ..] = self.made.as_slice() {
            // The error at hand says more than one about the rest would.
            let _ = fs::remove_dir_all(outermost);
        }
    }
}

/// Loads the models on a thread that ends: libtorch's threads that help with loading end with it,
/// and leave the cores to the one that draws.
pub(super) fn load(
    models: &[PathBuf],
    network: &NetworkArgs,
) -> anyhow::Result<Vec<Box<dyn Generator>>> {
    thread::scope(|scope| scope.spawn(|| load_here(models, network)).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn load_here(models: &[PathBuf], network: &NetworkArgs) -> anyhow::Result<Vec<Box<dyn Generator>>> {
    let ops = network.open()?;
    let load_one = |directory: &std::path::PathBuf| {
        let began = Instant::now();
        let engine = Engine::load(directory, &ops, network.dtype())
            .with_context(|| format!("the model in {} cannot be used", directory.display()))?;
        let info = engine.info();
        let (model, device, dtype) = (&info.name, &info.device, &info.dtype);
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(model, device, dtype, parameters = info.parameters, took_ms, "loaded");
        Ok(Box::new(engine) as Box<dyn Generator>)
    };
    models.iter().map(load_one).collect()
}

/// Descriptors beside those of connections: files, the database, the device.
const OTHER_DESCRIPTORS: u64 = 256;

/// Raises the limit of open files as far as the system lets this program, where it is below what
/// the connections need.
pub(super) fn allow_descriptors(connections: u32) {
    let needed = u64::from(connections) + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    if raised.is_err() || current < needed {
        tracing::warn!(
            files = current,
            connections,
            "the system allows fewer open files than --connections needs; raise `ulimit -n` or \
             lower --connections"
        );
    }
}

/// Resolves at the first Ctrl-C or SIGTERM. The second one ends the program at once.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let (stop_sender, stop) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        };
        next().await;
        // Nobody listens any more if the server has ended already.
        let _ = stop_sender.send(());
        let code = next().await;
        tracing::warn!("told twice to stop: ending at once");
        std::process::exit(code);
    });
    Ok(async move {
        // The sender lives as long as the program.
        let _ = stop.await;
    })
}

/// Says where the playground is, in one line on standard output.
pub(super) fn greet(config: &http::HttpConfig, address: SocketAddr, models: &[ModelInfo]) {
    let shown = if address.ip().is_unspecified() {
        SocketAddr::new([127, 0, 0, 1].into(), address.port())
    } else {
        address
    };
    let names: Vec<_> =
        models.iter().map(|model| format!("{} on {}", model.name, model.device)).collect();
    let public =
        config.public_url.as_ref().map(|url| format!(", in public at {url}")).unwrap_or_default();
    // A closed standard output is no reason not to serve.
    let _ = writeln!(
        io::stdout(),
        "The playground is at http://{shown}/{public} ({}). Ctrl-C stops it.",
        names.join(", ")
    );
    if !config.page.is_built() {
        tracing::warn!(
            "the page is not built: run `cargo xtask build`, or `cargo xtask serve`, which does it"
        );
    }
}

/// Sees to it that the default model has a picture to show before the first click.
pub(super) async fn draw_example(jobs: &dyn Jobs) {
    let Some(request) =
        jobs.models().first().and_then(example).filter(|_| jobs.example().is_none())
    else {
        return;
    };
    match jobs.submit_example(request).await {
        Ok(job) => tracing::info!(%job, "drawing an example for the first visit"),
        Err(error) => tracing::warn!(%error, "there will be no example for the first visit"),
    }
}

/// One picture by the best plan of the student alone, which is what the page is about: always the
/// same.
fn example(model: &ModelInfo) -> Option<GenerateRequest> {
    let fid = |preset: &&PlanPreset| preset.fid.unwrap_or(f64::INFINITY);
    let best = model
        .plans
        .iter()
        .rev()
        .filter(|preset| !preset.plan.needs_teacher())
        .min_by(|a, b| fid(a).total_cmp(&fid(b)))
        .or_else(|| model.plans.first())?;
    Some(GenerateRequest {
        model: Some(model.name.clone()),
        class: (model.classes.len() / 2) as u32,
        plan: best.plan.clone(),
        seed: Some(1),
        count: 1,
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_drawn_by_the_best_plan_of_the_student_alone() {
        let preset = |name: &str, plan: serde_json::Value, fid| {
            let plan = serde_json::from_value(plan).unwrap();
            PlanPreset { name: name.into(), plan, fid }
        };
        let student = |t_list: &[u32]| serde_json::json!({"kind": "few_step", "t_list": t_list, "loss_split_t": 1});
        let teacher = serde_json::json!({"kind": "teacher", "cfg": 2.0, "top_k": 0, "top_p": 0.0});
        let mixed = serde_json::json!({"kind": "teacher_involved", "t_list": [0, 1],
            "loss_split_t": 1, "teacher_start": 1, "cfg": 2.0, "top_k": 0, "top_p": 0.0});
        let mut model = ModelInfo {
            name: "m".into(),
            image_size: 16,
            patch_nums: vec![1, 2, 3],
            classes: vec!["a".into(), "b".into(), "c".into()],
            plans: vec![
                preset("1", student(&[0]), Some(9.9)),
                preset("2", student(&[0, 1]), Some(7.8)),
                preset("3, with teacher", mixed, Some(6.5)),
                preset("teacher", teacher, Some(4.2)),
            ],
            has_teacher: true,
            depth: 1,
            vocabulary: 2,
            parameters: 3,
            device: "cpu".into(),
            dtype: "f32".into(),
        };
        let request = example(&model).unwrap();
        assert_eq!(
            (request.class, request.seed, &request.plan),
            (1, Some(1), &model.plans[1].plan)
        );
        model.plans.iter_mut().for_each(|preset| preset.fid = None);
        assert_eq!(
            example(&model).unwrap().plan,
            model.plans[1].plan,
            "the last one, where no score is known"
        );
        model.plans.clear();
        assert!(example(&model).is_none());
    }

    #[test]
    fn a_server_that_does_not_start_leaves_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let prepared = DataDirectory::prepare(&path).unwrap();
        fs::write(path.join("database"), "").unwrap();
        drop(prepared);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        DataDirectory::prepare(&path).unwrap().keep();
        drop(DataDirectory::prepare(&path).unwrap());
        assert!(path.is_dir(), "what was there before stays");
        fs::write(directory.path().join("file"), "").unwrap();
        let error = DataDirectory::prepare(&directory.path().join("file/c")).map(drop);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("nothing can be kept in") && error.contains("--data-dir"),
            "{error}"
        );
        let error = DataDirectory::prepare(&directory.path().join("file")).map(drop).unwrap_err();
        assert!(error.to_string().contains("a file is in the way"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("another program listens there") && error.contains("--listen"),
            "{error}"
        );
    }
}
