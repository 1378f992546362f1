//! A Pushgateway inside the cluster: that of the overlay for local clusters, with the program that is installed here.

use std::path::Path;

use crate::{Overlay, bash, built, cluster::load};

/// What the overlay names, which a cluster without a registry cannot pull.
const PUBLIC: &str = "image: docker.io/prom/pushgateway:v1.11.0";
const OURS: &str = "localhost/rollcall/test-pushgateway:0";

/// Applies it and its Service in a namespace, and waits until it serves.
pub fn bring_pushgateway(overlay: &Overlay, namespace: &str) {
    let archive = overlay.folder().join("pushgateway.tar");
    pack(&archive);
    load(&archive);
    let path = "overlays/local/pushgateway.yaml";
    let text = overlay.read(path);
    assert!(text.contains(PUBLIC), "{path} names another image");
    overlay.write(path, &text.replace(PUBLIC, &format!("image: {OURS}")));
    bash(&format!(
        "kubectl -n {namespace} apply -f '{}/k8s/{path}'
         kubectl -n {namespace} rollout status deployment/pushgateway --timeout=2m",
        overlay.folder().display()
    ));
}

/// An image with the program and what it is linked with.
fn pack(archive: &Path) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    bash(&format!(
        r#"root=$(mktemp -d)
           trap 'rm -rf "$root"' EXIT
           program=$(PATH=$PATH:/usr/sbin command -v prometheus-pushgateway)
           for file in "$program" $(ldd "$program" | grep -oE '/[^ ]+'); do install -D "$file" "$root/$file"; done
           '{built}/image-archive' pack --root "$root" --name {OURS} --architecture {architecture} --entrypoint "$program" \
             --user 65534:65534 --epoch 0 --out '{archive}'"#,
        built = built().display(),
        archive = archive.display()
    ));
}
