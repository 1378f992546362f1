//! The alerts as objects of the Prometheus Operator.

use cluster::{Cluster, MARK, Overlay, kubectl, repository, try_bash};
use harness::wait_until;

const NAMESPACE: &str = "rollcall-test-dry-rules";
/// What the operator calls its kind.
const NAME: &str = "prometheusrules.monitoring.coreos.com";
const KIND: &str = include_str!("../../prometheus-rule.yaml");

/// The kind, known to the cluster while this lives.
struct Kind {
    /// It came with this test. That of an operator stays as it is.
    is_ours: bool,
}

impl Kind {
    async fn known() -> Self {
        let is_ours = !try_bash(&format!("kubectl get customresourcedefinition {NAME}")).is_ok;
        if is_ours {
            assert!(KIND.contains(MARK), "else what an aborted test leaves is not found");
            kubectl("create -f -", KIND);
        }
        let kind = Self { is_ours };
        wait_until(super::LIMIT, "the kind is served", async || {
            try_bash(&format!("kubectl get {NAME} --all-namespaces")).is_ok
        })
        .await;
        kind
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        if self.is_ours {
            try_bash(&format!("kubectl delete customresourcedefinition {NAME} --wait=false"));
        }
    }
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn the_api_server_takes_the_alerts_strictly_as_objects_of_the_operator() {
    Cluster::get();
    let _kind = Kind::known().await;
    let overlay = Overlay::of("production", NAMESPACE, &["prometheus-operator"]);
    overlay.make_namespace();
    let show = || try_bash(&format!("kubectl apply --dry-run=server --validate=strict -k '{}'", overlay.path()));
    let taken = show();
    // Else being taken would say nothing.
    let path = "components/prometheus-operator/rules/jobs.yaml";
    overlay.write(path, &overlay.read(path).replacen(" expr:", " expression:", 1));
    let refused = show();
    kubectl(&format!("delete namespace {NAMESPACE} --wait=false"), "");

    assert!(taken.is_ok && taken.error.is_empty(), "{}{}", taken.out, taken.error);
    let shown = taken.out.lines().filter(|line| {
        line.starts_with("prometheusrule.monitoring.coreos.com/") && line.ends_with(" created (server dry run)")
    });
    let files = std::fs::read_dir(repository().join("k8s/monitoring/rules")).unwrap();
    assert_eq!(shown.count(), files.count(), "{}", taken.out);
    let unknown = "unknown field \"spec.groups[0].rules[0].expression\"";
    assert!(!refused.is_ok && refused.error.contains(unknown), "{}{}", refused.out, refused.error);
}
