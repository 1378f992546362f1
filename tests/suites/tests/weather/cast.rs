//! The five who meet every fault, and what a run left of them.

use std::collections::BTreeMap;

use esi_simulator::{Character, DOOMHEIM, RefreshToken, WorldUpdate};
use harness::{CORPORATION, EveRow, Member, STRANGERS, newcomer, session_key};
use serde_json::Value;
use suites::{ALLIED, Stage};
use time::OffsetDateTime;
use uuid::Uuid;

/// One of the five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Never verified, allowed, without a session.
    New,
    /// Where it was, with a session and a token.
    Stayer,
    /// Has left for strangers, with a session.
    Leaver,
    /// Is now in another corporation, allowed by its alliance, with a session.
    Mover,
    /// Allowed, with a session and a token, and whatever the case makes of it.
    Subject,
}

/// All of them, in the order in which a run looks at them.
pub(crate) const ALL: [Who; 5] = [Who::New, Who::Stayer, Who::Leaver, Who::Mover, Who::Subject];

/// What a run did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Verified,
    Attempted,
    /// Not a single column is another.
    Untouched,
}

/// The five on a stage of their own.
pub(crate) struct Cast {
    pub(crate) stage: Stage,
    members: Vec<Member>,
}

/// The stored rows of all, with the moment of reading.
pub(crate) struct Before {
    at: OffsetDateTime,
    rows: Vec<EveRow>,
}

impl Cast {
    /// All of them due. With `knows_subject: false` ESI has never heard of the subject.
    pub(crate) async fn new(knows_subject: bool) -> Self {
        let stage = Stage::new().await;
        let mut members = Vec::new();
        for who in ALL {
            let id = Self::id(who);
            let character = newcomer(format!("{who:?}")).eve_id(id);
            let character = match who {
                Who::New => character,
                _ => character.verified_minutes_ago(120).session(),
            };
            let character = match who {
                Who::Stayer | Who::Subject => character.token(refresh_token(who)).owner_hash(format!("owner-{id}")),
                _ => character,
            };
            members.push(stage.community.add(character).await);
            if who != Who::Subject || knows_subject {
                stage.show(id, Self::shown(who));
            }
        }
        let refresh_tokens = [Who::Stayer, Who::Subject]
            .map(|who| RefreshToken { token: refresh_token(who), character_id: Self::id(who) })
            .to_vec();
        stage.sim.world(|world| world.apply(WorldUpdate { refresh_tokens, ..WorldUpdate::default() }));
        Self { stage, members }
    }

    /// Id in EVE Online.
    pub(crate) fn id(who: Who) -> i64 {
        2_110_000_000 + who as i64
    }

    fn shown(who: Who) -> i64 {
        match who {
            Who::Leaver => STRANGERS,
            Who::Mover => ALLIED,
            Who::New | Who::Stayer | Who::Subject => CORPORATION,
        }
    }

    pub(crate) fn member(&self, who: Who) -> &Member {
        &self.members[who as usize]
    }

    /// ESI shows the subject like this from now on.
    pub(crate) fn show_subject(&self, change: impl FnOnce(&mut Character)) {
        let found = self.stage.sim.world(|world| world.character_mut(Self::id(Who::Subject)).map(change));
        assert!(found.is_some(), "ESI knows the subject");
    }

    /// To compare with after a run.
    pub(crate) async fn before(&self) -> Before {
        let at =
            sqlx::query_scalar("-- weather::before\nSELECT clock_timestamp()").fetch_one(self.stage.db.pool()).await;
        let mut rows = Vec::new();
        for who in ALL {
            rows.push(self.stage.community.eve(Self::id(who)).await);
        }
        Before { at: at.unwrap(), rows }
    }

    /// What was done to each since.
    pub(crate) async fn marks(&self, before: &Before) -> BTreeMap<Who, Mark> {
        let mut marks = BTreeMap::new();
        for who in ALL {
            let row = self.stage.community.eve(Self::id(who)).await;
            let mark = if row.last_verified_at.is_some_and(|at| at > before.at) {
                Mark::Verified
            } else if row.last_attempted_at.is_some_and(|at| at > before.at) {
                Mark::Attempted
            } else {
                assert_eq!(row, before.rows[who as usize], "{who:?} was changed without a stamp");
                Mark::Untouched
            };
            marks.insert(who, mark);
        }
        marks
    }

    /// Who has lost the session; and that exactly these losses are told, once each, in audit log and outbox.
    pub(crate) async fn lost(&self) -> Vec<Who> {
        let mut lost = Vec::new();
        let mut expected = Vec::new();
        for who in ALL {
            let member = self.member(who);
            if let Some(token) = member.session_tokens.first()
                && !self.stage.community.has_session(token).await
            {
                lost.push(who);
                let hash = session_key(token).rsplit(':').next().unwrap().to_owned();
                expected.push((member.account_id, member.character_id, hash));
            }
        }
        expected.sort();
        let mut audited = Vec::new();
        for row in self.stage.community.audit().await {
            assert_eq!((row.action.as_str(), row.actor_id), ("session.invalidated", None));
            audited.push((row.account_id.unwrap(), row.character_id.unwrap(), text(&row.details, "session")));
        }
        let mut told = Vec::new();
        for row in self.stage.community.events().await {
            assert_eq!(row.event_type, "SESSION_INVALIDATED");
            let character: Uuid = text(&row.payload, "character_id").parse().unwrap();
            told.push((row.aggregate_id.parse().unwrap(), character, text(&row.payload, "session")));
        }
        audited.sort();
        told.sort();
        assert_eq!(audited, expected, "audit rows are those of the sessions that went");
        assert_eq!(told, expected, "events are those of the sessions that went");
        lost
    }

    /// What holds after every run that was not killed: nothing is pending, nobody holds the lease, every run is closed,
    /// and an organisation is stored with its own name or none.
    pub(crate) async fn assert_whole(&self) {
        let community = &self.stage.community;
        assert_eq!(community.pending().await, []);
        let leases: i64 = sqlx::query_scalar("-- weather::assert_whole\nSELECT count(*) FROM job_leases")
            .fetch_one(self.stage.db.pool())
            .await
            .unwrap();
        assert_eq!(leases, 0, "the lease is given back");
        for run in community.runs().await {
            assert!(run.outcome.is_some(), "an open run: {run:?}");
        }
        for who in ALL {
            let row = community.eve(Self::id(who)).await;
            let corporation = row.corporation_id.map(|id| match id {
                DOOMHEIM => "Doomheim".to_owned(),
                id => format!("Corporation {id}"),
            });
            let alliance = row.alliance_id.map(|id| format!("Alliance {id}"));
            assert!(row.corporation_name.is_none() || row.corporation_name == corporation, "{row:?}");
            assert!(row.alliance_name.is_none() || row.alliance_name == alliance, "{row:?}");
        }
    }
}

/// The refresh token that those who have one were built with.
pub(crate) fn refresh_token(who: Who) -> String {
    format!("refresh-{}", Cast::id(who))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}")).to_owned()
}
