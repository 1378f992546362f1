//! Whom to blame when events were not taken: the events, or the sink. One batch alone cannot tell, since it may hold a
//! single aggregate; so everything that was published at the same time is looked at together.

use std::time::Duration;

use crate::sink::{Fate, Published, Rejection, SinkError, Verdict};

/// So many aggregates must be refused, and nothing else happen, before the sink is blamed instead of their events.
const CROWD: usize = 3;
/// Longest pause that is kept where fewer than that are asked for one while others are taken: it may be meant for them alone.
const PAUSE_OF_A_FEW: Duration = Duration::from_secs(5);

/// Decides, for batches that were published beside each other: rejections that are the sink's become [`Fate::Left`], and
/// its trouble is told. `was_held` says of a batch and an event, by their places, whether the event was rejected before,
/// while the sink took others: such are no sign of an outage, however many they are. `is_known_alive`: the sink has just
/// taken others.
pub fn judge(published: &mut [Published], is_known_alive: bool, was_held: impl Fn(usize, usize) -> bool) {
    let is_alive = is_known_alive || shows_life(published);
    if published.iter().all(|batch| batch.trouble.is_none()) {
        let trouble = match limit(published) {
            None if !is_alive => outage(published, was_held),
            limit => limit,
        };
        let Some((place, error)) = trouble else { return };
        published[place].trouble = Some(error);
    }
    // A sink that was alive a moment ago and is in trouble now owes its silence to that.
    let is_spared = |rejection: &Rejection| match rejection.verdict {
        Verdict::ForGood => false,
        Verdict::Refused | Verdict::Gone | Verdict::Failed => !is_alive,
        Verdict::Limited | Verdict::Silent => true,
    };
    for fate in published.iter_mut().flat_map(|batch| &mut batch.fates) {
        if matches!(fate, Fate::Rejected(rejection) if is_spared(rejection)) {
            *fate = Fate::Left;
        }
    }
}

/// The sink took something, or said what it takes.
pub fn shows_life(published: &[Published]) -> bool {
    published.iter().flat_map(|batch| &batch.fates).any(|fate| match fate {
        Fate::Published => true,
        // A limit of the sink that one event exceeds says that the sink works.
        Fate::Rejected(rejection) => rejection.verdict == Verdict::ForGood,
        Fate::Left => false,
    })
}

/// The sink limits calls: all of them, or those of some aggregates, which no answer tells. So nobody is to blame. If it was all
/// and a few only met it, the next try takes nothing and hears the pause again.
fn limit(published: &[Published]) -> Option<(usize, SinkError)> {
    let mut limited = rejections(published);
    limited.retain(|(.., rejection)| rejection.verdict == Verdict::Limited);
    let &(batch, _, first) = limited.first()?;
    let mut retry_after = longest_pause(&limited);
    if limited.len() < CROWD && shows_life(published) {
        retry_after = retry_after.map(|pause| pause.min(PAUSE_OF_A_FEW));
    }
    Some((batch, SinkError::Unavailable { reason: first.reason.clone(), retry_after }))
}

/// Nothing was taken and nobody said why the sink as a whole would not: is it the sink all the same? There is at most one
/// rejection an aggregate.
fn outage(published: &[Published], was_held: impl Fn(usize, usize) -> bool) -> Option<(usize, SinkError)> {
    let mut rejections = rejections(published);
    if let Some((batch, _, rejection)) = rejections.iter().find(|(.., one)| one.verdict == Verdict::Silent) {
        return Some((*batch, SinkError::unavailable(&rejection.reason)));
    }
    rejections.retain(|&(batch, event, _)| !was_held(batch, event));
    if let Some((batch, _, rejection)) = rejections.iter().find(|(.., one)| one.verdict == Verdict::Gone) {
        return Some((*batch, gone(&rejection.reason)));
    }
    let is_ill = rejections.iter().any(|(.., rejection)| rejection.verdict == Verdict::Failed);
    let (batch, _, first) = rejections.first().filter(|_| is_ill || rejections.len() >= CROWD)?;
    let error = SinkError::Unavailable {
        reason: format!("{}, and nothing else was taken ({} aggregates tried)", first.reason, rejections.len()),
        retry_after: longest_pause(&rejections),
    };
    Some((*batch, error))
}

/// It is gone for everybody.
pub(crate) fn gone(reason: &str) -> SinkError {
    SinkError::Refused(format!("{reason}: it is gone for good; change WEBHOOK_URL or the sink"))
}

/// All rejections, each with the places of its batch and of its event.
fn rejections(published: &[Published]) -> Vec<(usize, usize, &Rejection)> {
    let mut rejections = Vec::new();
    for (batch, answer) in published.iter().enumerate() {
        for (event, fate) in answer.fates.iter().enumerate() {
            if let Fate::Rejected(rejection) = fate {
                rejections.push((batch, event, rejection));
            }
        }
    }
    rejections
}

fn longest_pause(rejections: &[(usize, usize, &Rejection)]) -> Option<Duration> {
    rejections.iter().filter_map(|(.., rejection)| rejection.retry_after).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(verdict: Verdict) -> Fate {
        let retry_after = (verdict == Verdict::Limited).then_some(ASKED);
        Fate::Rejected(Rejection { reason: "no".to_owned(), verdict, retry_after })
    }

    /// What somebody who hears of a limit is asked for.
    const ASKED: Duration = Duration::from_mins(2);

    /// One batch for each word: p published, r refused, g gone, l limited, f failed, s silent, - left, ! in trouble.
    fn batches(words: &str) -> Vec<Published> {
        let batch = |word: &str| Published {
            fates: word
                .chars()
                .filter(|letter| *letter != '!')
                .map(|letter| match letter {
                    'p' => Fate::Published,
                    'r' => rejection(Verdict::Refused),
                    'g' => rejection(Verdict::Gone),
                    'l' => rejection(Verdict::Limited),
                    'f' => rejection(Verdict::Failed),
                    's' => rejection(Verdict::Silent),
                    _ => Fate::Left,
                })
                .collect(),
            last_number: None,
            trouble: word.contains('!').then(|| SinkError::unavailable("gone")),
        };
        words.split(' ').map(batch).collect()
    }

    fn judged(words: &str, was_held: impl Fn(usize, usize) -> bool) -> (String, bool) {
        let mut all = batches(words);
        judge(&mut all, false, was_held);
        let letter = |fate: &Fate| match fate {
            Fate::Published => 'p',
            Fate::Rejected(_) => 'r',
            Fate::Left => '-',
        };
        let told: Vec<String> = all.iter().map(|batch| batch.fates.iter().map(letter).collect()).collect();
        (told.join(" "), all.iter().any(|batch| batch.trouble.is_some()))
    }

    #[test]
    fn batches_are_judged_together() {
        let fresh = |_, _| false;
        for (words, expected, is_outage) in [
            ("r r r", "- - -", true),
            ("r r", "r r", false),
            ("r r r p", "r r r p", false),
            // One silence alone is the event's as long as others are answered, and the sink's otherwise.
            ("s p", "r p", false),
            ("s r", "- -", true),
            // A failure is the sink's until it takes something.
            ("f", "-", true),
            ("f r", "- -", true),
            ("f p", "r p", false),
            // Gone for this one, or for all.
            ("g p", "r p", false),
            ("gg p", "rr p", false),
            ("g r", "- -", true),
            ("g !", "- ", true),
            // Of a limit nobody knows whom it is for.
            ("l", "-", true),
            ("lr p", "-r p", true),
            ("l r", "- -", true),
            ("l p!", "- p", true),
            // Cut off in the middle.
            ("ps pr p!", "p- pr p", true),
            ("r !", "- ", true),
        ] {
            assert_eq!(judged(words, fresh), (expected.to_owned(), is_outage), "{words}");
        }
    }

    #[test]
    fn those_that_were_rejected_before_are_no_crowd() {
        assert_eq!(judged("r r rr", |_, _| true), ("r r rr".to_owned(), false));
        assert_eq!(judged("rrr rr", |batch, _| batch == 1), ("--- --".to_owned(), true));
        assert_eq!(judged("f", |_, _| true), ("r".to_owned(), false));
        assert_eq!(judged("g", |_, _| true), ("r".to_owned(), false));
        assert_eq!(judged("f f", |batch, _| batch == 1), ("- -".to_owned(), true));
    }

    #[test]
    fn an_endpoint_that_is_gone_for_everybody_is_for_a_person() {
        let mut all = batches("fr g");
        judge(&mut all, false, |_, _| false);
        let troubles: Vec<SinkError> = all.into_iter().filter_map(|batch| batch.trouble).collect();
        assert_eq!(troubles, [gone("no")]);
        assert!(matches!(gone("no"), SinkError::Refused(_)));
    }

    #[test]
    fn the_pause_of_a_limit_is_kept_in_full_unless_a_few_hear_it_while_others_are_taken() {
        let trouble = |words: &str, is_known_alive| {
            let mut all = batches(words);
            judge(&mut all, is_known_alive, |_, _| true);
            all.into_iter().find_map(|batch| batch.trouble)
        };
        let limited = |pause| Some(SinkError::Unavailable { reason: "no".to_owned(), retry_after: Some(pause) });
        for words in ["l p", "pl", "rl l p"] {
            assert_eq!(trouble(words, false), limited(PAUSE_OF_A_FEW), "{words}");
        }
        for words in ["l", "l l", "l ll p", "r l", "f l", "g l", "s l"] {
            assert_eq!(trouble(words, false), limited(ASKED), "{words}");
        }
        assert_eq!(trouble("l", true), limited(ASKED), "others were taken, but not beside it");
    }

    #[test]
    fn a_sink_that_has_just_taken_others_is_not_to_blame() {
        let mut all = batches("f s");
        judge(&mut all, true, |_, _| false);
        let is_rejected = |batch: &Published| matches!(batch.fates[..], [Fate::Rejected(_)]);
        assert!(all.iter().all(|batch| is_rejected(batch) && batch.trouble.is_none()));
    }
}
