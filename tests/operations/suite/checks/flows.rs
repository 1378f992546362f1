//! The table of network flows in docs/OPERATIONS.md is what the policies of the production overlay allow.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    findings::Findings,
    read::{
        files,
        manifests::{self, is, list, name, texts},
        markdown,
    },
};

const DOCUMENT: &str = "docs/OPERATIONS.md";
const POLICIES: &str = "k8s/overlays/production";

/// From, to, port, protocol.
type Flow = (String, String, String, String);

/// Addresses that are not public: the cluster, the networks around it, and a cloud's metadata server.
const PRIVATE: [&str; 7] =
    ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"];

fn policies() -> impl Iterator<Item = &'static Value> {
    manifests::objects("production").iter().filter(|object| is(object, "NetworkPolicy"))
}

/// What the table calls the pods of a selector.
fn pods(selector: &Value) -> String {
    let labels = texts(&selector["matchLabels"]);
    match (labels.len(), labels.get("app").or(labels.get("k8s-app")), selector.get("matchExpressions")) {
        (0, _, None) => "every pod".to_owned(),
        (1, Some(name), None) => format!("`{name}`"),
        _ => selector.to_string(),
    }
}

/// What the table calls the other side: all peers of a rule together.
fn peers(peers: &[Value], findings: &mut Findings, policy: &str) -> BTreeSet<String> {
    if peers.is_empty() {
        return ["any address".to_owned()].into();
    }
    let mut names = BTreeSet::new();
    for peer in peers {
        if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
            let except: BTreeSet<&str> = list(&peer["ipBlock"]["except"]).iter().filter_map(Value::as_str).collect();
            let is_v6 = cidr.contains(':');
            for private in PRIVATE.into_iter().filter(|private| private.contains(':') == is_v6) {
                findings.hold(
                    except.contains(private),
                    POLICIES,
                    format_args!("NetworkPolicy {policy} lets out to {private}"),
                );
            }
            let is_all = matches!(cidr, "0.0.0.0/0" | "::/0");
            names.insert(if is_all { "public addresses".to_owned() } else { cidr.to_owned() });
            continue;
        }
        let whose = pods(&peer["podSelector"]).trim_matches('`').to_owned();
        names.insert(match texts(&peer["namespaceSelector"]["matchLabels"]).get("kubernetes.io/metadata.name") {
            Some(namespace) => format!("{whose} in `{namespace}`"),
            None if peer.get("namespaceSelector").is_some() => format!("{whose} in every namespace"),
            None => format!("`{whose}`"),
        });
    }
    names
}

fn allowed(findings: &mut Findings) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for policy in policies() {
        let from = pods(&policy["spec"]["podSelector"]);
        for rule in list(&policy["spec"]["egress"]) {
            findings.hold(
                !list(&rule["ports"]).is_empty(),
                POLICIES,
                format_args!("NetworkPolicy {} opens every port", name(policy)),
            );
            for to in peers(list(&rule["to"]), findings, name(policy)) {
                for port in list(&rule["ports"]) {
                    let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
                    findings.hold(
                        port.get("endPort").is_none(),
                        POLICIES,
                        format_args!("NetworkPolicy {} has a range of ports", name(policy)),
                    );
                    flows.insert((from.clone(), to.clone(), port["port"].to_string(), protocol));
                }
            }
        }
    }
    flows
}

fn told() -> BTreeSet<Flow> {
    let rows = markdown::document(&files::text(DOCUMENT)).rows;
    let rows = rows.iter().filter(|(heading, _)| heading == "Allowed network flows").skip(1);
    rows.flat_map(|(_, cells)| {
        let [from, to, port, ..] = cells.as_slice() else {
            panic!("{DOCUMENT}: a flow has from, to and port: {cells:?}")
        };
        let (number, protocols) = port.split_once(' ').expect("a port is a number and its protocols");
        protocols
            .split(", ")
            .map(|protocol| (from.clone(), to.clone(), number.to_owned(), protocol.to_owned()))
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn the_table_of_flows_is_what_the_policies_allow() {
    let mut findings = Findings::default();
    let (allowed, told) = (allowed(&mut findings), told());
    for (from, to, port, protocol) in allowed.difference(&told) {
        findings.add(
            DOCUMENT,
            format_args!("lacks the flow from {from} to {to}, {port} {protocol}, which the policies allow"),
        );
    }
    for (from, to, port, protocol) in told.difference(&allowed) {
        findings.add(
            DOCUMENT,
            format_args!("tells of a flow from {from} to {to}, {port} {protocol}, which no policy allows"),
        );
    }
    findings.end();
}

#[test]
fn everything_that_no_policy_allows_is_denied_and_nothing_may_connect_to_a_job() {
    let mut findings = Findings::default();
    let denies = policies().any(|policy| {
        let spec = &policy["spec"];
        let types = list(&spec["policyTypes"]);
        spec["podSelector"].as_object().is_some_and(serde_json::Map::is_empty)
            && ["Ingress", "Egress"].iter().all(|wanted| types.iter().any(|one| one == wanted))
            && spec.get("ingress").is_none()
            && spec.get("egress").is_none()
    });
    findings.hold(denies, POLICIES, "no NetworkPolicy denies everything to every pod");
    for policy in policies() {
        findings.hold(
            list(&policy["spec"]["ingress"]).is_empty(),
            POLICIES,
            format_args!("NetworkPolicy {} lets in", name(policy)),
        );
    }
    findings.end();
}
