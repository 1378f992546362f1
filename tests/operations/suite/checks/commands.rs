//! Commands that operators paste name what there is, and their own binaries take them. That they do what is said, the
//! cluster test shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    findings::Findings,
    read::{
        files,
        kubectl::{self, Kubectl},
        manifests::{self, BUILDS, is, list, name, texts},
        markdown, programs, shell,
    },
};

/// The label by which the pods of a Job are found.
const OF_A_JOB: &str = "batch.kubernetes.io/job-name=";

/// What the commands may name: that of production, of its workers and of the local overlay, all in one namespace.
struct There {
    namespace: String,
    objects: BTreeSet<(String, String)>,
    /// Of objects and of pods.
    labels: BTreeSet<String>,
    /// Keys of Secrets, as the workloads refer to them.
    secrets: BTreeMap<String, BTreeSet<String>>,
    /// ConfigMap → the binaries that read it.
    readers: BTreeMap<String, BTreeSet<String>>,
}

fn there() -> There {
    let namespace = manifests::objects("production").iter().find(|object| is(object, "Namespace")).map(name);
    let mut there = There {
        namespace: namespace.expect("production has a namespace").to_owned(),
        objects: BTreeSet::new(),
        labels: BTreeSet::new(),
        secrets: BTreeMap::new(),
        readers: BTreeMap::new(),
    };
    for object in ["production", manifests::WORKERS, "local"].into_iter().flat_map(manifests::objects) {
        there.objects.insert((object["kind"].as_str().unwrap_or_default().to_owned(), name(object).to_owned()));
        let pod = [&object["spec"]["template"], &object["spec"]["jobTemplate"]["spec"]["template"]];
        for labels in pod.into_iter().chain([object]).map(|at| texts(&at["metadata"]["labels"])) {
            there.labels.extend(labels.iter().map(|(label, value)| format!("{label}={value}")));
        }
    }
    for workload in manifests::workloads() {
        for source in list(&workload.container["envFrom"]) {
            let config = source["configMapRef"]["name"].as_str().unwrap_or_default().to_owned();
            there.readers.entry(config).or_default().insert(workload.program.clone());
        }
        for entry in list(&workload.container["env"]) {
            let Some(key) = entry["valueFrom"]["secretKeyRef"].as_object() else { continue };
            let text = |field: &str| key[field].as_str().unwrap_or_default().to_owned();
            there.objects.insert(("Secret".to_owned(), text("name")));
            there.secrets.entry(text("name")).or_default().insert(text("key"));
        }
    }
    there
}

/// The commands of a document, in blocks and in lines.
fn commands(path: &str) -> Vec<Vec<String>> {
    let document = markdown::document(&files::text(path));
    let blocks = document.blocks.into_iter().filter(|block| block.language == "sh").map(|block| block.text);
    let spans = document.spans.into_iter().filter(|span| span.starts_with("kubectl "));
    blocks.chain(spans).flat_map(|text| shell::commands(&text)).collect()
}

#[test]
fn every_kubectl_command_of_a_document_names_what_there_is() {
    let (there, mut findings, mut seen) = (there(), Findings::default(), 0);
    for path in files::documents() {
        // The Jobs that a document makes are there for its other commands.
        let commands: Vec<_> =
            commands(&path).into_iter().filter_map(|words| Some((kubectl::read(&words)?, words))).collect();
        let made: BTreeSet<String> = commands
            .iter()
            .filter(|(command, _)| command.verb == "create")
            .flat_map(|(command, _)| {
                command.objects.iter().filter(|(kind, _)| kind == "job").map(|(_, name)| name.clone())
            })
            .collect();
        // What a pipe begins with, for the commands behind it.
        let mut origin = None;
        for (command, words) in &commands {
            seen += 1;
            let place = format!("{path}: `{}`", words.join(" "));
            origin = if command.is_local { origin } else { command.from.as_deref() };
            there.holds(command, origin, &made, &place, &mut findings);
        }
    }
    findings.hold(seen > 100, "runbooks", format_args!("only {seen} commands were found"));
    findings.end();
}

impl There {
    /// `origin`: where the pipe in which the command stands takes its object from.
    fn holds(
        &self,
        command: &Kubectl,
        origin: Option<&str>,
        made: &BTreeSet<String>,
        place: &str,
        findings: &mut Findings,
    ) {
        if let Some(namespace) = &command.namespace {
            findings.hold(*namespace == self.namespace, place, format_args!("no namespace {namespace}"));
        }
        for (word, name) in command.objects.iter().map(|(kind, name)| (kind.as_str(), name)) {
            let Some(kind) = kubectl::kind(word) else {
                findings.add(place, format_args!("unknown kind {word:?}"));
                continue;
            };
            let names_nothing_fixed = name.is_empty() || matches!(kind, "Pod" | "Event" | "Node");
            let exists = names_nothing_fixed
                || self.objects.contains(&(kind.to_owned(), name.clone()))
                || (kind == "Job" && (command.verb == "create" || made.contains(name)));
            findings.hold(exists, place, format_args!("no {kind} {name}"));
            // Without a namespace kubectl looks into `default`, where nothing of ours is.
            let is_scoped =
                command.namespace.is_some() || command.every_namespace || kind == "Namespace" || command.is_local;
            // In a line of text a bare verb and kind is no command to paste.
            findings.hold(is_scoped || name.is_empty(), place, "gives no namespace (-n)");
        }
        if let Some((kind, name)) = command.from.as_deref().and_then(|from| from.split_once('/')) {
            let kind = kubectl::kind(kind).unwrap_or(kind);
            findings.hold(
                self.objects.contains(&(kind.to_owned(), name.to_owned())),
                place,
                format_args!("no {kind} {name}"),
            );
        }
        for label in command.selector.iter().flat_map(|selector| selector.split(',')) {
            // Kubernetes puts it on the pods of a Job.
            let is_of_a_job = label.strip_prefix(OF_A_JOB).is_some_and(|job| made.contains(job));
            let exists = is_of_a_job || self.labels.contains(label);
            findings.hold(exists, place, format_args!("nothing has the label {label}"));
        }
        for path in &command.paths {
            findings.hold(files::root().join(path).exists(), place, format_args!("{path} is not in the repository"));
        }
        let program = command.container.as_deref().map(programs::program);
        if let Some(None) = program {
            findings.add(place, format_args!("no container {}", command.container.as_deref().unwrap_or_default()));
        }
        let secret = command.objects.iter().find(|(kind, _)| kubectl::kind(kind) == Some("Secret"));
        for (variable, _) in &command.assigned {
            match (&program, secret) {
                (Some(Some(program)), _) => {
                    findings.hold(program.reads(variable), place, format_args!("{} reads no {variable}", program.name));
                }
                (_, Some((_, secret))) => self.has_key(secret, variable, place, findings),
                _ => findings.add(place, format_args!("{variable} is set for nobody: no container (-c)")),
            }
        }
        if let (Some((_, secret)), "create") = (secret, command.verb.as_str()) {
            self.has_all_that_is_required(secret, command, place, findings);
        }
        if let (Some((_, secret)), Some(output)) = (secret, &command.output)
            && let Some(key) = output.strip_prefix("jsonpath={.data.")
        {
            self.has_key(secret, key.trim_end_matches('}'), place, findings);
        }
        if let Some(patch) = &command.patch {
            self.patch_holds(command, origin, patch, place, findings);
        }
    }

    fn has_key(&self, secret: &str, key: &str, place: &str, findings: &mut Findings) {
        let has = self.secrets.get(secret).is_some_and(|keys| keys.contains(key));
        findings.hold(has, place, format_args!("no manifest reads {key} of the Secret {secret}"));
    }

    /// A Secret made by hand starts every binary that reads it.
    fn has_all_that_is_required(&self, secret: &str, command: &Kubectl, place: &str, findings: &mut Findings) {
        let given: BTreeSet<&str> = command.assigned.iter().map(|(name, _)| name.as_str()).collect();
        let keys = self.secrets.get(secret).cloned().unwrap_or_default();
        for required in
            programs::programs().iter().filter(|one| secret.starts_with(one.name)).flat_map(programs::Program::required)
        {
            let is_there = given.contains(required.as_str()) || !keys.contains(&required);
            findings.hold(is_there, place, format_args!("the Secret lacks {required}"));
        }
    }

    fn patch_holds(&self, command: &Kubectl, origin: Option<&str>, patch: &str, place: &str, findings: &mut Findings) {
        let Ok(patch) = serde_json::from_str::<Value>(patch) else {
            findings.add(place, "the patch is not JSON");
            return;
        };
        for operation in
            list(&patch).iter().filter(|one| one["path"].as_str().is_some_and(|path| path.ends_with("/args")))
        {
            let arguments: Vec<String> =
                list(&operation["value"]).iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect();
            // A CronJob is called as its binary.
            let program = origin.and_then(|from| from.split_once('/')).and_then(|(_, name)| programs::program(name));
            match program.map(|program| program.takes(&arguments)) {
                Some(Ok(())) => {}
                Some(Err(said)) => findings.add(place, said),
                None => {
                    findings.add(place, format_args!("{arguments:?} are in no pipe from a CronJob: whose are they?"));
                }
            }
        }
        for (kind, name) in &command.objects {
            let data = [&patch["data"], &patch["stringData"]].into_iter().flat_map(|data| texts(data).into_keys());
            for key in data {
                match kubectl::kind(kind) {
                    Some("Secret") => self.has_key(name, &key, place, findings),
                    Some("ConfigMap") => {
                        let mut readers = self
                            .readers
                            .get(name)
                            .into_iter()
                            .flatten()
                            .filter_map(|program| programs::program(program));
                        findings.hold(
                            readers.all(|program| program.reads(&key)),
                            place,
                            format_args!("{key} of {name} is read by nobody"),
                        );
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What may stand for a word in capitals: a number, an id, an aggregate.
const VALUES: [&str; 3] = ["1", "01930000-000c-7000-8000-000000000001", "account:1"];

/// The words with `value` for each that is in capitals: `--character ID`.
fn filled(words: &[&str], value: &str) -> Vec<String> {
    let is_placeholder = |word: &str| word.bytes().all(|letter| letter.is_ascii_uppercase());
    words.iter().map(|word| if is_placeholder(word) { value.to_owned() } else { (*word).to_owned() }).collect()
}

#[test]
fn every_command_line_of_a_binary_in_a_text_is_one_that_it_takes() {
    let (programs, mut findings, mut seen) = (programs::programs(), Findings::default(), 0);
    for path in files::documents() {
        for span in markdown::document(&files::text(&path)).spans {
            let words: Vec<&str> = span.split(' ').collect();
            let [name, arguments @ ..] = words.as_slice() else { continue };
            let Some(program) = programs.iter().find(|program| program.name == *name) else { continue };
            if arguments.is_empty() {
                continue;
            }
            seen += 1;
            let said: Vec<String> =
                VALUES.iter().filter_map(|value| program.takes(&filled(arguments, value)).err()).collect();
            let takes = said.len() < VALUES.len();
            findings.hold(takes, &path, format_args!("`{span}`: {}", said.first().map_or("", String::as_str)));
        }
    }
    findings.hold(seen > 5, "docs", format_args!("only {seen} command lines were found"));
    findings.end();
}

#[test]
fn every_path_that_a_document_names_is_in_the_repository() {
    let mut findings = Findings::default();
    for path in files::documents() {
        let text = files::text(&path);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '.' | '-' | '_' | '*');
        for word in text.split(|letter| !is_part(letter)).map(|word| word.trim_end_matches('.')) {
            let folder = ["k8s/", "runbooks/", "docs/", "tools/", "shared/", "jobs/", "migrations/"];
            if !folder.iter().any(|folder| word.starts_with(folder)) || word.contains('*') {
                continue;
            }
            findings.hold(files::root().join(word).exists(), &path, format_args!("names {word}, which is not there"));
        }
    }
    findings.end();
}

#[test]
fn the_secrets_of_the_local_overlay_have_the_keys_that_are_read() {
    let (there, mut findings) = (there(), Findings::default());
    for object in BUILDS["local"].iter().filter(|object| is(object, "Secret")) {
        let Some(keys) = there.secrets.get(name(object)) else { continue };
        for key in texts(&object["data"]).into_keys() {
            findings.hold(
                keys.contains(&key),
                format_args!("k8s/overlays/local: Secret {}", name(object)),
                format_args!("{key} is read by nobody"),
            );
        }
    }
    findings.end();
}
