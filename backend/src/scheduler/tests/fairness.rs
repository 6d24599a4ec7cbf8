//! Several clients at once.

use std::net::IpAddr;

use var_dd_protocol::Guidance;

use super::*;
use crate::generator::fake::Gate;

fn client(number: u8) -> Client {
    Client { address: Some(IpAddr::from([192, 0, 2, number])), conversation: 0 }
}

async fn ask(scheduler: &Scheduler, of: Client, request: GenerateRequest) -> JobId {
    let asking = Asking { unwatched: Unwatched::Stays, client: of, key: None };
    scheduler.submit_as(request, asking).await.unwrap().job
}

#[tokio::test]
async fn a_second_client_waits_for_one_batch_and_not_for_sixty_jobs() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let limits = SchedulerConfig { max_batch: 1, queue_limit: 100, ..config() };
    let (scheduler, _directory) = start(limits, &generator).await;
    for _ in 0..60 {
        ask(&scheduler, client(1), request(1, few_step(&[0]), 1)).await;
    }
    gate.wait_for_device();
    let small = ask(&scheduler, client(2), request(2, few_step(&[0]), 1)).await;
    let mut viewer = scheduler.watch(&small, None).await.unwrap();
    assert!(matches!(
        viewer.next().await,
        Some(ViewerEvent::Control { event: JobEvent::Queued { position: 0 }, .. })
    ));
    gate.open();
    all(viewer).await;
    let classes: Vec<_> =
        generator.batches().iter().map(|batch| batch.pictures[0].class).take(2).collect();
    assert_eq!(classes, [1, 2]);
}

#[tokio::test]
async fn a_long_job_lets_a_short_one_of_another_client_pass_between_its_passes() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    let teacher = Plan::Teacher { guidance: Guidance { cfg: 2.0, top_k: 0, top_p: 0.0 } };
    let long = ask(&scheduler, client(1), request(1, teacher, 8)).await;
    let mut viewer = scheduler.watch(&long, None).await.unwrap();
    gate.wait_for_device();
    // What a pass takes is known from the first one.
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.allow(1);
    until(&mut viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    gate.wait_for_device();
    let small = ask(&scheduler, client(2), request(2, few_step(&[0]), 1)).await;
    // The pass at the gate, the short job, and no more of the long one.
    gate.allow(2);
    let events = all(scheduler.watch(&small, None).await.unwrap()).await;
    assert!(matches!(final_event(&events), JobEvent::Finished { .. }));
    assert_eq!(scheduler.view(&long).await.unwrap().state, var_dd_protocol::JobState::Running);
    gate.open();
    let events = all(viewer).await;
    assert!(matches!(final_event(&events), JobEvent::Finished { .. }));
    assert_eq!(frames(&events).len(), 8 * 3, "no frame is lost");
}

#[tokio::test]
async fn jobs_of_several_clients_share_a_batch() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    ask(&scheduler, client(1), request(0, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let mut jobs = Vec::new();
    for number in 1..4 {
        jobs.push(ask(&scheduler, client(number), request(1, few_step(&[0]), 2)).await);
    }
    gate.open();
    for job in jobs {
        all(scheduler.watch(&job, None).await.unwrap()).await;
    }
    let sizes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures.len()).collect();
    assert_eq!(sizes, [1, 6]);
}
