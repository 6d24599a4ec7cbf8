//! Step plans as JSON: what is understood is written as it was.

use var_dd_protocol::Plan;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(plan) = serde_json::from_slice::<Plan>(bytes) else { return };
    let written = serde_json::to_vec(&plan).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<Plan>(&written).ok().as_ref(), Some(&plan));
    let _ = plan.needs_teacher();
}
