//! The bill of materials: CycloneDX, without time stamps and serial numbers, so that it is the same for the same binary.

use serde_json::{Value, json};

use crate::{
    Result,
    cargo::{Linked, Package},
};

type Key = (String, String);

/// The document.
pub(crate) fn json(linked: &Linked, glibc: &str) -> Result<String> {
    let own = |key: &Key| *key == linked.root;
    let mut components: Vec<Value> =
        linked.packages.iter().filter(|(key, _)| !own(key)).map(|(key, package)| component(key, package)).collect();
    components.push(beside("rust-std", &linked.rust, "MIT OR Apache-2.0"));
    components.push(beside("glibc", glibc, "LGPL-2.1-or-later"));
    let dependencies: Vec<Value> = linked
        .packages
        .iter()
        .map(|(key, package)| {
            let mut uses: Vec<String> = package.uses.iter().map(reference).collect();
            if own(key) {
                uses.extend([format!("rust-std@{}", linked.rust), format!("glibc@{glibc}")]);
            }
            json!({ "ref": reference(key), "dependsOn": uses })
        })
        .collect();
    let root = linked.packages.get(&linked.root).ok_or("the binary's own package is missing")?;
    let mut itself = component(&linked.root, root);
    itself["type"] = "application".into();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": itself },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn reference((name, version): &Key) -> String {
    format!("{name}@{version}")
}

fn component(key: &Key, package: &Package) -> Value {
    let (name, version) = key;
    let mut value = json!({ "type": "library", "bom-ref": reference(key), "name": name, "version": version });
    if let Some(licence) = &package.licence {
        // Old manifests write MIT/Apache-2.0, which is no SPDX expression.
        value["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if package.published {
        value["purl"] = format!("pkg:cargo/{name}@{version}").into();
    }
    if let Some(checksum) = &package.checksum {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    value
}

/// What is linked in without being a package.
fn beside(name: &str, version: &str, licence: &str) -> Value {
    json!({
        "type": "library", "bom-ref": format!("{name}@{version}"), "name": name, "version": version,
        "licenses": [{ "expression": licence }],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn package(published: bool, uses: &[Key]) -> Package {
        Package {
            licence: Some("MIT/Apache-2.0".to_owned()),
            folder: "/nowhere".into(),
            licence_file: None,
            published,
            checksum: published.then(|| "ff".to_owned()),
            uses: uses.iter().cloned().collect::<BTreeSet<_>>(),
        }
    }

    #[test]
    fn the_bill_names_what_is_linked_and_by_whom() {
        let (own, used) = (("migrate".to_owned(), "0.1.0".to_owned()), ("a".to_owned(), "1.0.0".to_owned()));
        let packages = BTreeMap::from([
            (own.clone(), package(false, std::slice::from_ref(&used))),
            (used.clone(), package(true, &[])),
        ]);
        let linked = Linked { root: own, packages, rust: "1.95.0".to_owned(), sysroot: String::new() };
        let bill: Value = serde_json::from_str(&json(&linked, "2.36").unwrap()).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "migrate");
        assert_eq!(bill["components"][0]["purl"], "pkg:cargo/a@1.0.0");
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let names: Vec<&Value> = bill["components"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["a", "rust-std", "glibc"]);
        assert_eq!(bill["dependencies"][1]["dependsOn"], json!(["a@1.0.0", "rust-std@1.95.0", "glibc@2.36"]));
    }
}
