//! A story for each alert.

mod jobs;
mod outbox;
mod servers;
mod verifier;

use super::place::Place;

/// Tells the story of the place's alert: quiet, then firing, then over.
pub(super) async fn tell(place: Place) {
    match place.alert.as_str() {
        "CharacterVerifierStale" => verifier::stale(place.town().await).await,
        "CharacterVerifierMetricsAbsent" => servers::metrics_absent(place.town().await).await,
        "CharacterVerifierEsiErrors" => verifier::esi_errors(place.town().await).await,
        "CharacterVerifierSessionsInvalidated" => verifier::sessions_invalidated(place.town().await).await,
        "CharacterVerifierCapped" => verifier::capped(place.town().await).await,
        "CharacterVerifierExposure" => verifier::exposure(place.town().await).await,
        "CharacterVerifierInvalidationsPending" => verifier::invalidations_pending(place.town().await).await,
        "CharacterVerifierUpstreamDown" => verifier::upstream_down(place.town().await).await,
        "CharacterVerifierUnknown" => verifier::unknown(place.town().await).await,
        "CharacterVerifierBrandWithoutConfig" => verifier::brand_without_config(place.town().await).await,
        "CharacterVerifierTokensUndecryptable" => verifier::tokens_undecryptable(place.town().await).await,
        "CharacterVerifierTokenChecksBlind" => verifier::token_checks_blind(place.town().await).await,
        "OutboxDrainStale" => outbox::stale(place).await,
        "OutboxDrainMetricsAbsent" => outbox::metrics_absent(place).await,
        "OutboxWorkerUnavailable" => outbox::worker_unavailable(place).await,
        "OutboxBacklogAge" => outbox::backlog_age(place).await,
        "OutboxDeadLetters" => outbox::dead_letters(place).await,
        "OutboxEventsLost" => outbox::events_lost(place).await,
        "RollcallJobFailedPermanently" => jobs::failed_permanently(place.town().await).await,
        "RollcallJobFailing" => jobs::failing(place.town().await).await,
        "RollcallJobNeverSucceeded" => jobs::never_succeeded(place.town().await).await,
        "RollcallJobRunsLost" => jobs::runs_lost(place.town().await).await,
        "RollcallPushFailing" => jobs::push_failing(place.town().await).await,
        "RollcallPushgatewayGone" => servers::pushgateway_gone(place).await,
        "RollcallMigrationFailed" => servers::migration_failed(place).await,
        alert => panic!("{alert} was never seen to fire: tell its story here"),
    }
}
