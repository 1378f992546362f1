//! Files of the repository, by their paths in it.

use std::path::PathBuf;

/// The repository's folder. Cargo tells where the suite is while it runs, so that a copy can be held together too.
pub(crate) fn root() -> PathBuf {
    let suite = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(suite).join("../..").canonicalize().expect("the suite is in the repository")
}

/// What a file holds.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of the files in `folder` (not below it) whose names end in `ending`, sorted.
pub(crate) fn list(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<String> = entries
        .map(|entry| entry.expect("the folder is readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    paths.sort();
    paths
}

/// The last part of a path, without `ending`.
pub(crate) fn stem<'a>(path: &'a str, ending: &str) -> &'a str {
    path.rsplit('/').next().and_then(|name| name.strip_suffix(ending)).unwrap_or(path)
}

/// Runbooks, procedures, and the documents that operators read.
pub(crate) fn documents() -> Vec<String> {
    documents::paths(&root())
}
