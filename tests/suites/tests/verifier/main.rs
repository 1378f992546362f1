//! `character-verifier` as it ships: what it decides, writes, takes and tells.

mod rules;
mod selection;
mod settings;
mod support;
mod unresolvable;
