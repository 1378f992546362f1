//! Another version, and the same one from another image.

use cluster::{DRAIN, Ground, VERIFIER, load_as, repository, try_bash};
use documents::markdown;
use harness::CORPORATION;
use serde_json::Value;

use super::install::changed;

/// That of the manifests and images.
const PRESENT: &str = env!("CARGO_PKG_VERSION");
/// What docs/KUBERNETES.md makes the migration's Job anew by begins with this.
const ANEW: &str = "kubectl -n rollcall delete job -l app=migrate\n";

/// A version as it stands in the name of a Job.
fn suffix(version: &str) -> String {
    version.replace('.', "-")
}

/// The name of the migration's Job.
fn migration(version: &str) -> String {
    format!("migrate-v{}", suffix(version))
}

/// The image of a pod template's container.
fn image(template: &Value) -> &Value {
    &template["spec"]["containers"][0]["image"]
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_new_version_is_a_migration_beside_the_old_one_and_other_images() {
    let ground = Ground::new("version").await;
    ground.complete(&migration(PRESENT));
    let old = ground.object(&format!("job/{}", migration(PRESENT)));

    let next = format!("{PRESENT}-next");
    for name in ["migrate", VERIFIER, DRAIN] {
        load_as(name, &next);
    }
    let path = "base/version.yaml";
    let text = ground.overlay.read(path).replace(&format!(": {PRESENT}\n"), &format!(": {next}\n"));
    let text = text.replace(&format!(": {}\n", suffix(PRESENT)), &format!(": {}\n", suffix(&next)));
    ground.overlay.write(path, &text);
    let said = ground.apply();
    let created = format!("job.batch/{} created", migration(&next));
    let configured = [VERIFIER, DRAIN].map(|name| format!("cronjob.batch/{name} configured"));
    assert_eq!(changed(&said), [&*configured[0], &*configured[1], &*created]);
    ground.complete(&migration(&next));
    let now = ground.object(&format!("job/{}", migration(PRESENT)));
    assert_eq!(now["metadata"]["uid"], old["metadata"]["uid"], "it stays as a record");
    for name in [VERIFIER, DRAIN] {
        let cronjob = ground.object(&format!("cronjob/{name}"));
        let image = image(&cronjob["spec"]["jobTemplate"]["spec"]["template"]);
        assert_eq!(*image, format!("localhost/rollcall/{name}:{next}"));
    }

    ground.people(1, CORPORATION).await;
    ground.start("manual-1");
    ground.complete("manual-1");
    assert_eq!(ground.due().await, 0);
    assert_eq!(changed(&ground.apply()), Vec::<&str>::new());
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_migration_whose_image_was_wrong_runs_after_the_documented_lines() {
    let ground = Ground::prepared("wrong-image", &[]).await;
    let path = "overlays/this/kustomization.yaml";
    let right = ground.overlay.read(path);
    let misspelt = "images: [{name: localhost/rollcall/migrate, newName: localhost/rolcall/migrate}]\n";
    ground.overlay.write(path, &format!("{right}{misspelt}"));
    ground.apply();

    // All but the Job is applied.
    ground.overlay.write(path, &right);
    let config = "base/outbox-drain/config.yaml";
    ground.overlay.write(config, &ground.overlay.read(config).replace("BATCH_SIZE: \"1000\"", "BATCH_SIZE: \"999\""));
    let refused = try_bash(&format!("kubectl apply -k '{}'", ground.overlay.path()));
    assert!(!refused.is_ok && refused.error.contains("field is immutable"), "{}{}", refused.out, refused.error);
    assert_eq!(changed(&refused.out), ["configmap/outbox-drain-config configured"]);

    let text = std::fs::read_to_string(repository().join("docs/KUBERNETES.md")).unwrap();
    let document = markdown::document(&text);
    let lines = &document.blocks.iter().find(|block| block.text.starts_with(ANEW)).unwrap().text;
    ground.bash(&lines.replace("k8s/overlays/production", &ground.overlay.path()));
    let job = ground.object(&format!("job/{}", migration(PRESENT)));
    assert_eq!(*image(&job["spec"]["template"]), format!("localhost/rollcall/migrate:{PRESENT}"));
    assert_eq!(job["status"]["succeeded"], 1);
}
