//! Answers about one thing: the service, a character, a corporation. All are GET calls and kept until they expire.

use std::time::Duration;

use identity::{
    approval::Organisation,
    ids::{AllianceId, CorporationId, EveCharacterId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

use crate::{
    call::{Refusal, Reply, Request},
    client::Esi,
    counts::Route,
    error::EsiError,
    settings::Deadline,
    wire::{positive, positive_or_none},
};

/// Pause between two looks for an answer that another shard is fetching.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longest time that an answer of `/status` is kept, whatever its `Expires`: it decides whether a run goes on.
const STATUS_KEPT: Duration = Duration::from_mins(1);

/// `/status`: that ESI answers at all, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Only privileged logins: the game is starting or in trouble, and data may be incomplete.
    #[serde(default)]
    pub vip: bool,
    /// Players online.
    pub players: i64,
}

/// What `/characters/{id}` says of a character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharacterSheet {
    /// Display name.
    pub name: String,
    /// The corporation; Doomheim for some deleted ones. Its own sheet says which alliance it is in.
    #[serde(rename = "corporation_id", deserialize_with = "positive")]
    pub corporation: CorporationId,
}

/// What `/corporations/{id}` says of a corporation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorporationSheet {
    /// Display name.
    pub name: String,
    /// Ticker, without brackets.
    pub ticker: String,
    /// The alliance; `None` means none.
    #[serde(rename = "alliance_id", default, deserialize_with = "positive_or_none")]
    pub alliance: Option<AllianceId>,
}

/// What the routes other than affiliation say of a character's organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondSource {
    /// The corporation by `/characters/{id}`, and the alliance by that corporation's own sheet.
    Member(Organisation),
    /// Deleted, or in Doomheim.
    Gone,
}

/// [`SecondSource`], and how far it can be trusted to confirm another answer: both of its sheets may come from this
/// client's own cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondAnswer {
    /// What the other routes say.
    pub source: SecondSource,
    /// Since the older of the two sheets was fetched, by whichever shard; zero: just now. What ESI's own caches add is
    /// not in it. Longer than since the answer that is to be confirmed: this one was there first and confirms nothing.
    pub age: Duration,
}

/// What is kept of an answer about one thing.
#[derive(Debug, Serialize, Deserialize)]
enum Known<T> {
    Sheet(T),
    NotFound,
    Deleted,
}

impl<T> Known<T> {
    fn into_result(self) -> Result<T, EsiError> {
        match self {
            Self::Sheet(sheet) => Ok(sheet),
            Self::NotFound => Err(EsiError::NotFound),
            Self::Deleted => Err(EsiError::Deleted),
        }
    }

    /// What a refusal says of the thing itself.
    ///
    /// # Errors
    /// Nothing: then it is ESI that is out of order.
    fn of(path: &str, refusal: &Refusal) -> Result<Self, EsiError> {
        let text = refusal.text.as_deref().unwrap_or_default().to_ascii_lowercase();
        if text.contains("has been deleted") {
            Ok(Self::Deleted)
        } else if refusal.is_route_wide() {
            Err(EsiError::Down { reason: format!("{path} answers {}", refusal.describe()) })
        } else if text.contains("not found") {
            Ok(Self::NotFound)
        } else {
            Err(EsiError::Unavailable(refusal.describe()))
        }
    }
}

impl Esi {
    /// Whether ESI is up and open to everybody.
    ///
    /// # Errors
    /// [`EsiError::Down`] also when this call failed after its retries; the rest as everywhere.
    pub async fn status(&self, deadline: Deadline) -> Result<Status, EsiError> {
        self.get(Route::Status, "/status", deadline).await.map_err(|error| match error {
            EsiError::Unavailable(text) => EsiError::Down { reason: format!("/status: {text}") },
            EsiError::NotFound | EsiError::Deleted => EsiError::Down { reason: "/status is not there".to_owned() },
            error => error,
        })
    }

    /// A character's own sheet; up to a day old.
    ///
    /// # Errors
    /// [`EsiError::NotFound`] and [`EsiError::Deleted`] are about the character, the rest is not.
    pub async fn character(&self, id: EveCharacterId, deadline: Deadline) -> Result<CharacterSheet, EsiError> {
        self.get(Route::Character, &character_path(id), deadline).await
    }

    /// A corporation's own sheet; up to an hour old.
    ///
    /// # Errors
    /// [`EsiError::NotFound`] is about the corporation, the rest is not.
    pub async fn corporation(&self, id: CorporationId, deadline: Deadline) -> Result<CorporationSheet, EsiError> {
        self.get(Route::Corporation, &corporation_path(id), deadline).await
    }

    /// The organisation without affiliation's help: `/characters/{id}`, then the corporation's own alliance.
    ///
    /// # Errors
    /// [`EsiError::NotFound`]: there is no such character, which is not the same as a deleted one. A corporation that
    /// is not found is [`EsiError::Unavailable`], for it says nothing about the character.
    pub async fn organisation_by_second_source(
        &self,
        id: EveCharacterId,
        deadline: Deadline,
    ) -> Result<SecondAnswer, EsiError> {
        let (known, age) = self.fetch(Route::Character, &character_path(id), deadline).await?;
        let corporation = match known {
            Known::Sheet(CharacterSheet { corporation, .. }) if corporation != CorporationId::DOOMHEIM => corporation,
            Known::Sheet(_) | Known::Deleted => return Ok(SecondAnswer { source: SecondSource::Gone, age }),
            Known::NotFound => return Err(EsiError::NotFound),
        };
        let (organisation, corporation_age) = self.organisation_of(corporation, deadline).await?;
        Ok(SecondAnswer { source: SecondSource::Member(organisation), age: age.max(corporation_age) })
    }

    /// A corporation and its alliance, and how long ago that was fetched.
    pub(crate) async fn organisation_of(
        &self,
        corporation: CorporationId,
        deadline: Deadline,
    ) -> Result<(Organisation, Duration), EsiError> {
        let (known, age) = self.fetch(Route::Corporation, &corporation_path(corporation), deadline).await?;
        match known {
            Known::Sheet(CorporationSheet { alliance, .. }) => Ok((Organisation { corporation, alliance }, age)),
            Known::NotFound | Known::Deleted => {
                Err(EsiError::Unavailable(format!("corporation {corporation} is not found")))
            }
        }
    }

    async fn get<T>(&self, route: Route, path: &str, deadline: Deadline) -> Result<T, EsiError>
    where
        T: Serialize + DeserializeOwned,
    {
        self.fetch(route, path, deadline).await?.0.into_result()
    }

    /// The answer, kept or new, and how long ago it was fetched.
    async fn fetch<T>(&self, route: Route, path: &str, deadline: Deadline) -> Result<(Known<T>, Duration), EsiError>
    where
        T: Serialize + DeserializeOwned,
    {
        let Some(turn) = self.stop.or(timeout_at(deadline, self.cache.turn(path))).await else {
            return Err(EsiError::Stopped);
        };
        let _turn = turn.map_err(|_| self.out_of_time(deadline))?;
        loop {
            if let Some((text, age)) = self.cache.get(&self.board, path).await
                && let Ok(known) = serde_json::from_str(&text)
            {
                return Ok((known, age));
            }
            if self.cache.claim(&self.board, path).await {
                break;
            }
            // Another shard is asking just now.
            if Instant::now() >= deadline {
                return Err(self.out_of_time(deadline));
            }
            if !self.stop.sleep(LOOK_AGAIN).await {
                return Err(EsiError::Stopped);
            }
        }
        // Between our look and our claim another shard may have ended its call.
        let meanwhile = self.cache.get(&self.board, path).await;
        let answer = match meanwhile.and_then(|(text, age)| Some((serde_json::from_str(&text).ok()?, age))) {
            Some(known) => Ok(known),
            None => self.ask(route, path, deadline).await.map(|known| (known, Duration::ZERO)),
        };
        self.cache.done(&self.board, path).await;
        answer
    }

    /// The answer of ESI, which is kept while it is fresh.
    async fn ask<T>(&self, route: Route, path: &str, deadline: Deadline) -> Result<Known<T>, EsiError>
    where
        T: Serialize + DeserializeOwned,
    {
        let request = Request { route, path, body: None };
        let (known, fresh_for) = match self.call(request, deadline, |body| serde_json::from_slice(body).ok()).await? {
            Reply::Answer(sheet, fresh_for) => (Known::Sheet(sheet), fresh_for),
            Reply::Refused(refusal) => (Known::of(path, &refusal)?, refusal.fresh_for),
        };
        let longest = if route == Route::Status { STATUS_KEPT } else { Duration::MAX };
        if let Some(time) = fresh_for
            && let Ok(text) = serde_json::to_string(&known)
        {
            self.cache.put(&self.board, path, &text, time.min(longest)).await;
        }
        Ok(known)
    }
}

fn character_path(id: EveCharacterId) -> String {
    format!("/characters/{id}")
}

fn corporation_path(id: CorporationId) -> String {
    format!("/corporations/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(status: u16, text: Option<&str>) -> Result<Known<()>, EsiError> {
        Known::of("/characters/1", &Refusal { status, text: text.map(str::to_owned), fresh_for: None })
    }

    #[test]
    fn only_a_refusal_that_names_the_character_says_anything_about_it() {
        assert!(matches!(known(404, Some("Character has been deleted")), Ok(Known::Deleted)));
        assert!(matches!(known(404, Some("Character not found")), Ok(Known::NotFound)));
        for text in [None, Some("Not found"), Some("not found ")] {
            assert!(matches!(known(404, text), Err(EsiError::Down { .. })), "{text:?}");
        }
        assert!(matches!(known(400, None), Err(EsiError::Unavailable(_))));
        assert!(matches!(known(404, Some("Timeout")), Err(EsiError::Unavailable(_))));
    }

    #[test]
    fn a_sheet_with_a_senseless_id_is_no_sheet() {
        let read = |text| serde_json::from_str::<CorporationSheet>(text).ok().map(|sheet| sheet.alliance);
        assert_eq!(read(r#"{"name":"n","ticker":"t","more":1}"#), Some(None));
        assert_eq!(read(r#"{"name":"n","ticker":"t","alliance_id":5}"#), Some(Some(AllianceId(5))));
        assert_eq!(read(r#"{"name":"n","ticker":"t","alliance_id":null}"#), Some(None));
        assert_eq!(read(r#"{"name":"n","ticker":"t","alliance_id":0}"#), None);
        assert!(serde_json::from_str::<CharacterSheet>(r#"{"name":"n","corporation_id":0}"#).is_err());
    }

    #[test]
    fn what_is_kept_reads_back() {
        let sheet = CorporationSheet { name: "n".into(), ticker: "t".into(), alliance: Some(AllianceId(5)) };
        let text = serde_json::to_string(&Known::Sheet(&sheet)).unwrap();
        let known: Known<CorporationSheet> = serde_json::from_str(&text).unwrap();
        assert_eq!(known.into_result(), Ok(sheet));
    }
}
