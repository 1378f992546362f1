//! The licences of what is in a binary: each text once, under the names of those that have it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Result,
    cargo::{Linked, Package},
};

/// How the files are called, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// Debian's word on its C library.
const GLIBC: &str = "/usr/share/doc/libc6/copyright";

/// One page: who is in, under which licence; then the texts.
pub(crate) fn text(linked: &Linked, glibc: &str) -> Result<String> {
    let mut list = String::from("This image holds:\n\n");
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut keep = |name: &str, files: Vec<PathBuf>| -> Result<bool> {
        let any = !files.is_empty();
        for file in files {
            // A few old texts are in Latin-1.
            let text = String::from_utf8_lossy(&fs::read(file)?).replace("\r\n", "\n");
            texts.entry(text.trim().to_owned()).or_default().insert(name.to_owned());
        }
        Ok(any)
    };
    for ((name, version), package) in &linked.packages {
        let name = format!("{name} {version}");
        let files = files(package)?;
        let licence = package.licence.as_deref().unwrap_or("see its text");
        let note = if keep(&name, files)? || !package.published { "" } else { " (its package holds no text)" };
        writeln!(list, "{name}: {licence}{note}")?;
    }
    let rust = format!("Rust's standard library {}", linked.rust);
    // Beside it is COPYRIGHT.html: 14 MB on what the compiler is made of.
    keep(&rust, existing(Path::new(&linked.sysroot).join("share/doc/rust/COPYRIGHT-library.html")))?;
    writeln!(list, "{rust}: MIT OR Apache-2.0")?;
    let libc = format!("GNU C library {glibc}");
    keep(&libc, existing(GLIBC.into()))?;
    writeln!(list, "{libc}: LGPL-2.1-or-later")?;
    let texts = texts.iter().map(|(text, names)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("\n{}\n{}\n\n{text}\n", "=".repeat(78), names.join(", "))
    });
    Ok(list + &texts.collect::<String>())
}

/// A package's own files, and for one of this workspace the workspace's.
fn files(package: &Package) -> Result<Vec<PathBuf>> {
    let mut files = in_folder(&package.folder)?;
    files.extend(package.licence_file.as_ref().map(|file| package.folder.join(file)).filter(|file| file.exists()));
    if files.is_empty() && !package.published {
        for folder in package.folder.ancestors() {
            if folder.join("Cargo.lock").exists() {
                return in_folder(folder);
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn existing(file: PathBuf) -> Vec<PathBuf> {
    Some(file).filter(|file| file.exists()).into_iter().collect()
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.path().is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
