//! The simulator over real HTTP: each route, each rule clients must keep, each fault.

mod binary;
mod client;
mod control;
mod esi;
mod faults;
mod limits;
mod rules;
mod sso;
