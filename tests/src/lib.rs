//! End-to-end tests of the VAR-DD playground: the real program, spoken to as its users do.
//!
//! `cargo xtask test` builds the program and the page first and says where they are; without it the
//! tests take the program beside their own (`target/debug/var-dd`).

pub mod browser;
pub mod client;
pub mod cluster;
pub mod playground;
pub mod ports;
pub mod process;
pub mod program;
pub mod proxy;

use sha2::{Digest, Sha256};
use var_dd_protocol::Plan;

/// A picture or message by its SHA-256, short enough for a message of a failed test.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frames of one picture by a plan on a model with `scales` scales, as (pass, scale): written
/// out from the method, apart from the code under test. A student pass shows all scales from its
/// own on, a teacher pass shows its own scale.
pub fn expected_frames(plan: &Plan, scales: u32) -> Vec<(u32, u32)> {
    let student = |pass: u32, from: u32| (from..scales).map(move |scale| (pass, scale));
    match plan {
        Plan::FewStep { t_list, .. } => {
            (0..).zip(t_list).flat_map(|(pass, &from)| student(pass, from)).collect()
        }
        Plan::TeacherInvolved { t_list: [a, b], teacher_start, .. } => {
            let mut frames = Vec::new();
            let mut pass = 0;
            if *teacher_start > 0 {
                frames.extend(student(pass, *a));
                pass += 1;
            }
            for scale in *teacher_start..*b {
                frames.push((pass, scale));
                pass += 1;
            }
            frames.extend(student(pass, *b));
            frames
        }
        Plan::Teacher { .. } => (0..scales).map(|scale| (scale, scale)).collect(),
    }
}
