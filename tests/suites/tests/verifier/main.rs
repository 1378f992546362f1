//! `character-verifier` as it ships: what it decides, writes, takes and tells.

mod selection;
