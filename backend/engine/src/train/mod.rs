//! Training: from drawn pictures to a student.

pub mod flow;
pub mod pictures;
