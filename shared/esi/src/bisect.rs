//! Which part of a refused batch to ask next.

/// A part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Its ids; never empty.
    pub(crate) ids: &'a [i64],
    /// It must hold a bad id, since the whole did and its left sibling is clean: asking it would only spend an error.
    pub(crate) surely_bad: bool,
    left: bool,
}

/// The parts still to be asked, one after the other, from the left.
#[derive(Debug)]
pub(crate) struct Parts<'a>(Vec<Part<'a>>);

impl<'a> Parts<'a> {
    /// The whole, in pieces of at most `size`.
    pub(crate) fn of(ids: &'a [i64], size: usize) -> Self {
        Self(ids.chunks(size).rev().map(|ids| Part { ids, surely_bad: false, left: false }).collect())
    }

    /// The next part.
    pub(crate) fn next(&mut self) -> Option<Part<'a>> {
        self.0.pop()
    }

    /// `part` was answered.
    pub(crate) fn clean(&mut self, part: Part<'a>) {
        if part.left
            && let Some(sibling) = self.0.last_mut()
        {
            sibling.surely_bad = true;
        }
    }

    /// `part`, of more than one id, was refused: its halves are next.
    pub(crate) fn split(&mut self, part: Part<'a>) {
        let (left, right) = part.ids.split_at(part.ids.len() / 2);
        self.0.push(Part { ids: right, surely_bad: false, left: false });
        self.0.push(Part { ids: left, surely_bad: false, left: true });
    }

    /// Everything that was not asked.
    pub(crate) fn rest(self) -> impl Iterator<Item = i64> {
        self.0.into_iter().rev().flat_map(|part| part.ids.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refused calls, and the bad ids found.
    fn hunt(ids: &[i64], bad: &[i64]) -> (usize, Vec<i64>) {
        let (mut refused, mut found, mut clean) = (0, Vec::new(), 0);
        let mut parts = Parts::of(ids, 1000);
        while let Some(part) = parts.next() {
            let holds_bad = part.ids.iter().any(|id| bad.contains(id));
            assert!(holds_bad || !part.surely_bad);
            if !part.surely_bad {
                refused += usize::from(holds_bad);
            }
            match (holds_bad, part.ids) {
                (false, ids) => {
                    clean += ids.len();
                    parts.clean(part);
                }
                (true, [id]) => found.push(*id),
                (true, _) => parts.split(part),
            }
        }
        assert_eq!(clean + found.len(), ids.len());
        (refused, found)
    }

    #[test]
    fn one_bad_id_in_a_thousand_costs_eleven_refusals_at_most() {
        let ids: Vec<i64> = (0..1000).collect();
        for bad in 0..1000 {
            let (refused, found) = hunt(&ids, &[bad]);
            assert_eq!(found, [bad]);
            assert!(refused <= 11, "{refused} for {bad}");
        }
    }

    #[test]
    fn several_bad_ids_are_all_found() {
        let ids: Vec<i64> = (0..2500).collect();
        let bad: Vec<i64> = (0..12).map(|i| i * 200 + 7).collect();
        assert_eq!(hunt(&ids, &bad).1, bad);
        assert_eq!(hunt(&[5], &[5]), (1, vec![5]));
        assert_eq!(hunt(&[], &[]), (0, vec![]));
    }

    #[test]
    fn the_rest_is_what_was_not_asked() {
        let mut parts = Parts::of(&[1, 2, 3, 4, 5], 4);
        let part = parts.next().unwrap();
        parts.split(part);
        assert_eq!(parts.next().unwrap().ids, [1, 2]);
        assert_eq!(parts.rest().collect::<Vec<_>>(), [3, 4, 5]);
    }
}
