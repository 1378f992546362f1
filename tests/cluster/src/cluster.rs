//! The cluster that `KUBECONFIG` names.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::commands::{feed, kubectl, try_bash};

/// On every namespace of these tests.
pub(crate) const MARK: &str = "rollcall-cluster-test";

/// The cluster, ready for tests: nothing is left of earlier ones, and the images are known to it.
#[derive(Debug)]
pub struct Cluster {
    /// This machine, as pods reach it.
    pub host: IpAddr,
}

impl Cluster {
    /// The one of this process, made ready on first use.
    ///
    /// # Panics
    /// A variable is missing, the cluster does not answer, or an image cannot be loaded.
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            assert!(
                is_set("KUBECONFIG"),
                "set KUBECONFIG to a cluster that these tests may use; see make test-cluster"
            );
            kubectl("version --request-timeout=10s", "");
            kubectl(&format!("delete namespace -l {MARK} --wait=true --timeout=3m"), "");
            for name in ["migrate", "character-verifier"] {
                load(&repository().join(format!("target/images/{name}.tar")));
            }
            Self { host: host() }
        })
    }
}

/// The top of this repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the sources are here")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn load(archive: &Path) {
    let command = std::env::var("ROLLCALL_LOAD_IMAGE").unwrap_or_default();
    assert!(!command.is_empty(), "set ROLLCALL_LOAD_IMAGE to a command that loads the archive whose path it is given");
    assert!(archive.is_file(), "{} is missing: tools/images builds it", archive.display());
    let answer = try_bash(&format!("{command} '{}'", archive.display()));
    assert!(answer.is_ok, "{command} {}:\n{}{}", archive.display(), answer.out, answer.error);
}

fn host() -> IpAddr {
    let address = std::env::var("ROLLCALL_HOST_ADDRESS").ok().filter(|value| !value.is_empty()).unwrap_or_else(|| {
        let path = r#"{.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
        feed(&format!("kubectl get nodes -o jsonpath='{path}'"), "").out
    });
    address.trim().parse().unwrap_or_else(|error| panic!("{address:?} is no address of this machine: {error}"))
}
