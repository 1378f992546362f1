//! `/_sim/…`: the simulator's own routes, for those outside its process.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::fault::Fault;
use crate::log::Counts;
use crate::serve::serve;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::world::WorldUpdate;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/_sim/world", post(change_world))
        .route("/_sim/faults", post(add_faults).delete(clear_faults))
        .route("/_sim/settings", get(show_settings).post(change_settings))
        .route("/_sim/clock", post(change_clock))
        .route("/_sim/requests", get(show_requests).delete(clear_requests))
        .fallback(serve)
        .with_state(shared)
}

/// Body of `POST /_sim/clock`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClockChange {
    /// To this instant, RFC 3339.
    #[serde(with = "time::serde::rfc3339")]
    Now(OffsetDateTime),
    /// By so many seconds.
    AdvanceSeconds(i64),
}

/// Body of `GET /_sim/requests`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    counts: Counts,
    violations: Vec<String>,
}

async fn change_world(State(shared): State<Arc<Shared>>, Json(update): Json<WorldUpdate>) -> StatusCode {
    shared.world_mut().apply(update);
    StatusCode::NO_CONTENT
}

async fn add_faults(State(shared): State<Arc<Shared>>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    let mut script = shared.script();
    for fault in faults {
        script.add(fault);
    }
    StatusCode::NO_CONTENT
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.script().clear();
    StatusCode::NO_CONTENT
}

async fn show_settings(State(shared): State<Arc<Shared>>) -> Json<Settings> {
    Json(Settings::clone(&shared.settings()))
}

async fn change_settings(
    State(shared): State<Arc<Shared>>,
    Json(change): Json<serde_json::Map<String, Value>>,
) -> Result<StatusCode, (StatusCode, String)> {
    let changed = shared.change_settings(|settings| merged(settings, change).map(|changed| *settings = changed));
    changed.map(|()| StatusCode::NO_CONTENT).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn merged(settings: &Settings, change: serde_json::Map<String, Value>) -> serde_json::Result<Settings> {
    let mut all = serde_json::to_value(settings)?;
    if let Some(fields) = all.as_object_mut() {
        fields.extend(change);
    }
    serde_json::from_value(all)
}

async fn change_clock(State(shared): State<Arc<Shared>>, Json(change): Json<ClockChange>) -> StatusCode {
    match change {
        ClockChange::Now(to) => shared.set_time(to),
        ClockChange::AdvanceSeconds(seconds) => shared.advance(Duration::seconds(seconds)),
    }
    StatusCode::NO_CONTENT
}

async fn show_requests(State(shared): State<Arc<Shared>>) -> Json<Report> {
    let log = shared.log();
    Json(Report { counts: log.counts.clone(), violations: log.violations.clone() })
}

async fn clear_requests(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.log().clear();
    StatusCode::NO_CONTENT
}
