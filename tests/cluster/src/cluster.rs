//! The cluster that `KUBECONFIG` names.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::commands::{bash, kubectl, try_bash};

/// On every namespace of these tests, and on what they make beside namespaces.
pub const MARK: &str = "rollcall-cluster-test";

/// The cluster, ready for tests: nothing is left of earlier ones, and the images are known to it.
#[derive(Debug)]
pub struct Cluster {
    /// This machine, as pods reach it.
    pub host: IpAddr,
    /// Whether the node's processes are among this machine's.
    pub node_is_here: bool,
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
            kubectl(&format!("delete customresourcedefinition -l {MARK} --wait=true --timeout=1m"), "");
            // A test that was aborted while it drained a node could not undo it.
            bash(&format!(
                "for node in $(kubectl get nodes -l {MARK} -o name); do
                   kubectl uncordon \"$node\"; kubectl label \"$node\" {MARK}-
                 done"
            ));
            for name in ["migrate", "character-verifier", "outbox-drain"] {
                load(&repository().join(format!("target/images/{name}.tar")));
            }
            let host = host();
            Self { host, node_is_here: node_address().parse() == Ok(host) }
        })
    }
}

/// The top of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the sources are here")
}

/// Where the binaries of this build are.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("an executable knows where it is");
    test.ancestors().nth(2).expect("tests are in a folder below").to_owned()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Makes an image known to the cluster.
pub(crate) fn load(archive: &Path) {
    let command = std::env::var("ROLLCALL_LOAD_IMAGE").unwrap_or_default();
    assert!(!command.is_empty(), "set ROLLCALL_LOAD_IMAGE to a command that loads the archive whose path it is given");
    assert!(archive.is_file(), "{} is missing: tools/images builds it", archive.display());
    let answer = try_bash(&format!("{command} '{}'", archive.display()));
    assert!(answer.is_ok, "{command} {}:\n{}{}", archive.display(), answer.out, answer.error);
}

/// Makes an image known to the cluster as one of another version too: the same archive, in which it is called so.
pub fn load_as(name: &str, version: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder is needed");
    let archive = folder.path().join("image.tar");
    // Its name stands in these two files, whatever has built it; all others are called by what is in them.
    bash(&format!(
        r#"mkdir '{folder}/content'
           cd '{folder}/content'
           tar -xf '{images}/{name}.tar'
           for file in manifest.json index.json; do
             [ ! -e "$file" ] || sed -i 's|/{name}:{present}"|/{name}:{version}"|g' "$file"
           done
           tar -cf '{archive}' *"#,
        folder = folder.path().display(),
        images = repository().join("target/images").display(),
        present = env!("CARGO_PKG_VERSION"),
        archive = archive.display(),
    ));
    load(&archive);
}

fn host() -> IpAddr {
    let address = std::env::var("ROLLCALL_HOST_ADDRESS").ok().filter(|value| !value.is_empty());
    let address = address.unwrap_or_else(node_address);
    address.parse().unwrap_or_else(|error| panic!("{address:?} is no address of this machine: {error}"))
}

fn node_address() -> String {
    let path = r#"{.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
    bash(&format!("kubectl get nodes -o jsonpath='{path}'")).trim().to_owned()
}
