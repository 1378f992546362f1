//! The archive: an OCI layout that is a docker archive too, so that everything loads it. One layer, not compressed.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Pack, Result};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Content and its address.
struct Blob {
    bytes: Vec<u8>,
    hash: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = hex::encode(Sha256::digest(&bytes));
        Self { bytes, hash }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hash)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hash)
    }

    fn described(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// Writes the archive; returns the manifest's digest.
pub(crate) fn write(asked: &Pack) -> Result<String> {
    let layer = Blob::new(layer(&asked.root, asked.epoch)?);
    let config = Blob::json(&config(asked, &layer)?)?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": config.described(CONFIG), "layers": [layer.described(LAYER)],
    }))?;
    let mut described = manifest.described(MANIFEST);
    let tag = asked.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    described["annotations"] =
        json!({ "io.containerd.image.name": asked.name, "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "manifests": [described] });
    let docker = json!([{ "Config": config.path(), "RepoTags": [asked.name], "Layers": [layer.path()] }]);

    let mut archive = Builder::new(File::create(&asked.out)?);
    put(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, asked.epoch)?;
    put(&mut archive, "index.json", &serde_json::to_vec(&index)?, asked.epoch)?;
    put(&mut archive, "manifest.json", &serde_json::to_vec(&docker)?, asked.epoch)?;
    for blob in [&manifest, &config, &layer] {
        put(&mut archive, &blob.path(), &blob.bytes, asked.epoch)?;
    }
    archive.into_inner()?.flush()?;
    Ok(manifest.digest())
}

fn config(asked: &Pack, layer: &Blob) -> Result<Value> {
    let seconds = i64::try_from(asked.epoch)?;
    let created = OffsetDateTime::from_unix_timestamp(seconds)?.format(&Rfc3339)?;
    let mut labels = serde_json::Map::new();
    for label in &asked.labels {
        let (name, value) = label.split_once('=').ok_or_else(|| format!("the label {label:?} is not NAME=VALUE"))?;
        labels.insert(name.to_owned(), value.into());
    }
    Ok(json!({
        "created": created, "architecture": asked.architecture, "os": "linux",
        // So that `kubectl exec` finds the binary by its name.
        "config": { "User": asked.user, "Entrypoint": [asked.entrypoint], "WorkingDir": "/", "Env": ["PATH=/"], "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        "history": [{ "created": created, "created_by": "image-archive pack" }],
    }))
}

/// The folder as a layer: sorted, owned by root, all of one age.
fn layer(root: &Path, epoch: u64) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    let mut layer = Builder::new(Vec::new());
    for path in paths {
        let name = path.strip_prefix(root)?.to_str().ok_or("a path that is not UTF-8")?;
        if path.is_dir() {
            let mut header = header(0, 0o755, epoch);
            header.set_entry_type(EntryType::Directory);
            layer.append_data(&mut header, format!("{name}/"), std::io::empty())?;
        } else {
            let mode = if is_program(&path)? { 0o755 } else { 0o644 };
            let bytes = fs::read(&path)?;
            layer.append_data(&mut header(bytes.len(), mode, epoch), name, bytes.as_slice())?;
        }
    }
    Ok(layer.into_inner()?)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    entries.sort();
    for path in entries {
        let is_folder = path.is_dir();
        paths.push(path.clone());
        if is_folder {
            walk(&path, paths)?;
        }
    }
    Ok(())
}

fn is_program(path: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

fn put(archive: &mut Builder<impl Write>, name: &str, bytes: &[u8], epoch: u64) -> Result<()> {
    Ok(archive.append_data(&mut header(bytes.len(), 0o644, epoch), name, bytes)?)
}

fn header(size: usize, mode: u32, epoch: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;

    fn pack(folder: &Path, out: &str, epoch: u64) -> Pack {
        Pack {
            root: folder.join("root"),
            name: "localhost/rollcall/migrate:0.1.0".to_owned(),
            architecture: "amd64".to_owned(),
            entrypoint: "/migrate".to_owned(),
            user: "65532:65532".to_owned(),
            labels: vec!["org.opencontainers.image.version=0.1.0".to_owned()],
            epoch,
            out: folder.join(out),
        }
    }

    #[test]
    fn two_archives_of_equal_folders_are_equal_and_show_what_is_in() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/etc/ssl")).unwrap();
        fs::write(folder.path().join("root/migrate"), "binary").unwrap();
        fs::set_permissions(folder.path().join("root/migrate"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("root/etc/ssl/ca"), "authorities").unwrap();
        let first = write(&pack(folder.path(), "1.tar", 1_700_000_000)).unwrap();
        // Another age of the files changes nothing.
        fs::write(folder.path().join("root/etc/ssl/ca"), "authorities").unwrap();
        let second = write(&pack(folder.path(), "2.tar", 1_700_000_000)).unwrap();
        assert_eq!(first, second);
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert!(read("1.tar") == read("2.tar"));
        assert_ne!(write(&pack(folder.path(), "3.tar", 1_800_000_000)).unwrap(), first);

        let shown = list::text(&folder.path().join("1.tar")).unwrap();
        assert!(shown.contains("User 65532:65532\n") && shown.contains("Entrypoint /migrate\n"), "{shown}");
        let hash = hex::encode(Sha256::digest(b"binary"));
        assert!(shown.contains(&format!("755 {hash} /migrate\n")), "{shown}");
        assert!(shown.contains("644 ") && shown.contains(" /etc/ssl/ca\n"), "{shown}");
    }
}
