//! Rollcall on a real Kubernetes cluster: the images, the manifests and the commands of the documentation.
//!
//! `make test-cluster` builds the images and runs the tests; `cargo test --workspace` lists them as ignored. PostgreSQL,
//! Redis, Pushgateway and ESI are those of `harness` and `suites`, outside the cluster, reached through the overlay
//! `k8s/overlays/test`, so that effects are read where they are.
//!
//! | variable | meaning |
//! |---|---|
//! | `KUBECONFIG` | the cluster; required, so that no test meets a cluster nobody thought of |
//! | `ROLLCALL_LOAD_IMAGE` | a command that is given the path of an image archive and makes it known to the cluster, such as `kind load image-archive` |
//! | `ROLLCALL_HOST_ADDRESS` | an address of this machine that pods reach; default: the node's `InternalIP`, right where the node is this machine |
//!
//! Each test has a namespace, a database and servers' doors of its own. A namespace goes with its test; what an aborted
//! run left is removed by the next one, so two runs cannot share a cluster.

#![expect(clippy::missing_panics_doc, reason = "helpers of tests report every failure by panicking")]

mod alerts;
mod cluster;
mod commands;
mod container;
mod doors;
mod ground;
mod jobs;
mod node;
mod overlay;
mod pushgateway;

pub use crate::{
    alerts::Alerts,
    cluster::{Cluster, MARK, built, load_as, repository},
    commands::{Answer, bash, kubectl, try_bash},
    container::{Runtime, kill, processes, say, strike},
    ground::{Ground, Outside, at},
    jobs::{DRAIN, Ended, VERIFIER},
    node::Drained,
    overlay::Overlay,
    pushgateway::bring_pushgateway,
};
