//! Objects, as kustomize builds them from the overlays.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

use super::files;

/// The overlays, and production with shards and with workers, by name.
pub(crate) static BUILDS: LazyLock<BTreeMap<String, Vec<Value>>> = LazyLock::new(|| {
    let root = files::root();
    let mut builds: BTreeMap<String, Vec<Value>> = ["production", "local", "test"]
        .map(|overlay| (overlay.to_owned(), build(&root.join("k8s/overlays").join(overlay))))
        .into();
    builds.insert("production with sharding".to_owned(), with_component(&root, "production", "sharding"));
    builds.insert(WORKERS.to_owned(), with_component(&root, "production", "outbox-worker"));
    builds
});

/// The build in which workers are.
pub(crate) const WORKERS: &str = "production with outbox-worker";
/// A stand-in for ESI, on local clusters alone.
const STAND_IN: &str = "esi-simulator";

/// The objects of an overlay.
pub(crate) fn objects(build: &str) -> &'static [Value] {
    &BUILDS[build]
}

fn with_component(root: &Path, overlay: &str, component: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    copy(&root.join("k8s"), &folder.path().join("k8s"));
    let overlay = folder.path().join("k8s/overlays").join(overlay);
    let path = overlay.join("kustomization.yaml");
    let text = std::fs::read_to_string(&path).expect("an overlay has a kustomization");
    let text = format!("{text}\ncomponents: [../../components/{component}]\n");
    std::fs::write(path, text).expect("temporary folders are writable");
    build(&overlay)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("temporary folders are writable");
    for entry in std::fs::read_dir(from).expect("the folder is readable").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("the file is readable");
        }
    }
}

/// kubectl, which has kustomize inside; else kustomize; else the one that tools/kustomize installs.
fn build(folder: &Path) -> Vec<Value> {
    let own = files::root().join("target/tools/bin/kustomize");
    let ways: [(&Path, &str); 3] =
        [(Path::new("kubectl"), "kustomize"), (Path::new("kustomize"), "build"), (&own, "build")];
    let output = ways.iter().find_map(|(program, verb)| Command::new(program).arg(verb).arg(folder).output().ok());
    let output = output.unwrap_or_else(|| {
        panic!("neither kubectl nor kustomize is installed: install kubectl 1.32 or newer, or run tools/kustomize")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} cannot be built: {said}", folder.display());
    let text = String::from_utf8(output.stdout).expect("YAML is UTF-8");
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Whether it is of this kind.
pub(crate) fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

/// The elements of a list; none where there is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Keys and texts of a map; none where there is no map.
pub(crate) fn texts(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Something that starts one of our binaries: a Job, a CronJob by its template, or a Deployment.
pub(crate) struct Workload {
    pub(crate) build: &'static str,
    pub(crate) object: &'static Value,
    /// `spec` of the Job or Deployment.
    pub(crate) job: &'static Value,
    /// The container of the binary.
    pub(crate) container: &'static Value,
    /// Name of the binary.
    pub(crate) program: String,
    /// Variables with fixed values, from ConfigMaps and `env`.
    pub(crate) variables: BTreeMap<String, String>,
    /// Variables from Secrets and the downward API.
    pub(crate) references: BTreeSet<String>,
}

impl Workload {
    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        let kind = self.object["kind"].as_str().unwrap_or_default();
        format!("k8s/overlays/{}: {kind} {}", self.build, name(self.object))
    }
}

/// The workloads of all builds that end.
pub(crate) fn jobs() -> Vec<Workload> {
    workloads().into_iter().filter(|workload| !is(workload.object, "Deployment")).collect()
}

/// The workloads of all builds.
pub(crate) fn workloads() -> Vec<Workload> {
    BUILDS
        .iter()
        .flat_map(|(build, objects)| objects.iter().filter_map(|object| workload(build, objects, object)))
        .collect()
}

fn workload(build: &'static str, objects: &'static [Value], object: &'static Value) -> Option<Workload> {
    let job = match object["kind"].as_str()? {
        "Job" | "Deployment" => &object["spec"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"],
        _ => return None,
    };
    let ours = |container: &&Value| container["image"].as_str().is_some_and(|image| image.contains("rollcall/"));
    let container = list(&job["template"]["spec"]["containers"]).iter().find(ours)?;
    let image = container["image"].as_str()?;
    let program = image.rsplit('/').next()?.split([':', '@']).next()?.to_owned();
    if program == STAND_IN {
        return None;
    }
    let (mut variables, mut references) = (BTreeMap::new(), BTreeSet::new());
    for source in list(&container["envFrom"]) {
        let config = source["configMapRef"]["name"].as_str()?;
        let map = objects.iter().find(|object| is(object, "ConfigMap") && name(object) == config);
        variables.extend(texts(&map.unwrap_or_else(|| panic!("{build}: no ConfigMap {config}"))["data"]));
    }
    for entry in list(&container["env"]) {
        let variable = entry["name"].as_str()?.to_owned();
        match entry["value"].as_str() {
            Some(value) => drop(variables.insert(variable, value.to_owned())),
            None => drop(references.insert(variable)),
        }
    }
    Some(Workload { build, object, job, container, program, variables, references })
}
