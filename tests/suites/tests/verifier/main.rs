//! `character-verifier` as it ships: what it decides, writes, takes and tells.

mod aside;
mod audit;
mod breaker;
mod changes;
mod confirmation;
mod explain;
mod gates;
mod held;
mod manners;
mod metrics;
mod pending;
mod race;
mod rules;
mod selection;
mod settings;
mod shards;
mod spoilt;
mod support;
mod tokens;
mod tokens_refused;
mod unknown;
mod unresolvable;
