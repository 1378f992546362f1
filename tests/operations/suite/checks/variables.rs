//! Variables: those of manifests are read by their binary, and docs/CONFIGURATION.md tells of each what is true.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    findings::Findings,
    read::{
        files, manifests, markdown,
        programs::{self, Program, Setting},
    },
};

const DOCUMENT: &str = "docs/CONFIGURATION.md";
/// The heading for what the runner gives to each job; the others are called as their binary.
const EVERY_JOB: &str = "Every job";

#[test]
fn every_job_of_the_workspace_is_held() {
    let mut findings = Findings::default();
    let known: BTreeSet<&str> = programs::programs().iter().map(|program| program.name).collect();
    let workloads = manifests::workloads();
    for path in files::list("jobs", "") {
        let job = files::stem(&path, "");
        findings.hold(known.contains(job), &path, "is not in read::programs of tests/operations");
        let starts = workloads.iter().any(|workload| workload.build == "production" && workload.program == job);
        findings.hold(starts, "k8s/overlays/production", format_args!("nothing starts {job}"));
    }
    for workload in &workloads {
        findings.hold(
            known.contains(workload.program.as_str()),
            workload.place(),
            format_args!("no binary {}", workload.program),
        );
    }
    findings.end();
}

#[test]
fn every_variable_of_a_manifest_is_read_by_its_binary() {
    let mut findings = Findings::default();
    for workload in manifests::workloads() {
        let Some(program) = programs::program(&workload.program) else { continue };
        for variable in workload.variables.keys().chain(&workload.references) {
            findings.hold(
                program.reads(variable),
                workload.place(),
                format_args!("{} reads no {variable}", program.name),
            );
        }
        for secret in program.secrets() {
            let place = workload.place();
            findings.hold(
                !workload.variables.contains_key(&secret),
                &place,
                format_args!("{secret} is a secret and stands in the open"),
            );
            findings.hold(
                workload.references.contains(&secret),
                &place,
                format_args!("{} is not given {secret}", program.name),
            );
        }
    }
    findings.end();
}

#[test]
fn every_secret_is_optional_so_that_the_binary_starts_and_names_what_is_missing() {
    let (mut findings, mut seen) = (Findings::default(), 0);
    for workload in manifests::workloads() {
        for entry in manifests::list(&workload.container["env"]) {
            let Some(reference) = entry["valueFrom"].get("secretKeyRef") else { continue };
            seen += 1;
            let is_optional = reference["optional"] == true;
            findings.hold(is_optional, workload.place(), format_args!("{} is not optional: true", entry["name"]));
        }
        for source in manifests::list(&workload.container["envFrom"]) {
            let is_secret = source.get("secretRef").is_some();
            findings.hold(!is_secret, workload.place(), "takes a whole Secret, with names that nobody checks");
        }
    }
    findings.hold(seen > 20, "k8s", format_args!("only {seen} references to Secrets were found"));
    findings.end();
}

#[test]
fn every_value_of_a_manifest_is_taken_by_its_binary() {
    let mut findings = Findings::default();
    for workload in manifests::workloads() {
        let Some(program) = programs::program(&workload.program) else { continue };
        for (variable, value) in workload.variables.iter().filter(|(_, value)| !value.is_empty()) {
            if let Err(said) = program.takes(&program.arguments(variable, value)) {
                findings.add(workload.place(), said);
            }
        }
    }
    findings.end();
}

/// A variable as the document tells of it.
struct Told {
    heading: String,
    default: String,
    is_secret: bool,
}

/// Variable → where it is told of.
fn told() -> BTreeMap<String, Vec<Told>> {
    let mut all: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for (heading, cells) in markdown::document(&files::text(DOCUMENT)).rows {
        let [names, defaults, ..] = cells.as_slice() else { continue };
        let is_name =
            |span: &&str| span.chars().all(|letter| letter.is_ascii_uppercase() || matches!(letter, '_' | '0'..='9'));
        let variables: Vec<&str> = markdown::spans(names).into_iter().filter(is_name).collect();
        // One default for all, or one for each.
        let defaults: Vec<&str> = defaults.split(", ").collect();
        for (place, variable) in variables.iter().enumerate() {
            let default = defaults.get(place).or(defaults.last()).copied().unwrap_or_default().to_owned();
            let is_secret = names.contains(&format!("`{variable}` (secret)"));
            all.entry((*variable).to_owned()).or_default().push(Told { heading: heading.clone(), default, is_secret });
        }
    }
    all
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let (told, mut findings) = (told(), Findings::default());
    for program in programs::programs() {
        let of = |variable: &str| {
            let places = told.get(variable)?;
            let own = places.iter().find(|told| told.heading == program.name);
            own.or_else(|| places.iter().find(|told| told.heading == EVERY_JOB))
        };
        for (variable, setting) in program.settings() {
            let Some(told) = of(&variable) else {
                findings.add(DOCUMENT, format_args!("{variable} of {} is missing", program.name));
                continue;
            };
            if let Err(said) = default_holds(&told.default, &setting) {
                findings.add(DOCUMENT, format_args!("{variable} of {}: {said}", program.name));
            }
        }
        let required = program.required();
        for secret in program.secrets() {
            let Some(told) = of(&secret) else {
                findings.add(DOCUMENT, format_args!("the secret {secret} of {} is missing", program.name));
                continue;
            };
            findings.hold(told.is_secret, DOCUMENT, format_args!("{secret} does not say (secret)"));
            let is_required = told.default == "required";
            findings.hold(
                is_required == required.contains(&secret),
                DOCUMENT,
                format_args!("{secret}: {:?} is not so", told.default),
            );
        }
    }
    findings.end();
}

fn default_holds(told: &str, setting: &Setting) -> Result<(), String> {
    let plain = told.trim_matches('`');
    match &setting.default {
        Some(default) => {
            let number = |text: &str| text.parse::<f64>().ok();
            let same = plain == default || number(plain).is_some() && number(plain) == number(default);
            if same { Ok(()) } else { Err(format!("says {told:?}, and the binary has {default:?}")) }
        }
        None if plain == "none" => Ok(()),
        // `from X`, `a new UUID`: found out at the start, and --help says so.
        None if setting.tells_default && told.contains(' ') => Ok(()),
        None => Err(format!("says {told:?}, and the binary has no default")),
    }
}

#[test]
fn the_document_tells_of_nothing_that_is_not_read() {
    let mut findings = Findings::default();
    for (variable, places) in told() {
        for told in places {
            let reads = |program: &Program| program.reads(&variable);
            let exists = match programs::program(&told.heading) {
                Some(program) => reads(&program),
                None => programs::programs().iter().any(reads),
            };
            findings.hold(exists, DOCUMENT, format_args!("{variable} under {:?} is read by nobody", told.heading));
        }
    }
    findings.end();
}

#[test]
fn variables_that_a_document_names_exist() {
    let mut findings = Findings::default();
    let all = programs::programs();
    // Those of other programs, of the images and of the tools.
    let others = [
        "CARGO_MANIFEST_DIR",
        "KEEP",
        "UPDATE_GOLDEN",
        "SUSPEND",
        "NAME",
        "NAME_FILE",
        "TOOK",
        "NOTE",
        "ROLLCALL_HOST_ADDRESS",
        "ROLLCALL_LOAD_IMAGE",
    ];
    for path in files::documents() {
        // What a design decision says need not be a setting.
        if Path::new(&path).file_name().is_some_and(|name| name == "DECISIONS.md" || name == "ARCHITECTURE.md") {
            continue;
        }
        for span in markdown::document(&files::text(&path)).spans {
            let is_name = span.contains('_')
                && span.chars().all(|letter| letter.is_ascii_uppercase() || matches!(letter, '_' | '0'..='9'));
            let exists = !is_name || others.contains(&span.as_str()) || all.iter().any(|program| program.reads(&span));
            findings.hold(exists, &path, format_args!("names {span}, which no binary reads"));
        }
    }
    findings.end();
}
