//! The folder that becomes an image.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{Result, Root, authorities, bill, cargo, licences};

/// Where the parts stand.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
const LICENCES: &str = "usr/share/licenses/rollcall/LICENCES.txt";
const BILL: &str = "usr/share/sbom/rollcall.cdx.json";

/// Writes the folder anew.
pub(crate) fn write(asked: &Root) -> Result<()> {
    let found = cargo::linked(&asked.package, &asked.target)?;
    if asked.out.exists() {
        fs::remove_dir_all(&asked.out)?;
    }
    put(&asked.out, &asked.package, &read(&asked.binary)?, 0o755)?;
    put(&asked.out, AUTHORITIES, authorities::pem().as_bytes(), 0o644)?;
    put(&asked.out, LICENCES, licences::text(&found, &asked.glibc)?.as_bytes(), 0o644)?;
    put(&asked.out, BILL, bill::json(&found, &asked.glibc)?.as_bytes(), 0o644)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn put(root: &Path, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, bytes)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}
