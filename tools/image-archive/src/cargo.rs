//! Which packages are linked into a binary, by cargo's own word.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::Result;

/// The package whose data are the certificate authorities.
const AUTHORITIES: &str = "webpki-root-certs";

/// What is in a binary.
pub(crate) struct Linked {
    /// The binary's own package.
    pub(crate) root: (String, String),
    /// All packages, its own among them, by name and version.
    pub(crate) packages: BTreeMap<(String, String), Package>,
    /// Release of the compiler, and so of the standard library.
    pub(crate) rust: String,
    /// Where the toolchain is.
    pub(crate) sysroot: String,
}

/// One of them.
pub(crate) struct Package {
    /// As in Cargo.toml.
    pub(crate) licence: Option<String>,
    /// Folder of its source.
    pub(crate) folder: std::path::PathBuf,
    /// Where the licence is, if the package names a file.
    pub(crate) licence_file: Option<String>,
    /// From a registry, or of this workspace.
    pub(crate) published: bool,
    /// SHA-256 of the archive that the registry served.
    pub(crate) checksum: Option<String>,
    /// Its own dependencies that are linked too.
    pub(crate) uses: BTreeSet<(String, String)>,
}

/// Packages whose code is in the binary: no build scripts, no macros' code, no tests.
pub(crate) fn linked(package: &str, target: &str) -> Result<Linked> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "-p",
        package,
        "--target",
        target,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    let mut names: BTreeSet<(String, String)> = tree.lines().filter_map(name_and_version).collect();
    let root = tree.lines().next().and_then(name_and_version).ok_or("cargo tree said nothing")?;
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", target])?)?;
    // Not linked but beside the binary: the certificate authorities.
    let beside = array(&metadata["packages"]).iter().find(|entry| entry["name"] == AUTHORITIES);
    names.extend(beside.map(|entry| (AUTHORITIES.to_owned(), text(&entry["version"]))));
    let checksums = checksums(&std::fs::read_to_string(workspace(&metadata)?.join("Cargo.lock"))?);
    let mut ids = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for entry in array(&metadata["packages"]) {
        let key = (text(&entry["name"]), text(&entry["version"]));
        ids.insert(text(&entry["id"]), key.clone());
        if names.contains(&key) {
            packages.insert(key.clone(), package_of(entry, checksums.get(&key).cloned())?);
        }
    }
    for node in array(&metadata["resolve"]["nodes"]) {
        let Some(package) = ids.get(&text(&node["id"])).and_then(|key| packages.get_mut(key)) else { continue };
        let normal = |dep: &&Value| array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let uses = array(&node["deps"]).iter().filter(normal).filter_map(|dep| ids.get(&text(&dep["pkg"])));
        package.uses = uses.filter(|key| names.contains(*key)).cloned().collect();
    }
    if let Some(missing) = names.iter().find(|key| !packages.contains_key(*key)) {
        return Err(format!("cargo metadata does not know {} {}", missing.0, missing.1).into());
    }
    let rust = run("rustc", &["-vV"])?;
    let rust = rust.lines().find_map(|line| line.strip_prefix("release: ")).ok_or("rustc tells no release")?.to_owned();
    let sysroot = run("rustc", &["--print", "sysroot"])?.trim().to_owned();
    Ok(Linked { root, packages, rust, sysroot })
}

fn package_of(entry: &Value, checksum: Option<String>) -> Result<Package> {
    let manifest = std::path::PathBuf::from(text(&entry["manifest_path"]));
    Ok(Package {
        licence: entry["license"].as_str().map(str::to_owned),
        licence_file: entry["license_file"].as_str().map(str::to_owned),
        folder: manifest.parent().ok_or("a manifest without a folder")?.to_owned(),
        published: !entry["source"].is_null(),
        checksum,
        uses: BTreeSet::new(),
    })
}

/// `name v1.2.3 (…)`, as cargo tree writes it.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name.to_owned(), version.to_owned()))
}

/// The checksums of Cargo.lock, which is written by cargo alone, a key a line.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let start = format!("{key} = \"");
        block.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('"').map(str::to_owned))
    };
    let of = |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    lock.split("[[package]]").filter_map(of).collect()
}

fn workspace(metadata: &Value) -> Result<&std::path::Path> {
    Ok(metadata["workspace_root"].as_str().ok_or("cargo metadata names no workspace")?.as_ref())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn cargo(arguments: &[&str]) -> Result<String> {
    run(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {}: {}", arguments.join(" "), words.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_has_a_name_and_a_version() {
        let key = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(name_and_version("job v0.1.0 (/src/shared/job) (*)"), key("job", "0.1.0"));
        assert_eq!(name_and_version("aws-lc-sys v0.30.0"), key("aws-lc-sys", "0.30.0"));
        assert_eq!(name_and_version(""), None);
    }

    #[test]
    fn checksums_are_those_of_the_registry() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ff\"\n\n\
                    [[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";
        let found = checksums(lock);
        assert_eq!(found.get(&("a".to_owned(), "1.0.0".to_owned())).map(String::as_str), Some("ff"));
        assert_eq!(found.len(), 1);
    }
}
