//! The program over HTTP and WebSocket.

mod cluster;
mod command_line;
mod durability;
mod faults;
mod limits;
mod results;
mod streams;

use anyhow::{Context, Result};
use var_dd_protocol::{Guidance, JobEvent, Plan};
use var_dd_tests::{
    client::{Event, What},
    expected_frames,
};

/// A kind of plan: what it is called, one of the kind, and its frames as (pass, scale) in order.
type Kind = (&'static str, Plan, Vec<(u32, u32)>);

/// One plan of each kind for a model with `scales` scales.
fn plans(scales: u32) -> Vec<Kind> {
    let split = scales / 2;
    let guidance = Guidance { cfg: 2.0, top_k: 200, top_p: 0.95 };
    let few_step = |t_list| Plan::FewStep { t_list, loss_split_t: split };
    let involved = Plan::teacher_involved([0, split], split, split - 1, guidance);
    let kinds = [
        ("1 step", few_step(vec![0])),
        ("2 steps", few_step(vec![0, split])),
        ("teacher-involved", involved),
        ("teacher", Plan::Teacher { guidance }),
    ];
    kinds.map(|(name, plan)| (name, plan.clone(), expected_frames(&plan, scales))).into()
}

/// The plan that takes longest, for tests that need a job to be still running.
fn slow_plan(scales: u32) -> Plan {
    plans(scales).remove(3).1
}

/// Events from the start on: of positions in the queue, those who come later hear only the newest.
fn since_start(events: &[Event]) -> Result<&[Event]> {
    let is_started = |event: &Event| matches!(event.what, What::Control(JobEvent::Started { .. }));
    let start = events.iter().position(is_started).context("the job did not start")?;
    Ok(&events[start..])
}
