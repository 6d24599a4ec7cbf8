//! The program over HTTP and WebSocket.

mod command_line;
mod durability;
mod limits;
mod results;
mod streams;

use var_dd_protocol::Plan;

/// A kind of plan: what it is called, one of the kind, and its frames as (pass, scale) in order.
type Kind = (&'static str, Plan, Vec<(u32, u32)>);

/// One plan of each kind for a model with `scales` scales, and its frames, written out from the
/// method: a student pass shows all scales from its own on, a teacher pass shows its own scale.
fn plans(scales: u32) -> Vec<Kind> {
    let split = scales / 2;
    let start = split - 1;
    let (cfg, top_k, top_p) = (2.0, 200, 0.95);
    let student = |pass, from| (from..scales).map(move |scale| (pass, scale));
    let few_step = |t_list| Plan::FewStep { t_list, loss_split_t: split };
    let involved = Plan::TeacherInvolved {
        t_list: [0, split],
        loss_split_t: split,
        teacher_start: start,
        cfg,
        top_k,
        top_p,
        causal_prefix: false,
    };
    let teacher = Plan::Teacher { cfg, top_k, top_p };
    vec![
        ("1 step", few_step(vec![0]), student(0, 0).collect()),
        ("2 steps", few_step(vec![0, split]), student(0, 0).chain(student(1, split)).collect()),
        ("teacher-involved", involved, student(0, 0).chain([(1, start)]).chain(student(2, split)).collect()),
        ("teacher", teacher, (0..scales).map(|scale| (scale, scale)).collect()),
    ]
}

/// The plan that takes longest, for tests that need a job to be still running.
fn slow_plan(scales: u32) -> Plan {
    plans(scales).remove(3).1
}
