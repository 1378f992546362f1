//! Envelopes of encrypted columns.

pub mod envelope;
