//! The images, as archives: they need no cluster, but to be built.

use cluster::{bash, repository};
use serde_json::Value;

/// No image may be as large, in bytes.
const LARGEST: u64 = 20_000_000;
/// In each image, beside its binary.
const PARTS: [&str; 3] = [
    "etc/ssl/certs/ca-certificates.crt",
    "usr/share/licenses/rollcall/LICENCES.txt",
    "usr/share/sbom/rollcall.cdx.json",
];
/// Programs that would make a shell of it.
const SHELLS: [&str; 5] = ["sh", "ash", "bash", "dash", "busybox"];

/// A JSON member of an archive.
fn member(archive: &str, name: &str) -> Value {
    serde_json::from_str(&bash(&format!("tar -xOf '{archive}' '{name}'"))).unwrap()
}

/// The paths of files in a layer. Some tools compress layers, which tar only notices in a file.
fn files(archive: &str, layer: &str) -> Vec<String> {
    let listed = bash(&format!(
        "layer=$(mktemp); trap 'rm -f \"$layer\"' EXIT; tar -xOf '{archive}' '{layer}' > \"$layer\"; tar -tf \"$layer\""
    ));
    let paths = listed.lines().map(|path| path.trim_start_matches("./").trim_start_matches('/'));
    paths.filter(|path| !path.is_empty() && !path.ends_with('/')).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs target/images: make test-cluster"]
fn every_image_is_small_and_has_what_it_needs_and_no_shell() {
    let folder = repository().join("target/images");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let archives: Vec<_> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "tar")).collect();
    assert!(archives.len() >= 3, "{}: {archives:?}; tools/images builds them", folder.display());
    for path in archives {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size < LARGEST, "{name}: {size} bytes");
        let archive = path.to_str().unwrap();
        let manifest = &member(archive, "manifest.json")[0];
        let config = &member(archive, manifest["Config"].as_str().unwrap())["config"];
        let user = config["User"].as_str().unwrap_or_default();
        let is_number = |part: &str| part.parse::<u32>().is_ok_and(|id| id > 0);
        assert!(!user.is_empty() && user.split(':').all(is_number), "{name}: its user is {user:?}");
        assert_eq!(config["Entrypoint"], serde_json::json!([format!("/{name}")]), "{name}");
        for label in ["title", "version", "revision", "licenses"] {
            let label = format!("org.opencontainers.image.{label}");
            assert!(config["Labels"][&label].is_string(), "{name}: no label {label}: {config:#}");
        }
        let layers = manifest["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap());
        let files: Vec<String> = layers.flat_map(|layer| files(archive, layer)).collect();
        for part in PARTS.into_iter().chain([name]) {
            assert!(files.iter().any(|file| file == part), "{name} lacks {part}: {files:?}");
        }
        let is_shell = |file: &&String| file.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name));
        let shells: Vec<&String> = files.iter().filter(is_shell).collect();
        assert!(shells.is_empty(), "{name} has {shells:?}");
    }
}
