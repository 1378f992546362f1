//! The checks, a module for each kind of name.

mod commands;
mod coverage;
mod endings;
mod flows;
mod generated;
mod measured;
mod rules;
mod runbooks;
mod samples;
mod variables;
mod workers;
