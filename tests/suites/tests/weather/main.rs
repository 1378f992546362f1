//! `character-verifier` in bad weather: an ESI and an SSO that fail in every way the simulator knows, servers that go
//! away, processes that are killed. Whatever happens, nobody loses a session on half knowledge, nothing is half
//! written, and the next run completes the work.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_wrap,
    clippy::format_push_string,
    clippy::assigning_clones,
    reason = "helpers of tests fail as tests do, and are written to be read"
)]

mod cast;
mod clocks;
mod crowds;
mod end_state;
mod esi_lost;
mod faults;
mod kill;
mod seams;
mod servers;
mod table;
mod together;
mod tokens;
mod village;
