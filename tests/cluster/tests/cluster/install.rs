//! Installing, and installing again.

use cluster::{Ground, Overlay, kubectl, try_bash};

/// The lines about what an apply has changed.
pub(crate) fn changed(said: &str) -> Vec<&str> {
    // kubectl says so of a budget at each apply, and its version on the server stays the same.
    let is_empty = |line: &&str| line.ends_with(" unchanged") || line.starts_with("poddisruptionbudget.policy/");
    said.lines().filter(|line| !is_empty(line)).collect()
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn applying_migrates_an_empty_database_and_applying_again_changes_nothing() {
    let ground = Ground::prepared("install", &[]).await;
    for sql in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
        ground.execute(sql).await;
    }
    ground.apply();
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations")).unwrap();
    let files = files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "sql"));
    let applied = ground.number("SELECT count(*) FROM _sqlx_migrations WHERE success").await;
    assert_eq!(usize::try_from(applied).unwrap(), files.count());

    // More than one only where the node knew the Service of PostgreSQL too late.
    let pods = ground.object("pods -l app=migrate")["items"].as_array().unwrap().len();
    assert_eq!(changed(&ground.apply()), Vec::<&str>::new());
    assert_eq!(ground.object("pods -l app=migrate")["items"].as_array().unwrap().len(), pods, "it ran no more");

    // Removed, as the documentation says of old ones, it runs once more and finds nothing to do.
    ground.bash("kubectl -n rollcall delete job -l app=migrate");
    ground.apply();
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    assert_eq!(ground.number("SELECT count(*) FROM _sqlx_migrations WHERE success").await, applied);
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn the_api_server_takes_every_overlay_strictly_and_without_a_warning() {
    cluster::Cluster::get();
    for (name, base, components) in [
        ("production", "production", &[] as &[&str]),
        ("sharded", "production", &["sharding"]),
        ("workers", "production", &["outbox-worker"]),
        ("local", "local", &[]),
        ("test", "test", &[]),
    ] {
        let overlay = Overlay::of(base, &format!("rollcall-test-dry-{name}"), components);
        overlay.make_namespace();
        let answer = try_bash(&format!("kubectl apply --dry-run=server --validate=strict -k '{}'", overlay.path()));
        kubectl(&format!("delete namespace rollcall-test-dry-{name} --wait=false"), "");
        assert!(answer.is_ok && answer.error.is_empty(), "{name}: {}{}", answer.out, answer.error);
        assert!(answer.out.contains("cronjob.batch/character-verifier created (server dry run)"), "{}", answer.out);
    }
}
