//! What a batch writes: from judged rows to findings, time stamps and candidates. No I/O.

use std::collections::HashSet;

use identity::{
    approval::{Organisation, Rule},
    verdict::Verdict,
};
use job::Delta;
use metrics::verifier as metric;
use store::{candidates::Candidate, eve_characters::Finding, sweep::Due};
use time::OffsetDateTime;
use tracing::info;

use crate::decide::{self, Judgement, Reason};

/// A judged character.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) due: Due,
    pub(crate) judgement: Judgement,
    /// Names of a new organisation, where they could be had.
    pub(crate) corporation_name: Option<String>,
    pub(crate) alliance_name: Option<String>,
    /// It was asked by itself, since the bulk call refuses it: no second source could say anything else.
    pub(crate) single_source: bool,
    /// The verdict may cost a session (`None`: it may not); whether one lives.
    pub(crate) at_stake: Option<bool>,
}

/// What a batch writes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) unchanged: Vec<i64>,
    pub(crate) attempted: Vec<i64>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) candidates: Vec<Candidate>,
    /// Not at stake: candidates of earlier runs among these are none any more.
    pub(crate) cleared: Vec<i64>,
    pub(crate) unknown: Vec<Reason>,
    bad: u64,
    verdicts: u64,
}

impl Plan {
    /// Adds one row; `kept`: it is a candidate of an earlier run, which may still owe the mark.
    pub(crate) fn add(&mut self, row: &Row, observed_at: OffsetDateTime, kept: bool) {
        let due = &row.due;
        match row.judgement {
            Judgement::Bad => {
                self.bad += 1;
                self.attempted.push(due.eve_id.0);
                self.cleared.push(due.eve_id.0);
            }
            Judgement::Unknown { reason, last_known } => {
                self.unknown.push(reason);
                if reason == Reason::NoAuthConfig {
                    self.cleared.push(due.eve_id.0);
                }
                match last_known {
                    Some(rule) if due.stands.is_some_and(|(_, stands)| stands != rule) => {
                        self.findings.push(finding(row, rule, due.known, false));
                    }
                    _ => self.attempted.push(due.eve_id.0),
                }
            }
            Judgement::Verdict { rule, organisation } => {
                self.verdicts += 1;
                let verdict = Verdict::of(rule);
                let new = kept || due.stands.is_none_or(|(stands, _)| stands != verdict);
                let live = row.at_stake == Some(true);
                if live || (row.at_stake.is_some() && new) {
                    self.candidates.push(Candidate {
                        eve_id: due.eve_id,
                        character_id: due.character_id,
                        account_id: due.account_id,
                        brand_id: due.brand_id,
                        live,
                        rule,
                        organisation,
                        confirmed: rule == Rule::OwnerChanged,
                        single_source: row.single_source,
                        observed_at,
                    });
                } else {
                    self.cleared.push(due.eve_id.0);
                }
                if due.known != organisation || due.stands != Some((verdict, rule)) {
                    self.findings.push(finding(row, rule, organisation, !live));
                } else if live {
                    // Stays due until its session is taken.
                    self.attempted.push(due.eve_id.0);
                } else {
                    self.unchanged.push(due.eve_id.0);
                }
            }
        }
    }

    /// Forgets the findings that a login has overtaken, and the candidates that came of them.
    pub(crate) fn keep_written(&mut self, written: &[i64]) {
        let written: HashSet<i64> = written.iter().copied().collect();
        let overtaken: HashSet<i64> =
            self.findings.iter().map(|f| f.eve_id.0).filter(|id| !written.contains(id)).collect();
        self.findings.retain(|f| !overtaken.contains(&f.eve_id.0));
        self.candidates.retain(|c| !overtaken.contains(&c.eve_id.0));
    }

    /// Adds to the counters.
    pub(crate) fn count(&self, delta: &mut Delta) {
        delta.scanned += self.verdicts + self.bad + self.unknown.len() as u64;
        delta.failed += self.bad;
        delta.skipped += self.unknown.len() as u64;
        delta.add(&metric::VERIFIED, &["success"], self.verdicts);
        delta.add(&metric::VERIFIED, &["failed"], self.bad);
        delta.add(&metric::VERIFIED, &["skipped"], self.unknown.len() as u64);
        for reason in &self.unknown {
            delta.add(&metric::UNKNOWN, &[reason.as_str()], 1);
        }
        for finding in &self.findings {
            if finding.known != finding.organisation {
                delta.changed += 1;
            }
            if let Some(kind) = decide::change(finding.known, finding.organisation) {
                delta.add(&metric::ORG_CHANGES, &[kind], 1);
                delta.detail("organisation_changes", 1);
            }
        }
    }

    /// A line for each change somebody may ask about.
    pub(crate) fn tell(&self) {
        for finding in &self.findings {
            if let (Some(change), Some(from), Some(to)) =
                (decide::change(finding.known, finding.organisation), finding.known, finding.organisation)
            {
                info!(
                    eve_id = %finding.eve_id, change, %from, %to, rule = %finding.rule,
                    "organisation changed"
                );
            }
        }
    }
}

fn finding(row: &Row, rule: Rule, organisation: Option<Organisation>, verified: bool) -> Finding {
    Finding {
        eve_id: row.due.eve_id,
        known: row.due.known,
        stood: row.due.stands.map(|(_, rule)| rule),
        organisation,
        corporation_name: row.corporation_name.clone(),
        alliance_name: row.alliance_name.clone(),
        rule,
        verified,
    }
}
