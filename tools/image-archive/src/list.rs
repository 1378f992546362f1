//! What is in an archive, whoever made it: to compare what two tools have built.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{Cursor, Read},
    path::Path,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use crate::Result;

/// Settings first, then mode, SHA-256 and path of each file, sorted. A later layer wins; its deletions are not followed,
/// for our images delete nothing.
pub(crate) fn text(path: &Path) -> Result<String> {
    let members = members(path)?;
    let member = |name: &Value| {
        let name = name.as_str().ok_or("manifest.json names no file")?;
        members.get(name).ok_or_else(|| format!("the archive lacks {name}"))
    };
    let manifest: Value = serde_json::from_slice(members.get("manifest.json").ok_or("no docker archive")?)?;
    let config: Value = serde_json::from_slice(member(&manifest[0]["Config"])?)?;
    let mut files = BTreeMap::new();
    for layer in manifest[0]["Layers"].as_array().ok_or("manifest.json names no layers")? {
        for entry in Archive::new(Cursor::new(member(layer)?)).entries()? {
            let mut entry = entry?;
            if entry.header().entry_type() != EntryType::Regular {
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            files
                .insert(path, format!("{:o} {}", entry.header().mode()? & 0o7777, hex::encode(Sha256::digest(&bytes))));
        }
    }
    let mut text = String::new();
    let words = |value: &Value| match value {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        value => value.as_str().unwrap_or_default().to_owned(),
    };
    for name in ["User", "Entrypoint", "Cmd", "Env"] {
        writeln!(text, "{name} {}", words(&config["config"][name]))?;
    }
    for (name, value) in config["config"]["Labels"].as_object().into_iter().flatten() {
        writeln!(text, "Label {name}={}", words(value))?;
    }
    for (path, what) in files {
        writeln!(text, "{what} /{path}")?;
    }
    Ok(text)
}

fn members(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut members = BTreeMap::new();
    for entry in Archive::new(file).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        members.insert(name, bytes);
    }
    Ok(members)
}
