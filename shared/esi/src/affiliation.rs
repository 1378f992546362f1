//! The present corporation and alliance of up to a thousand characters in one call.
//!
//! One id that ESI cannot resolve fails the whole call, so a refused batch is halved until the bad ids stand alone,
//! one half after the other: each refusal costs an error of a budget that all shards share. A half whose sibling
//! answered is not asked whole, for it cannot but fail. And before an id is called bad, `/characters/{id}` has to say
//! so: when the route refuses what the other knows, it is the route that is out of order.

use identity::{
    approval::Organisation,
    ids::{AllianceId, CorporationId, EveCharacterId},
};

use crate::{
    bisect::{Part, Parts},
    call::{Refusal, Reply, Request},
    client::Esi,
    counts::Route,
    error::EsiError,
    settings::{Deadline, MAX_IDS},
    wire::{AffiliationRow, Id, id_list},
};

/// Ids refused here and known to `/characters/{id}`, while nothing of the batch is answered, that show an outage.
const REFUTED_IS_OUTAGE: usize = 2;

/// Ids refused in the words that very old characters get, while nothing of the batch is answered, after which its
/// youngest id shows whether everybody gets them.
const OLD_IS_SUSPECT: usize = 5;
/// Batches up to this size may well hold nothing but very old characters.
const SMALL_BATCH: usize = 10;

/// Parts of one batch that may fail, with their retries, before the rest of it is given up: errors of a budget.
const FAILED_PARTS: u32 = 2;

/// What became of each id that was asked for; every id is in exactly one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affiliations {
    /// Answered.
    pub found: Vec<(EveCharacterId, Organisation)>,
    /// Asked for and not in the answer, or there without a usable corporation, or refused for a reason that could not be
    /// found out: unknown, never "has left".
    pub missing: Vec<EveCharacterId>,
    /// Fail every batch they are in; worth remembering for a time, not for ever.
    pub bad: Vec<(EveCharacterId, BadId)>,
    /// The call for them failed after its retries, while a batch was being halved, or was given up after
    /// [`FAILED_PARTS`] such.
    pub failed: Vec<EveCharacterId>,
    /// Not asked: the error budget or the deadline gave out while a batch was being halved.
    pub unasked: Vec<EveCharacterId>,
    /// Why there are failed or unasked ones: [`EsiError::Unavailable`] or [`EsiError::Budget`].
    pub gave_out: Option<EsiError>,
}

/// Why an id fails its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadId {
    /// No such character.
    NotFound,
    /// The character was deleted.
    Deleted,
    /// Affiliation does not resolve it (some very old characters) though `/characters/{id}` does; the alliance is that
    /// of the corporation's own sheet.
    AffiliationRefuses(Organisation),
}

impl Esi {
    /// The organisations of these characters; `ids` are unique and at most [`MAX_IDS`] (more are asked in several
    /// calls, duplicates once).
    ///
    /// # Errors
    /// Nothing is known of any of them. [`EsiError::Down`] also when the answers contradict each other so that they
    /// cannot be about the ids.
    pub async fn affiliations(&self, ids: &[EveCharacterId], deadline: Deadline) -> Result<Affiliations, EsiError> {
        let mut asked: Vec<i64> = ids.iter().map(|id| id.0).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut hunt = Hunt {
            esi: self,
            deadline,
            // Ids rise with time.
            youngest: asked.last().copied().filter(|_| asked.len() > SMALL_BATCH),
            result: Affiliations::default(),
            answered: false,
            refuted: 0,
            old: 0,
        };
        let mut parts = Parts::of(&asked, MAX_IDS);
        let mut failed_parts = 0;
        while let Some(part) = parts.next() {
            match hunt.step(part, &mut parts).await {
                Ok(()) => {}
                Err(why @ EsiError::Unavailable(_)) if part.ids.len() < asked.len() => {
                    hunt.result.failed.extend(part.ids.iter().copied().map(EveCharacterId));
                    hunt.result.gave_out = Some(why);
                    failed_parts += 1;
                    if failed_parts == FAILED_PARTS {
                        hunt.result.failed.extend(parts.rest().map(EveCharacterId));
                        break;
                    }
                }
                Err(why @ EsiError::Budget { .. }) if part.ids.len() < asked.len() => {
                    hunt.result.unasked.extend(part.ids.iter().copied().chain(parts.rest()).map(EveCharacterId));
                    hunt.result.gave_out = Some(why);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(hunt.result)
    }
}

/// One batch on its way to an answer.
struct Hunt<'a> {
    esi: &'a Esi,
    deadline: Deadline,
    /// The highest id; `None` in a small batch.
    youngest: Option<i64>,
    result: Affiliations,
    /// The route has answered something of this batch.
    answered: bool,
    refuted: usize,
    old: usize,
}

impl Hunt<'_> {
    async fn step<'p>(&mut self, part: Part<'p>, parts: &mut Parts<'p>) -> Result<(), EsiError> {
        let refused = if part.surely_bad { None } else { self.ask(part.ids).await? };
        match (part.ids, &refused) {
            (_, None) if !part.surely_bad => parts.clean(part),
            ([id], _) => self.refused_alone(EveCharacterId(*id), refused).await?,
            _ => parts.split(part),
        }
        Ok(())
    }

    /// An id that stands alone: refused, or inferred to be bad. What cannot be found out about it leaves it unknown and
    /// must not keep the rest of the batch waiting, now and in every later run.
    async fn refused_alone(&mut self, id: EveCharacterId, refused: Option<Refusal>) -> Result<(), EsiError> {
        match self.classify(id, refused).await {
            Ok(Some(bad)) => self.result.bad.push((id, bad)),
            Ok(None) => {}
            Err(EsiError::Unavailable(_)) => self.result.missing.push(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is bad about an id; `None`: nothing, after all, and it is answered.
    async fn classify(&mut self, id: EveCharacterId, refused: Option<Refusal>) -> Result<Option<BadId>, EsiError> {
        let sheet = match self.esi.character(id, self.deadline).await {
            Ok(sheet) => sheet,
            Err(EsiError::NotFound) => return Ok(Some(BadId::NotFound)),
            Err(EsiError::Deleted) => return Ok(Some(BadId::Deleted)),
            Err(error) => return Err(error),
        };
        // If it was only inferred to be bad, it has to be asked now that it is known elsewhere.
        let refusal = match refused {
            Some(refusal) => refusal,
            None => match self.ask(&[id.0]).await? {
                Some(refusal) => refusal,
                None => return Ok(None),
            },
        };
        self.refute(&refusal).await?;
        let organisation = match sheet.corporation {
            CorporationId::DOOMHEIM => Organisation { corporation: CorporationId::DOOMHEIM, alliance: None },
            corporation => self.esi.organisation_of(corporation, self.deadline).await?.0,
        };
        Ok(Some(BadId::AffiliationRefuses(organisation)))
    }

    /// A character that the other route knows was refused while nothing of the batch is answered. `No characters
    /// found!` is what very old ones get on a good day, so it shows an outage only when a young one gets it, too; any
    /// other refusal does when it comes twice.
    async fn refute(&mut self, refusal: &Refusal) -> Result<(), EsiError> {
        if self.answered {
            return Ok(());
        }
        if is_for_the_old(refusal) {
            self.old += 1;
            if self.old < OLD_IS_SUSPECT || !self.refuses_the_youngest_too().await? {
                return Ok(());
            }
        } else {
            self.refuted += 1;
            if self.refuted < REFUTED_IS_OUTAGE {
                return Ok(());
            }
        }
        let reason = format!("affiliation answers {} for characters that exist", refusal.describe());
        Err(EsiError::Down { reason })
    }

    /// Whether the youngest id of the batch is refused as if it were very old. Asked once: anything else shows that the
    /// route tells ids apart. Its answer is taken when its turn comes.
    async fn refuses_the_youngest_too(&mut self) -> Result<bool, EsiError> {
        let Some(youngest) = self.youngest else { return Ok(false) };
        let answer = self.rows(&[youngest]).await?;
        self.youngest = None;
        Ok(matches!(answer, Err(refusal) if is_for_the_old(&refusal)))
    }

    /// Asks for a part; `Some` if it was refused for an id in it.
    async fn ask(&mut self, ids: &[i64]) -> Result<Option<Refusal>, EsiError> {
        match self.rows(ids).await? {
            Ok(rows) => {
                self.answered = true;
                self.take(ids, &rows);
                Ok(None)
            }
            Err(refusal) => Ok(Some(refusal)),
        }
    }

    /// The answer to a call; inside, the refusal for an id in it.
    async fn rows(&self, ids: &[i64]) -> Result<Result<Vec<AffiliationRow>, Refusal>, EsiError> {
        let body = id_list(ids);
        let request = Request { route: Route::Affiliation, path: "/characters/affiliation", body: Some(&body) };
        let parse = |body: &[u8]| serde_json::from_slice(body).ok();
        match self.esi.call(request, self.deadline, parse).await? {
            Reply::Answer(rows, _) => Ok(Ok(rows)),
            Reply::Refused(refusal) if refusal.is_route_wide() => {
                Err(EsiError::Down { reason: format!("affiliation answers {}", refusal.describe()) })
            }
            Reply::Refused(refusal) => Ok(Err(refusal)),
        }
    }

    /// Sorts the rows of an answer; `ids` ascend.
    fn take(&mut self, ids: &[i64], rows: &[AffiliationRow]) {
        let mut seen = vec![false; ids.len()];
        self.result.found.reserve(rows.len().min(ids.len()));
        for row in rows {
            let Id::Is(id) = row.character else { continue };
            let Ok(at) = ids.binary_search(&id) else { continue };
            let alliance = match row.alliance {
                Id::Is(alliance) => Some(AllianceId(alliance)),
                Id::Absent => None,
                Id::Invalid => continue,
            };
            let Id::Is(corporation) = row.corporation else { continue };
            if !std::mem::replace(&mut seen[at], true) {
                let organisation = Organisation { corporation: CorporationId(corporation), alliance };
                self.result.found.push((EveCharacterId(id), organisation));
            }
        }
        let missing = ids.iter().zip(seen).filter(|(_, seen)| !seen).map(|(id, _)| EveCharacterId(*id));
        self.result.missing.extend(missing);
    }
}

/// The words that very old characters are refused in.
fn is_for_the_old(refusal: &Refusal) -> bool {
    refusal.text.as_deref().is_some_and(|text| text.starts_with("No characters found"))
}
