//! A community in which everything happens at once, the same each time it is built: for runs that are killed.

use std::time::Duration;

use esi_simulator::{Character, CharacterState, DOOMHEIM, Fault, Kind, RefreshToken, Route, WorldUpdate};
use harness::{CORPORATION, Crowd, Fault as Net, FaultProxy, Newcomer, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::{ALLIED, Stage, with_sso};

/// How many live in it. Each kind of fate below has its share.
pub(crate) const PEOPLE: usize = 240;
/// Each batch is this small, and so is each checkpoint but where several are ready together.
const BATCH: &str = "16";
/// Every piece of data to and from the servers takes this long, so that no moment of a run is too short to be hit.
const DISTANCE: Duration = Duration::from_millis(2);

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    NeverSeen,
    Moves,
    Leaves,
    LeavesWithoutASession,
    /// Has left, and an earlier run was not allowed to act on it.
    Held,
    Doomheim,
    Deleted,
    Transferred,
    Unknown,
    Missing,
    TokenDies,
}

/// Of every sixty, so many leave and so few that the circuit breaker stays closed.
fn fate(place: usize) -> Fate {
    match place % 60 {
        3 | 33 => Fate::Leaves,
        7 => Fate::LeavesWithoutASession,
        11 => Fate::Held,
        13 | 43 | 53 => Fate::Moves,
        17 => Fate::Doomheim,
        19 if place < 120 => Fate::Deleted,
        23 => Fate::Transferred,
        29 if place < 60 => Fate::Unknown,
        31 => Fate::Missing,
        37 => Fate::TokenDies,
        41 | 47 | 59 => Fate::NeverSeen,
        _ => Fate::Stays,
    }
}

fn owner(place: usize) -> String {
    format!("owner {place}")
}

fn refresh_token(place: usize) -> String {
    format!("village-{place}")
}

fn has_token(place: usize) -> bool {
    place.is_multiple_of(10) || matches!(fate(place), Fate::Transferred | Fate::TokenDies)
}

/// The village, and the roads to its servers.
pub(crate) struct Village {
    pub(crate) stage: Stage,
    /// Before PostgreSQL.
    pub(crate) database: FaultProxy,
    /// Before Redis.
    pub(crate) redis: FaultProxy,
}

impl Village {
    /// Everybody due, ESI up.
    pub(crate) async fn new() -> Self {
        let stage = Stage::new().await;
        let people = stage.community.crowd(PEOPLE, person).await;
        let mut update = WorldUpdate::default();
        let mut missing = Vec::new();
        for place in 0..PEOPLE {
            let id = people.eve_id(place);
            let mut character = Character::new(id, CORPORATION);
            character.owner_hash = owner(place);
            match fate(place) {
                Fate::Moves => character.corporation_id = ALLIED,
                Fate::Leaves | Fate::LeavesWithoutASession | Fate::Held => character.corporation_id = STRANGERS,
                Fate::Doomheim => character.corporation_id = DOOMHEIM,
                Fate::Deleted => character.state = CharacterState::Deleted,
                Fate::Transferred => character.owner_hash = "somebody else".to_owned(),
                Fate::Missing => missing.push(id),
                Fate::Unknown => continue,
                Fate::Stays | Fate::NeverSeen | Fate::TokenDies => {}
            }
            update.characters.push(character);
            if has_token(place) && fate(place) != Fate::TokenDies {
                update.refresh_tokens.push(RefreshToken { token: refresh_token(place), character_id: id });
            }
        }
        stage.sim.world(|world| world.apply(update));
        stage.sim.settings(|settings| settings.latency_ms = 5);
        stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: missing }));
        hold(&stage, people).await;
        let database = FaultProxy::start(stage.db.url());
        let redis = FaultProxy::start(stage.db.redis_url());
        database.set(Net::Delay(DISTANCE));
        redis.set(Net::Delay(DISTANCE));
        Self { stage, database, redis }
    }

    /// A verifier over the slow roads.
    pub(crate) fn verifier(&self) -> harness::Binary {
        with_sso(self.stage.verifier())
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env("BATCH_SIZE", BATCH)
    }

    /// What a killed process leaves for a minute, gone at once.
    pub(crate) async fn free_the_lease(&self) {
        let sql = "-- weather::free_the_lease\nUPDATE job_leases SET expires_at = now() - interval '1 second'";
        sqlx::query(sql).execute(self.stage.db.pool()).await.unwrap();
    }

    /// How many hold the lease.
    pub(crate) async fn leases(&self) -> i64 {
        let sql = "-- weather::leases\nSELECT count(*) FROM job_leases";
        sqlx::query_scalar(sql).fetch_one(self.stage.db.pool()).await.unwrap()
    }
}

fn person(place: usize) -> Newcomer {
    let person = newcomer(format!("Villager {place}"));
    let person = match fate(place) {
        Fate::NeverSeen => person,
        Fate::Held => person.corporation(STRANGERS).verified_minutes_ago(120).rule(Rule::NotAMember),
        _ => person.verified_minutes_ago(120),
    };
    let person = match fate(place) {
        Fate::NeverSeen | Fate::LeavesWithoutASession => person,
        // Some have two.
        _ if place.is_multiple_of(3) => person.session().session(),
        _ => person.session(),
    };
    if has_token(place) { person.token(refresh_token(place)).owner_hash(owner(place)) } else { person }
}

/// An earlier run found some whom the circuit breaker then kept.
async fn hold(stage: &Stage, people: Crowd) {
    let held: Vec<i64> =
        (0..PEOPLE).filter(|place| fate(*place) == Fate::Held).map(|place| people.eve_id(place)).collect();
    let sql = "-- weather::hold
        INSERT INTO revocation_candidates (eve_id, character_id, account_id, brand_id, state, live, verdict, rule,
            corporation_id, observed_at, found_at, found_by)
        SELECT eve_id, character_id, account_id, brand_id, 'held', true, verdict, rule,
            corporation_id, last_verified_at, last_verified_at, 'an earlier run'
        FROM eve_characters JOIN characters ON id = character_id WHERE eve_id = ANY ($1)";
    let rows = sqlx::query(sql).bind(&held).execute(stage.db.pool()).await.unwrap().rows_affected();
    assert_eq!(rows, held.len() as u64);
}
