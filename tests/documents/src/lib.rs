//! The documents that operators read, for the tests that hold them to code and cluster.

use std::path::Path;

pub mod markdown;

/// Where documents are, besides README.md.
const FOLDERS: [&str; 4] = ["docs", "runbooks", "runbooks/procedures", "k8s/monitoring"];

/// Runbooks, procedures and the other documents, by their paths in the repository.
///
/// # Panics
/// A folder is not there.
pub fn paths(repository: &Path) -> Vec<String> {
    let mut all = vec!["README.md".to_owned()];
    for folder in FOLDERS {
        let entries = std::fs::read_dir(repository.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let files = entries.map(|entry| entry.expect("the folder is readable").path());
        let documents = files.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
        let mut paths: Vec<String> = documents.map(|path| format!("{folder}/{}", name(&path))).collect();
        paths.sort();
        all.extend(paths);
    }
    all
}

fn name(path: &Path) -> String {
    path.file_name().expect("it is a file").to_string_lossy().into_owned()
}
