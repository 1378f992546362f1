//! Every command that a document shows is run as it stands there, but for the namespace.
//!
//! Two installations of the production overlay, one for the runbooks and one for all others, with a history in which each search
//! for something in a log finds it. Blocks, and commands that stand in lines of text, run in the documents' order, each in a shell
//! that any failure ends, after the `export` lines before it; a text that several documents share runs once. Statements are run
//! and taken back, objects are shown to the API server. Servers are reached at addresses that pods and this machine share.

mod exceptions;
mod inline;

use std::{collections::BTreeSet, fmt::Write, os::unix::fs::symlink};

use cluster::{DRAIN, Ground, MARK, at, bring_pushgateway, built, repository};
use documents::markdown::{self, Document};
use esi_simulator::{Fault, Kind, Route};
use harness::{CORPORATION, ENCRYPTION_KEY, STRANGERS, newcomer, wait_until};
use sqlx::AssertSqlSafe;

use exceptions::{NOT_RUN, NOT_RUN_IN_LINE};

/// A dry run may write nothing, so it cannot tell the run after it what it has asked.
const AFTER_A_DRY_RUN: &str = "GET /status: fetched again before Expires";

/// The document that says how to install.
const INSTALLS: &str = "docs/KUBERNETES.md";

/// Arguments of the subcommand in a block that stands for the others as well.
const SUBCOMMAND: &str = "[\"status\"]";

/// Exit codes that no document shows: a command line that the binary does not know, data that needs a person, a bug, a safety
/// cap, a configuration that is wrong.
const WRONG: [i64; 5] = [64, 65, 70, 77, 78];
/// What a retry may mend is shown by none either; a pod may start before its network does, so a Job counts that failed by it.
const TEMPORARY: i64 = 75;
/// Documents in which a run may end otherwise, and why.
const ENDS_OTHERWISE: [(&str, i64, &str); 1] =
    [("runbooks/OutboxEventsLost.md", 65, "reconcile ends so where it finds what the runbook is about")];

/// What a document is about, where its commands need it.
async fn situation(ground: &Ground, document: &str) {
    // As other documents may have left it.
    ground
        .execute("INSERT INTO auth_config (brand_id, allowed_corporations) SELECT id, '{98000001}' FROM brands WHERE slug = 'main' ON CONFLICT (brand_id) DO UPDATE SET allowed_corporations = EXCLUDED.allowed_corporations")
        .await;
    if document.ends_with("CharacterVerifierBrandWithoutConfig.md") {
        ground.execute("DELETE FROM auth_config").await;
    }
}

/// A run in which everything happens that documents look for in a log.
async fn history(ground: &Ground) {
    // A scheduled run would take the faults in its place.
    ground.suspend(true);
    let token = ground.stage.sim.world(|world| world.issue_refresh_token(2_100_000_001));
    let spoilt = "aesgcm:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for person in [
        newcomer("holder").eve_id(2_100_000_001).token(&token),
        newcomer("spoilt").eve_id(2_100_003_101).stored_token(spoilt),
        newcomer("other").eve_id(2_112_625_428),
    ] {
        ground.stage.add_in(CORPORATION, person.verified_minutes_ago(90).session()).await;
    }
    decide_in_vain(ground).await;
    let faults = ground.stage.sim.faults();
    faults.add(Fault::on(Route::Affiliation, Kind::InternalError).nth(1));
    faults.add(Fault::on(Route::Token, Kind::SsoUnavailable));
    ground.pushgateway().stop();
    ground.start("history-1");
    ground.complete("history-1");
    ground.pushgateway().start_again();
    ground.stage.sim.faults().clear();
    ground.start("history-2");
    ground.complete("history-2");
    ground.suspend(false);
}

/// A dead letter of the account that documents name, and a later event that waits behind it, as the drain leaves them.
async fn dead_letter(ground: &Ground) {
    ground
        .execute(
            "DO $$ BEGIN
                 DELETE FROM outbox_dead_letters WHERE aggregate_id = 'a1';
                 DELETE FROM outbox_held WHERE aggregate_id = 'a1';
                 DELETE FROM outbox_events WHERE aggregate_id = 'a1';
                 INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type,
                     payload)
                 SELECT gen_random_uuid(), 'account', 'a1', hashtext('account:a1'), gen_random_uuid(),
                     'SESSION_INVALIDATED', json_build_object('turn', turn) FROM generate_series(1, 2) AS turn;
                 WITH gone AS (
                     DELETE FROM outbox_events WHERE aggregate_id = 'a1' AND payload ->> 'turn' = '1' RETURNING *),
                 held AS (
                     INSERT INTO outbox_held (aggregate_type, aggregate_id, bucket, seq, attempts, error)
                     SELECT aggregate_type, aggregate_id, bucket, seq, 1, 'the endpoint answered 413: too large' FROM gone)
                 INSERT INTO outbox_dead_letters (event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id,
                     event_type, payload, occurred_at, attempts, error)
                 SELECT event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload,
                     occurred_at, 1, 'the endpoint answered 413: too large' FROM gone;
             END $$",
        )
        .await;
}

/// A decided invalidation that no run can carry out, since a key of the account holds something else.
async fn decide_in_vain(ground: &Ground) {
    let stuck = newcomer("stuck").verified_minutes_ago(90).session();
    let stuck = ground.stage.add_in(CORPORATION, stuck).await;
    let (redis, key) = (ground.stage.db.redis_url(), format!("sess:{{{}}}:index", stuck.account_id));
    ground.bash(&format!("redis-cli -u '{redis}' DEL '{key}'; redis-cli -u '{redis}' RPUSH '{key}' junk"));
    ground
        .execute(&format!(
            "INSERT INTO pending_invalidations (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule,
                 corporation_id, observed_at, decided_by)
             VALUES (gen_random_uuid(), {}, '{}', '{}', '{}', 'acting', 'disallowed', 'not_a_member', {STRANGERS}, now(), 'it')",
            stuck.eve_id, stuck.character_id, stuck.account_id, stuck.brand_id
        ))
        .await;
}

/// The production overlay as an installation has it: namespace, settings, and a policy for servers on other ports.
fn install(ground: &Ground) {
    let namespace = format!("  name: {}", ground.namespace);
    let text = ground.overlay.read("base/namespace.yaml").replace("  name: rollcall", &namespace);
    let text = text.replace("  labels:\n", &format!("  labels:\n    {MARK}: \"true\"\n"));
    ground.overlay.write("base/namespace.yaml", &text);
    let settings = "overlays/production/character-verifier-config.yaml";
    let esi = ground.outside.esi;
    let text = ground.overlay.read(settings).replace("EVE_CLIENT_ID: \"\"", "EVE_CLIENT_ID: sim-client")
        + &format!("  ESI_BASE_URL: http://{esi}\n  EVE_SSO_URL: http://{esi}\n");
    ground.overlay.write(settings, &text);
    let mut policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: servers}\nspec:\n  \
                      podSelector: {}\n  policyTypes: [Egress]\n  egress:\n    - ports:\n"
        .to_owned();
    let outside = [ground.outside.postgres, ground.outside.redis, ground.outside.pushgateway, esi];
    for server in outside {
        writeln!(policy, "        - {{protocol: TCP, port: {}}}", server.port()).unwrap();
    }
    ground.overlay.write("overlays/production/servers.yaml", &policy);
    let text = ground.overlay.read("overlays/production/kustomization.yaml");
    let text = text.replace("\nnamespace: rollcall\n", &format!("\nnamespace: {}\n", ground.namespace));
    let text = text.replace("  - ../../base\n", "  - ../../base\n  - servers.yaml\n");
    // The Jobs that documents make by hand must not push the history out.
    let keep = "patches:\n  - target: {kind: CronJob}\n    patch: |-\n      \
                - {op: replace, path: /spec/successfulJobsHistoryLimit, value: 100}\n";
    let text = text.replace("\npatches:\n", &format!("\n{keep}"));
    ground.overlay.write("overlays/production/kustomization.yaml", &text);

    let database = at(ground.stage.db.url(), &ground.outside.postgres.to_string());
    let redis = at(ground.stage.db.redis_url(), &ground.outside.redis.to_string());
    ground.bash(&format!(
        "kubectl -n rollcall delete secret migrate-secrets character-verifier-secrets outbox-drain-secrets pushgateway-secrets
         kubectl -n rollcall create secret generic migrate-secrets --from-literal=DATABASE_URL='{database}'
         kubectl -n rollcall create secret generic character-verifier-secrets \
           --from-literal=DATABASE_URL='{database}' --from-literal=REDIS_URL='{redis}' \
           --from-literal=ENCRYPTION_KEY={ENCRYPTION_KEY} --from-literal=EVE_CLIENT_SECRET=sim-secret
         kubectl -n rollcall create secret generic outbox-drain-secrets \
           --from-literal=DATABASE_URL='{database}' --from-literal=REDIS_URL='{redis}'
         kubectl -n rollcall create secret generic pushgateway-secrets --from-literal=PUSHGATEWAY_URL=http://{}",
        ground.outside.pushgateway
    ));
    std::fs::create_dir(ground.overlay.folder().join("target")).unwrap();
    symlink(built(), ground.overlay.folder().join("target/release")).unwrap();
}

/// What README.md sets by placeholders.
fn by_hand(ground: &Ground) -> String {
    let (esi, pushgateway) = (ground.outside.esi, ground.outside.pushgateway);
    let database = at(ground.stage.db.url(), &ground.outside.postgres.to_string());
    let redis = at(ground.stage.db.redis_url(), &ground.outside.redis.to_string());
    format!(
        "export DATABASE_URL='{database}' REDIS_URL='{redis}' ENCRYPTION_KEY={ENCRYPTION_KEY} \
         ESI_CONTACT=you@example.com ESI_BASE_URL=http://{esi} EVE_SSO_URL=http://{esi} \
         PUSHGATEWAY_URL=http://{pushgateway}\n"
    )
}

/// A block without what is not run; notes which entries were there.
fn to_run(block: &str, found: &mut BTreeSet<&'static str>) -> String {
    let indent = block.len() - block.trim_start().len();
    let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
    let mut text = lines.collect::<Vec<_>>().join("\n") + "\n";
    for (entry, _) in NOT_RUN {
        let whole = format!("\n{entry}\n");
        while let Some(start) = format!("\n{text}").find(&whole) {
            text.replace_range(start..=start + entry.len(), "");
            found.insert(entry);
        }
    }
    text
}

/// Runs a block of the document; what is wrong with it, in words.
async fn try_block(
    ground: &Ground,
    document: &str,
    exports: &str,
    script: &str,
    known: &mut BTreeSet<String>,
) -> Vec<String> {
    let decides = script.contains("\"dead-letters\"");
    if decides {
        ground.suspend_of(DRAIN, true);
        // A run that is under way would meet rows that come from nowhere.
        wait_until(super::LIMIT, "no run of the schedule is under way", async || {
            ground.object(&format!("cronjob/{DRAIN}"))["status"]["active"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
        dead_letter(ground).await;
    }
    let folder = ground.overlay.folder().display();
    let answer = ground.try_bash(&format!("cd '{folder}'\n{exports}{script}"));
    let mut failed = Vec::new();
    if !answer.is_ok {
        failed.push(format!("said\n{}{}", answer.out, answer.error));
    }
    if decides && answer.is_ok {
        // Without such a dead letter it ends 65, which the block's own wait for either end does not tell.
        let ended = ground.end("outbox-1");
        if ended.how != "Complete" {
            failed.push(format!("outbox-1 ended so: {ended:?}\n{}", ground.log("outbox-1")));
        }
    }
    if decides {
        ground.suspend_of(DRAIN, false);
    }
    failed.extend(wrong(ground, document, known));
    failed
}

/// Pods of runs by hand that are not `known` and have ended by a code that the document does not show: a wait for either end of
/// a Job does not tell. The schedule may meet what a document is about to set right.
fn wrong(ground: &Ground, document: &str, known: &mut BTreeSet<String>) -> Vec<String> {
    let (pods, failed) = (ground.object("pods"), failed_jobs(ground));
    let mut told = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let job = text(&pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]);
        let code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
        let is_wrong = |code: &i64| WRONG.contains(code) || *code == TEMPORARY && failed.contains(&job);
        let is_shown = |code: &i64| ENDS_OTHERWISE.iter().any(|(path, other, _)| *path == document && other == code);
        let code = code.filter(|code| is_wrong(code) && !is_shown(code) && !is_of_schedule(&job));
        let Some(code) = code else { continue };
        if known.insert(text(&pod["metadata"]["uid"])) {
            told.push(format!("a pod of {job} has ended with {code}:\n{}", ground.log(&job)));
        }
    }
    told
}

/// Names of Jobs that have failed, after all their tries.
fn failed_jobs(ground: &Ground) -> BTreeSet<String> {
    let jobs = ground.object("jobs");
    let has_failed = |job: &&serde_json::Value| {
        let conditions = job["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == "Failed" && one["status"] == "True")
    };
    let failed = jobs["items"].as_array().into_iter().flatten().filter(has_failed);
    failed.map(|job| text(&job["metadata"]["name"])).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs a statement and takes it back; how many rows it met.
async fn try_sql(ground: &Ground, sql: &str) -> Result<u64, sqlx::Error> {
    let mut transaction = ground.stage.db.pool().begin().await?;
    // The brand has a row already, and there is one for each.
    sqlx::query("-- cluster::try_sql\nDELETE FROM auth_config").execute(&mut *transaction).await?;
    let sql = AssertSqlSafe(format!("-- cluster::try_sql\n{sql}"));
    let done = sqlx::query(sql).execute(&mut *transaction).await?;
    transaction.rollback().await?;
    Ok(done.rows_affected())
}

/// Blocks of statements, and of objects for the cluster, which are only shown to it; how many, and what is wrong with them.
async fn try_others(ground: &Ground, document: &Document) -> (usize, Vec<String>) {
    let (mut tried, mut failed) = (0, Vec::new());
    for block in &document.blocks {
        let text = &block.text;
        if block.language == "sql" {
            tried += 1;
            match try_sql(ground, text).await {
                Ok(0) => failed.push(format!("{text}--- met no row")),
                Ok(_) => {}
                Err(error) => failed.push(format!("{text}--- said\n{error}")),
            }
        }
        // Others are parts of files, such as a list of components.
        if block.language == "yaml" && text.trim_start().starts_with("apiVersion:") {
            tried += 1;
            let show = "kubectl -n rollcall apply --dry-run=server --validate=strict -f -";
            let answer = ground.try_bash(&format!("{show} <<'YAML'\n{text}YAML\n"));
            // A warning is wrong, too.
            if !answer.is_ok || !answer.error.is_empty() {
                failed.push(format!("{text}--- said\n{}{}", answer.out, answer.error));
            }
        }
    }
    (tried, failed)
}

/// Names of the schedule's Jobs end in minutes since the epoch.
fn is_of_schedule(job: &str) -> bool {
    let end = job.rsplit('-').next().unwrap_or_default();
    end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit())
}

/// Runs everything that the chosen documents show, in an installation of their own.
async fn try_documents(case: &str, are_runbooks: bool) {
    let ground = Ground::prepared(case, &[]).await;
    install(&ground);
    let mut paths = documents::paths(&repository());
    paths.retain(|path| path.starts_with("runbooks/") == are_runbooks);
    // It installs, and is looked at in its history after; README.md's commands by hand need nothing of the cluster.
    paths.sort_by_key(|path| path != INSTALLS);
    if are_runbooks {
        ground.bash(&format!(
            "kubectl apply -k '{}/k8s/overlays/production'
             kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m",
            ground.overlay.folder().display()
        ));
        history(&ground).await;
        bring_pushgateway(&ground.overlay, &ground.namespace);
    }
    let (mut run, mut failed) = (BTreeSet::new(), Vec::new());
    let (mut known, mut others) = (BTreeSet::new(), 0);
    for path in &paths {
        situation(&ground, path).await;
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let mut exports = if path == "README.md" { by_hand(&ground) } else { String::new() };
        let document = markdown::document(&text);
        let mut shown = String::new();
        for block in document.blocks.iter().filter(|block| block.language == "sh") {
            let script = to_run(&block.text, &mut BTreeSet::new());
            if !script.trim().is_empty() && run.insert(script.clone()) {
                for what in try_block(&ground, path, &exports, &script, &mut known).await {
                    failed.push(format!("--- {path}\n{script}--- {what}"));
                }
            }
            if script.contains(SUBCOMMAND) {
                shown.clone_from(&script);
            }
            exports.extend(script.lines().filter(|line| line.starts_with("export ")).map(|line| format!("{line}\n")));
        }
        if path == INSTALLS {
            history(&ground).await;
        }
        for arguments in inline::arguments(&document) {
            let job = format!("other-{}", run.len());
            let script = shown.replace(SUBCOMMAND, arguments).replace("status-1", &job);
            assert!(
                script.contains(arguments) && run.insert(script.clone()),
                "{path} has no block to put {arguments} into"
            );
            for what in try_block(&ground, path, &exports, &script, &mut known).await {
                failed.push(format!("--- {path}\n{script}--- {what}"));
            }
        }
        let (tried, said) = try_others(&ground, &document).await;
        others += tried;
        failed.extend(said.into_iter().map(|what| format!("--- {path}\n{what}")));
        for what in inline::try_all(&ground, &document, &exports, &mut run).await {
            failed.push(format!("--- {path}\n{what}"));
        }
    }
    assert!(failed.is_empty(), "{} failures in {} blocks:\n{}", failed.len(), run.len(), failed.join("\n"));
    assert!(run.len() > 10, "only {} blocks were found", run.len());
    assert!(are_runbooks || others > 1, "only {others} statements and objects were found");
    let mut broken = ground.stage.sim.violations();
    broken.retain(|rule| rule != AFTER_A_DRY_RUN);
    assert!(broken.is_empty(), "ESI's rules were broken: {broken:#?}");
    ground.stage.forgive();
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn every_command_of_readme_and_docs_runs_as_it_stands_there() {
    try_documents("docs", false).await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn every_command_of_a_runbook_runs_as_it_stands_there() {
    try_documents("runbooks", true).await;
}

#[test]
fn what_is_not_run_stands_in_a_document() {
    let mut found = BTreeSet::new();
    for path in documents::paths(&repository()) {
        let document = markdown::document(&std::fs::read_to_string(repository().join(path)).unwrap());
        for block in document.blocks.iter().filter(|block| block.language == "sh") {
            to_run(&block.text, &mut found);
        }
        let spans = NOT_RUN_IN_LINE.iter().filter(|(entry, _)| document.spans.iter().any(|span| span == entry));
        found.extend(spans.map(|(entry, _)| *entry));
    }
    let stale: Vec<_> = NOT_RUN.iter().chain(NOT_RUN_IN_LINE).filter(|(entry, _)| !found.contains(entry)).collect();
    assert!(stale.is_empty(), "stand in no document any more: {stale:#?}");
}
