//! Training: from drawn pictures to a student.

pub mod pictures;
