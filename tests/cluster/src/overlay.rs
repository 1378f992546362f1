//! The manifests, in a namespace of a test's own.

use std::{fmt::Write, fs, path::Path};

use tempfile::TempDir;

use crate::{cluster::MARK, cluster::repository, commands::kubectl};

/// A copy of `k8s/` with one more overlay, which builds on another in this namespace.
#[derive(Debug)]
pub struct Overlay {
    folder: TempDir,
}

impl Overlay {
    /// Builds on the overlay `base`, with these components.
    pub fn of(base: &str, namespace: &str, components: &[&str]) -> Self {
        let overlay = Self { folder: tempfile::tempdir().expect("a temporary folder is needed") };
        copy(&repository().join("k8s"), &overlay.folder.path().join("k8s"));
        let mut text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {namespace}\n\
             resources: [../{base}]\nlabels:\n  - pairs: {{{MARK}: \"true\"}}\n    includeSelectors: false\n"
        );
        if !components.is_empty() {
            text.push_str("components:\n");
            for component in components {
                writeln!(text, "  - ../../components/{component}").expect("text can be written to");
            }
        }
        overlay.write("overlays/this/kustomization.yaml", &text);
        overlay
    }

    /// Writes a file below `k8s/`.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join("k8s").join(path);
        fs::create_dir_all(path.parent().expect("it is below k8s/")).expect("the temporary folder is writable");
        fs::write(path, text).expect("the temporary folder is writable");
    }

    /// The folder in which `k8s/` stands.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file below `k8s/`.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join("k8s").join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Where `kubectl apply -k` finds it.
    pub fn path(&self) -> String {
        self.folder.path().join("k8s/overlays/this").display().to_string()
    }

    /// Makes the namespace, as the documentation does before the Secrets.
    pub fn make_namespace(&self) {
        let all = kubectl(&format!("kustomize {}", self.path()), "");
        let namespace = all.split("\n---\n").find(|object| object.contains("\nkind: Namespace\n"));
        kubectl("apply -f -", namespace.expect("the base has a namespace"));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder is writable");
    for entry in fs::read_dir(from).expect("k8s/ is readable") {
        let entry = entry.expect("k8s/ is readable");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("k8s/ can be copied");
        }
    }
}
