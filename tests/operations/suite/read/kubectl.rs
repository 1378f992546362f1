//! What a `kubectl` command names.

/// A command, as far as it names objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kubectl {
    pub(crate) verb: String,
    pub(crate) namespace: Option<String>,
    pub(crate) every_namespace: bool,
    /// Kind and name, the name empty where all are meant.
    pub(crate) objects: Vec<(String, String)>,
    pub(crate) selector: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) container: Option<String>,
    /// Files and folders of `-f` and `-k`.
    pub(crate) paths: Vec<String>,
    pub(crate) patch: Option<String>,
    /// `NAME=VALUE` of `set env` and of `--from-literal`.
    pub(crate) assigned: Vec<(String, String)>,
    pub(crate) output: Option<String>,
    pub(crate) is_local: bool,
}

/// Flags that take a value as the next word.
const VALUED: [&str; 10] = ["-n", "--namespace", "-l", "--selector", "-c", "-o", "-p", "-f", "-k", "--from-literal"];

/// Reads the words of a command, if it is one of kubectl's.
pub(crate) fn read(words: &[String]) -> Option<Kubectl> {
    let start = words.iter().position(|word| word == "kubectl")?;
    // What stands before may only lead up to it (`do kubectl …`), not take it as an argument (`echo kubectl`).
    if !words[..start].iter().all(|word| word == "do" || word == "then" || word == "!" || word.contains('=')) {
        return None;
    }
    let mut found = Kubectl::default();
    let mut positional = Vec::new();
    let mut rest = words[start + 1..].iter();
    while let Some(word) = rest.next() {
        if word == "--" || word.starts_with(['<', '>']) || word == "2>/dev/null" {
            break;
        }
        if !word.starts_with('-') || word == "-" {
            positional.push(word.clone());
            continue;
        }
        let (flag, mut value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        if value.is_none() && VALUED.contains(&flag) {
            value = rest.next().cloned();
        }
        match (flag, value) {
            ("-n" | "--namespace", value) => found.namespace = value,
            ("-A" | "--all-namespaces", _) => found.every_namespace = true,
            ("-l" | "--selector", value) => found.selector = value,
            ("--from", value) => found.from = value,
            ("-c" | "--container", value) => found.container = value,
            ("-f" | "-k" | "--filename" | "--kustomize", Some(path)) => {
                found.paths.extend(Some(path).filter(|path| path != "-"));
            }
            ("-p" | "--patch", value) => found.patch = value,
            ("-o" | "--output", value) => found.output = value,
            ("--from-literal", Some(pair)) => found.assigned.extend(assignment(&pair)),
            ("--local", _) => found.is_local = true,
            _ => {}
        }
    }
    found.verb = positional.first().cloned().unwrap_or_default();
    // `rollout restart KIND/NAME`
    let verbs = if found.verb == "rollout" { 2 } else { 1 };
    let mut named = &positional[positional.len().min(verbs)..];
    match (found.verb.as_str(), named.first().map(String::as_str)) {
        // `create secret generic NAME`
        ("create", Some("secret")) => found.objects.push(("secret".to_owned(), named.get(2)?.clone())),
        ("set", Some("env")) => found.assigned.extend(named.iter().filter_map(|word| assignment(word))),
        // Pods by their names, which nobody can know beforehand, or something with a slash.
        ("logs" | "exec" | "port-forward" | "attach", Some(first)) => {
            let (kind, name) = first.split_once('/').unwrap_or(("pod", ""));
            found.objects.push((kind.to_owned(), name.to_owned()));
        }
        _ => {
            if let Some((kind, words)) = named.split_first().filter(|(kind, _)| !kind.contains('/')) {
                named = &[];
                let names = if words.is_empty() { vec![String::new()] } else { words.to_vec() };
                for kind in kind.split(',') {
                    found.objects.extend(names.iter().map(|name| (kind.to_owned(), name.clone())));
                }
            }
            let pairs = named.iter().filter_map(|word| word.split_once('/'));
            found.objects.extend(pairs.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
        }
    }
    Some(found)
}

fn assignment(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// A kind by any of the names that kubectl takes; none for one that is not known here.
pub(crate) fn kind(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "cronjob" | "cronjobs" | "cj" => "CronJob",
        "job" | "jobs" => "Job",
        "configmap" | "configmaps" | "cm" => "ConfigMap",
        "secret" | "secrets" => "Secret",
        "service" | "services" | "svc" => "Service",
        "deployment" | "deployments" | "deploy" => "Deployment",
        "poddisruptionbudget" | "poddisruptionbudgets" | "pdb" => "PodDisruptionBudget",
        "networkpolicy" | "networkpolicies" | "netpol" => "NetworkPolicy",
        "namespace" | "namespaces" | "ns" => "Namespace",
        "pod" | "pods" | "po" => "Pod",
        "event" | "events" | "ev" => "Event",
        "node" | "nodes" | "no" => "Node",
        _ => return None,
    })
}

#[test]
fn objects_and_flags_of_a_command_are_found() {
    let read = |line: &str| read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let found = read("kubectl -n a get jobs,pods -l app=b --prefix").unwrap();
    assert_eq!(
        (found.verb.as_str(), found.namespace.as_deref(), found.selector.as_deref()),
        ("get", Some("a"), Some("app=b"))
    );
    assert_eq!(found.objects, [("jobs".to_owned(), String::new()), ("pods".to_owned(), String::new())]);
    let found = read("kubectl create job x --from=cronjob/y -f -").unwrap();
    assert_eq!((found.from.as_deref(), found.paths.len()), (Some("cronjob/y"), 0));
    assert_eq!(found.objects, [("job".to_owned(), "x".to_owned())]);
    let found = read("kubectl set env --local -f - -c y A=1 B=2").unwrap();
    assert_eq!((found.container.as_deref(), found.assigned.len(), found.is_local), (Some("y"), 2, true));
    assert_eq!(read("kubectl wait job/x --for=y").unwrap().objects, [("job".to_owned(), "x".to_owned())]);
    assert_eq!(read("kubectl describe configmap x").unwrap().objects, [("configmap".to_owned(), "x".to_owned())]);
    assert_eq!(read("kubectl rollout restart deploy/x").unwrap().objects, [("deploy".to_owned(), "x".to_owned())]);
    assert_eq!(read("grep kubectl x"), None);
}
