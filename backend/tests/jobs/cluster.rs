//! What is promised beyond one machine.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Parser;
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::sleep,
};
use var_dd::{
    cluster::WorkerConfig,
    generator::fake::{self, FakeGenerator, Gate},
    http::serve_vitals,
    jobs::Jobs,
};
use var_dd_protocol::JobEvent;

use crate::{
    broker::Broker,
    conformance::{FRAMES, all, last, pictures, submit, watched},
    setting::{Line, Setting, scheduler},
};

/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_watchers_over_two_gateways_see_the_same() {
    let setting = Setting::clustered().await;
    let other: Arc<dyn Jobs> = Arc::new(setting.cluster.as_ref().unwrap().gateway().await);
    let accepted = submit(&setting.jobs, 2).await;
    let mut viewers = Vec::new();
    for at in 0..200 {
        let jobs = if at % 2 == 0 { &setting.jobs } else { &other };
        viewers.push(jobs.watch(&accepted.job, None).await.unwrap());
    }
    setting.gate.open();
    let logs = join_all(viewers.into_iter().map(all)).await;
    assert!(matches!(last(&logs[0]), JobEvent::Finished { .. }));
    assert!(logs.iter().all(|log| *log == logs[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_loses_nothing() {
    let mut setting = Setting::clustered().await;
    let mut accepted = Vec::new();
    for class in 0..3 {
        accepted.push(submit(&setting.jobs, class).await);
    }
    let jobs = setting.jobs.clone();
    let broker = &mut setting.cluster.as_mut().unwrap().brokers[0];
    broker.kill();
    sleep(Duration::from_millis(500)).await;
    assert!(jobs.can_keep().await.is_err(), "it says that it cannot");
    broker.restart().await;
    setting.gate.open();
    for accepted in &accepted {
        let events = watched_again(&jobs, &accepted.job).await;
        assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
        assert_eq!(pictures(&events).len(), FRAMES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_brokers_the_leader_may_be_killed() {
    let brokers = Broker::start_three().await;
    let urls: Vec<_> = brokers.iter().map(Broker::url).collect();
    let mut setting = Setting::clustered_with(brokers, |broker, _| broker.url(), &[]).await;
    let mut accepted = Vec::new();
    for class in 0..3 {
        accepted.push(submit(&setting.jobs, class).await);
    }
    let client = async_nats::connect(urls).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.unwrap();
    let cluster = stream.cached_info().cluster.clone().unwrap();
    let leader = cluster.leader.unwrap();
    let at: usize = leader.strip_prefix("server-").unwrap().parse().unwrap();
    setting.cluster.as_mut().unwrap().brokers[at].kill();
    setting.gate.open();
    for accepted in &accepted {
        let events = watched_again(&setting.jobs, &accepted.job).await;
        assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
        assert_eq!(pictures(&events).len(), FRAMES);
    }
    // Two of three go on as before.
    let next = submit(&setting.jobs, 4).await;
    assert!(matches!(last(&watched(&setting.jobs, &next.job).await), JobEvent::Finished { .. }));
    accepted.push(next);
    let all_are_listed = async {
        while setting.jobs.recent(10, None).await.unwrap().results.len() < accepted.len() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_are_listed).await.expect("no result is missing in the list");
}

/// As a page does it: again and again until there is an answer.
async fn watched_again(
    jobs: &Arc<dyn Jobs>,
    job: &var_dd_protocol::JobId,
) -> Vec<var_dd::jobs::ViewerEvent> {
    for _ in 0..600 {
        if jobs.view(job).await.is_ok_and(|view| view.state.is_final()) {
            return watched(jobs, job).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the job {job} does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_gives_its_jobs_back() {
    let mut setting = Setting::clustered().await;
    let accepted = submit(&setting.jobs, 2).await;
    let gate = setting.gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_for_device()).await.unwrap();
    let cluster = setting.cluster.as_mut().unwrap();
    let first = cluster.workers.remove(0);
    let stopping = tokio::spawn(async move { first.stop(Duration::ZERO).await });
    sleep(Duration::from_millis(200)).await;
    // The pass that it is at ends.
    setting.gate.allow(1);
    stopping.await.unwrap();
    let generator = setting.generator.clone();
    cluster.add_worker("second", &generator).await;
    setting.gate.open();
    let events = watched(&setting.jobs, &accepted.job).await;
    assert!(matches!(last(&events), JobEvent::Finished { .. }));
    assert_eq!(setting.generator.batches().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_rest_hears_of_every_job_at_once() {
    let mut setting = Setting::clustered().await;
    let generator = setting.generator.clone();
    let cluster = setting.cluster.as_mut().unwrap();
    cluster.workers.remove(0).stop(Duration::ZERO).await;
    // What depends on a question to the broker running out is not seen in the time of this test.
    let standing = Duration::from_secs(3600);
    let config = WorkerConfig { standing, ..WorkerConfig::new("patient", scheduler()) };
    cluster.add_worker_with(config, &generator).await;
    setting.gate.open();
    for class in 0..5 {
        let accepted = submit(&setting.jobs, class).await;
        let events = tokio::time::timeout(PATIENCE, watched(&setting.jobs, &accepted.job)).await;
        let events = events.expect("the worker takes the job though its questions stay open");
        assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_cannot_draw_yet_is_left_to_another() {
    let mut setting = Setting::clustered().await;
    let first = submit(&setting.jobs, 1).await;
    let gate = setting.gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_for_device()).await.unwrap();
    // The first worker is at work; what is asked for now waits in the broker.
    let second = submit(&setting.jobs, 2).await;
    let other = Gate::closed();
    let generator = FakeGenerator::new(fake::model("stand-in")).with_gate(&other);
    setting.cluster.as_mut().unwrap().add_worker("second", &generator).await;
    other.open();
    let events = tokio::time::timeout(PATIENCE, watched(&setting.jobs, &second.job)).await;
    let events = events.expect("the second worker draws what the first one has no room for");
    assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
    setting.gate.open();
    let events = watched(&setting.jobs, &first.job).await;
    assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
    assert_eq!((setting.generator.batches().len(), generator.batches().len()), (1, 1));
}

/// So long readers wait for a message before they look for one.
const SILENCE: Duration = Duration::from_secs(4);

/// The rights of each role, as docs/scale.md lists them.
const RIGHTS: &str = r#"
accounts { PLAYGROUND {
    jetstream: enabled
    users: [
        { user: admin, password: admin }
        { user: gateway, password: gateway, permissions: {
            publish: [
                "jobs.queue.>", "events.*", "recent", "called-off", "over", "ask.*",
                "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.EVENTS",
                "$JS.API.STREAM.MSG.GET.RECENT", "$JS.API.STREAM.MSG.GET.MODELS",
                "$JS.API.STREAM.MSG.GET.FRAMES", "$JS.API.DIRECT.GET.FRAMES",
                "$JS.API.DIRECT.GET.FRAMES.>",
                "$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.EVENTS.>",
                "$JS.API.CONSUMER.CREATE.RECENT", "$JS.API.CONSUMER.CREATE.RECENT.>",
                "$JS.API.CONSUMER.CREATE.MODELS", "$JS.API.CONSUMER.CREATE.MODELS.>",
                "$JS.API.CONSUMER.MSG.NEXT.EVENTS.>",
                "$JS.API.CONSUMER.MSG.NEXT.RECENT.>", "$JS.API.CONSUMER.MSG.NEXT.MODELS.>"
            ]
            subscribe: ["_INBOX.>", "over"]
        } }
        { user: worker, password: worker, permissions: {
            publish: [
                "events.*", "frames.*.*", "recent", "models.*", "over", "_INBOX.>",
                "$JS.ACK.JOBS.>", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.FRAMES",
                "$JS.API.STREAM.MSG.GET.EVENTS",
                "$JS.API.CONSUMER.CREATE.JOBS.>", "$JS.API.CONSUMER.DURABLE.CREATE.JOBS.>",
                "$JS.API.CONSUMER.INFO.JOBS.>", "$JS.API.CONSUMER.MSG.NEXT.JOBS.>"
            ]
            subscribe: ["_INBOX.>", "ask.*", "called-off"]
        } }
    ]
} }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_with_its_rights_alone() {
    let broker = Broker::start_with(RIGHTS).await;
    let setting = Setting::clustered_with(vec![broker], Broker::url_of, &[]).await;
    setting.gate.open();
    let accepted = submit(&setting.jobs, 2).await;
    let events = watched(&setting.jobs, &accepted.job).await;
    assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
    assert_eq!(pictures(&events).len(), FRAMES);
    setting.jobs.preview(accepted.request.clone()).await.unwrap();
    setting.jobs.delete(&accepted.job, &accepted.owner_token).await.unwrap();
    // Readers that hear nothing for a while ask whether there is something.
    sleep(2 * SILENCE).await;
    let log = setting.cluster.as_ref().unwrap().brokers[0].log();
    assert!(!log.contains("Violation"), "{log}");
    let page = include_str!("../../../docs/scale.md");
    for subject in RIGHTS.split('"').skip(1).step_by(2) {
        assert!(page.contains(subject), "docs/scale.md does not list {subject}");
    }
}

/// An nkey of nobody but this test: the broker knows the first, the parts have the second.
const NKEY: [&str; 2] = [
    "UAVUU6PYEXKVTQJUN4IDEUPIULT6EIPTTUYGOCPZMACT3V7WZXGHJOQY",
    "SUAPQ6PA53FQERXJHZ5ZJ4LPF3C6TVI7Z7AMGGRCCUR6223S3E5JAWCRVE",
];

#[tokio::test(flavor = "multi_thread")]
async fn parts_speak_to_the_broker_over_tls_and_by_an_nkey() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/data");
    let file = |name: &str| data.join(name).display().to_string();
    let broker = Broker::start_with(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}\n\
         authorization {{ users: [{{ nkey: {} }}] }}",
        file("broker.pem"),
        file("broker.key"),
        NKEY[0]
    ))
    .await;
    let directory = tempfile::TempDir::new().unwrap();
    let seed = directory.path().join("seed");
    // As editors leave it.
    std::fs::write(&seed, format!("{}\n", NKEY[1])).unwrap();
    let authority = format!("--nats-ca={}", file("authority.pem"));
    let nkey = format!("--nats-nkey={}", seed.display());
    let url = broker.url().replace("nats://", "tls://");
    for (flags, missing) in [(&[&nkey], "the authority"), (&[&authority], "the nkey")] {
        let line = ["test".to_owned(), format!("--nats={url}"), "--results=file:///tmp".into()];
        let args = Line::parse_from(line.iter().chain(flags.iter().copied())).args;
        let error = args.connect("gateway").await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&url), "{error}");
        assert!(!error.contains(NKEY[1]), "without {missing}: {error}");
    }
    let flags = [authority, nkey];
    let setting = Setting::clustered_with(vec![broker], |_, _| url.clone(), &flags).await;
    setting.gate.open();
    let accepted = submit(&setting.jobs, 2).await;
    let events = watched(&setting.jobs, &accepted.job).await;
    assert!(matches!(last(&events), JobEvent::Finished { .. }), "{events:?}");
    assert_eq!(pictures(&events).len(), FRAMES);
}

/// Status and text of an answer.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_whoever_watches_it_whether_it_takes_jobs() {
    let mut setting = Setting::clustered().await;
    let cluster = setting.cluster.as_mut().unwrap();
    let worker = cluster.workers[0].clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut registry = Registry::default();
    worker.register_metrics(&mut registry);
    let watched = worker.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(serve_vitals(listener, registry, Arc::new(move || watched.ready()), async {
            let _ = stopped.await;
        }));
    assert_eq!(get(address, "/livez").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert_eq!(get(address, "/api/info").await.0, 404);
    setting.gate.open();
    let accepted = submit(&setting.jobs, 2).await;
    watched_again(&setting.jobs, &accepted.job).await;
    let (status, counters) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(counters.contains("var_dd_batch_pictures_count 1"), "{counters}");
    assert!(counters.ends_with("# EOF\n"), "{counters}");
    let broker = &mut setting.cluster.as_mut().unwrap().brokers[0];
    broker.kill();
    let (_, reason) = until(address, 503).await;
    assert!(reason.contains("no connection to the broker"), "{reason}");
    broker.restart().await;
    until(address, 200).await;
    worker.stop(Duration::ZERO).await;
    assert!(get(address, "/readyz").await.1.contains("stopping"));
    drop(stop);
    serving.await.unwrap().unwrap();
}

/// The first answer of readiness with this status.
async fn until(address: SocketAddr, status: u16) -> (u16, String) {
    for _ in 0..600 {
        let answer = get(address, "/readyz").await;
        if answer.0 == status {
            return answer;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("readiness never answers {status}");
}
