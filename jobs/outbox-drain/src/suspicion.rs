//! Aggregates over whose events the sink failed while it took nothing: are they poison, or is the sink ill?
//!
//! It is taken for an outage first, since that burns nobody's attempts. But an event that comes first in every pass and
//! makes the sink fail would then hold back everybody. So the next pass leaves the suspects out. If the sink takes others
//! meanwhile, the pass behind it tries the suspects again, and what fails then is the event's own fault.

use std::collections::HashSet;

/// What is suspected, from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    /// Of the present pass.
    stage: Stage,
    /// New ones.
    culprits: HashSet<u64>,
}

#[derive(Debug, Default)]
enum Stage {
    /// None.
    #[default]
    Calm,
    /// These aggregates are left out.
    LeaveOut(HashSet<u64>),
    /// The sink has just taken others than these.
    Try {
        suspects: HashSet<u64>,
        /// Some have failed since.
        is_used: bool,
    },
}

impl Suspicion {
    /// Whether the aggregate is left out of this pass.
    pub(crate) fn leaves_out(&self, key: u64) -> bool {
        matches!(&self.stage, Stage::LeaveOut(suspects) if suspects.contains(&key))
    }

    /// Whether the sink has just shown that it works, as far as the aggregates are concerned over which it failed on a page: a
    /// failure over anybody but the suspects may be an outage that begins, and so may be that of a second page unless the sink
    /// `took` something in the present pass.
    pub(crate) fn knows_life(&mut self, failed: &[u64], took: bool) -> bool {
        let Stage::Try { suspects, is_used } = &mut self.stage else { return false };
        let is_fresh = took || !*is_used;
        *is_used |= !failed.is_empty();
        is_fresh && failed.iter().all(|key| suspects.contains(key))
    }

    /// The sink failed over this aggregate and took nothing.
    pub(crate) fn suspect(&mut self, key: u64) {
        self.culprits.insert(key);
    }

    /// A pass is over; `took`: the sink has taken something in it.
    pub(crate) fn pass_ended(&mut self, took: bool) {
        let culprits = std::mem::take(&mut self.culprits);
        self.stage = match std::mem::take(&mut self.stage) {
            // There may be more of them than a pass tries: those of before are not tried again until others were.
            Stage::LeaveOut(suspects) if !culprits.is_empty() => Stage::LeaveOut(&suspects | &culprits),
            _ if !culprits.is_empty() => Stage::LeaveOut(culprits),
            Stage::LeaveOut(suspects) if took => Stage::Try { suspects, is_used: false },
            _ => Stage::Calm,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_are_left_out_once_and_blamed_when_others_are_taken() {
        let mut suspicion = Suspicion::default();
        suspicion.suspect(7);
        assert!(!suspicion.leaves_out(7), "not in the pass in which it failed");
        suspicion.pass_ended(false);
        assert!(suspicion.leaves_out(7) && !suspicion.leaves_out(8) && !suspicion.knows_life(&[7], false));
        suspicion.pass_ended(true);
        assert!(!suspicion.leaves_out(7) && suspicion.knows_life(&[7], false));
        assert!(!suspicion.knows_life(&[7], false), "the second page may meet an outage that begins");
        assert!(suspicion.knows_life(&[7], true), "unless the sink has just taken something");
        assert!(!suspicion.knows_life(&[7, 8], true), "another one fails, too");
        suspicion.pass_ended(true);
        assert!(!suspicion.knows_life(&[7], true));
    }

    #[test]
    fn suspects_gather_until_others_are_reached() {
        let mut suspicion = Suspicion::default();
        suspicion.suspect(7);
        suspicion.pass_ended(false);
        suspicion.suspect(8);
        suspicion.pass_ended(false);
        assert!(suspicion.leaves_out(7) && suspicion.leaves_out(8) && !suspicion.leaves_out(9));
        suspicion.pass_ended(true);
        assert!(suspicion.knows_life(&[7, 8], false));
    }

    #[test]
    fn where_nobody_else_is_taken_it_is_an_outage_again() {
        let mut suspicion = Suspicion::default();
        suspicion.suspect(7);
        suspicion.pass_ended(false);
        suspicion.pass_ended(false);
        assert!(!suspicion.leaves_out(7) && !suspicion.knows_life(&[7], false));
    }
}
