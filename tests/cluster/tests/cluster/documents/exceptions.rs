//! What of the documents is not run, and why. An entry that stands in no document fails the test.

/// Lines and whole blocks that are not run, and why.
pub(super) const NOT_RUN: &[(&str, &str)] = &[
    (
        "make demo           # a community of 5,000 on private real servers: a quiet hour, a busy one, a war, the events",
        OWN_SUITE,
    ),
    ("make demo KEEP=1    # the same, left up, with the environment for running the binaries by hand", OWN_SUITE),
    (
        "make test     # everything, against private PostgreSQL, PgBouncer, Redis, NATS, Pushgateway, Prometheus, Alertmanager",
        OWN_SUITE,
    ),
    ("make lint     # formatting, clippy, licences, checked queries, scripts, manifests", OWN_SUITE),
    ("make bench    # rates beside the ceilings of the same run", OWN_SUITE),
    ("make test-cluster   # the images and manifests on the cluster of KUBECONFIG", OWN_SUITE),
    ("cargo build --release", "takes minutes; target/release is the tests' own build here"),
    (
        "export DATABASE_URL=postgres://… REDIS_URL=redis://… ENCRYPTION_KEY=… ESI_CONTACT=you@example.com",
        "placeholders; the same variables are set to this test's servers",
    ),
    (
        "make images                                       # target/images/*.tar; docker, buildah, or neither\n\
         kind create cluster --name rollcall\n\
         for image in target/images/*.tar; do kind load image-archive \"$image\" --name rollcall; done\n\
         kubectl apply -k k8s/overlays/local\n\
         kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=10m\n\
         kubectl -n rollcall exec -i deploy/postgres -- psql -q -U rollcall < k8s/overlays/local/community.sql\n\
         kubectl -n rollcall create job first-run --from=cronjob/character-verifier\n\
         kubectl -n rollcall wait --for=condition=Complete job/first-run --timeout=5m\n\
         kubectl -n rollcall logs job/first-run",
        "for kind, with servers from public images, which a cluster without a registry cannot pull",
    ),
    (
        "kubectl -n rollcall create secret generic migrate-secrets --from-literal=DATABASE_URL='postgres://…'\n\
         kubectl -n rollcall create secret generic character-verifier-secrets \\\n  \
         --from-literal=DATABASE_URL='postgres://…' --from-literal=REDIS_URL='rediss://…' --from-literal=ENCRYPTION_KEY='…'\n\
         kubectl -n rollcall create secret generic outbox-drain-secrets \\\n  \
         --from-literal=DATABASE_URL='postgres://…' --from-literal=REDIS_URL='rediss://…'\n\
         kubectl -n rollcall create secret generic pushgateway-secrets --from-literal=PUSHGATEWAY_URL='http://…:9091'",
        "placeholders; the test makes the same Secrets with its own addresses",
    ),
    (
        "make images\n\
         version=$(sed -n 's/^  version: //p' k8s/base/version.yaml)\n\
         for name in character-verifier migrate outbox-drain; do\n  \
         docker load --input \"target/images/$name.tar\"\n  \
         docker tag \"localhost/rollcall/$name:$version\" \"registry.example.com/rollcall/$name:$version\"\n  \
         docker push \"registry.example.com/rollcall/$name:$version\"\n\
         done",
        A_REGISTRY,
    ),
    (
        "version=$(sed -n 's/^  version: //p' k8s/base/version.yaml)\n\
         for name in character-verifier migrate outbox-drain; do\n  \
         skopeo copy --digestfile \"target/images/$name.digest\" \\\n    \
         \"docker-archive:target/images/$name.tar\" \"docker://registry.example.com/rollcall/$name:$version\"\n\
         done",
        A_REGISTRY,
    ),
    (
        "export ROLLCALL_LOAD_IMAGE=\"kind load image-archive --name rollcall\"\n\
         export ROLLCALL_HOST_ADDRESS=$(docker network inspect kind -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' \\\n  \
         | grep -oE '[0-9]+(\\.[0-9]+){3}' | head -1)",
        OTHER_CLUSTER,
    ),
    ("make test-cluster", OWN_SUITE),
    (
        "curl -s -o /dev/null -w '%{http_code}\\n' https://login.eveonline.com/.well-known/oauth-authorization-server",
        INTERNET,
    ),
    ("curl -s https://esi.evetech.net/status", INTERNET),
];

/// The same of commands that stand in a line of text.
pub(super) const NOT_RUN_IN_LINE: &[(&str, &str)] = &[
    ("kubectl apply -k", A_NAME),
    ("kubectl create secret docker-registry", A_NAME),
    ("kubectl delete pod --force", A_NAME),
    ("kubectl describe", A_NAME),
    ("kubectl scale", A_NAME),
    ("kubectl set env", A_NAME),
    ("k3d cluster create rollcall", OTHER_CLUSTER),
    ("k3d image import --cluster rollcall target/images/*.tar", OTHER_CLUSTER),
    ("k3d image import --cluster rollcall", OTHER_CLUSTER),
    ("minikube start", OTHER_CLUSTER),
    ("minikube image load", OTHER_CLUSTER),
    ("minikube ssh -- getent hosts host.minikube.internal", OTHER_CLUSTER),
    ("for image in target/images/*.tar; do minikube image load \"$image\"; done", OTHER_CLUSTER),
    ("cargo run -p dashboards -- k8s/monitoring/dashboards", "writes what the suite operations compares"),
];
/// Commands with this in them look at the images that were built for the test, in the repository.
pub(super) const IMAGES: &str = "target/images/";
const A_NAME: &str = "is how the text calls a command, not one to type";
const OWN_SUITE: &str = "runs in CI by itself or builds what this test stands on";
const OTHER_CLUSTER: &str = "for another cluster than the one at hand";
const A_REGISTRY: &str = "needs a registry to push to";
const INTERNET: &str = "asks EVE Online itself";
