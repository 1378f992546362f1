//! Reading what is held together: files, and what is in them.

pub(crate) mod alerts;
pub(crate) mod files;
pub(crate) mod kubectl;
pub(crate) mod manifests;
pub(crate) mod programs;
pub(crate) mod promql;
pub(crate) mod shell;
pub(crate) use documents::markdown;
