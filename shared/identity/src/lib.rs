//! Who is who and who may stay: ids, the approval rule, verdicts and error codes.
//!
//! No I/O here: everything is a value or a pure function, so that each rule can be read and tested alone.

pub mod approval;
pub mod codes;
pub mod ids;
pub mod verdict;
