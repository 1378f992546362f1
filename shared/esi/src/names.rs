//! Names for ids, as far as they can be had cheaply: for people to read, never to decide by.

use std::collections::HashMap;

use crate::{
    bisect::Parts,
    call::{Reply, Request},
    client::Esi,
    counts::Route,
    settings::{Deadline, MAX_IDS},
    wire::{NameRow, id_list},
};

/// Refused calls after which the rest stays nameless: a name is not worth the error budget.
const MAX_REFUSED: usize = 12;

impl Esi {
    /// Names of characters, corporations and alliances; what cannot be resolved, or not before the deadline, is absent.
    /// `ids` are unique and at most [`MAX_IDS`] (more are asked in several calls, duplicates once).
    pub async fn names(&self, ids: &[i64], deadline: Deadline) -> HashMap<i64, String> {
        let mut asked = ids.to_vec();
        asked.sort_unstable();
        asked.dedup();
        let mut names = HashMap::with_capacity(asked.len());
        let mut refused = 0;
        let mut parts = Parts::of(&asked, MAX_IDS);
        while let Some(part) = parts.next() {
            if part.surely_bad {
                if part.ids.len() > 1 {
                    parts.split(part);
                }
                continue;
            }
            let body = id_list(part.ids);
            let request = Request { route: Route::Names, path: "/universe/names", body: Some(&body) };
            let parse = |body: &[u8]| serde_json::from_slice::<Vec<NameRow>>(body).ok();
            match self.call(request, deadline, parse).await {
                Ok(Reply::Answer(rows, _)) => {
                    names.extend(rows.into_iter().map(|row| (row.id, row.name)));
                    parts.clean(part);
                }
                Ok(Reply::Refused(refusal)) => {
                    refused += 1;
                    if refused >= MAX_REFUSED || refusal.is_route_wide() {
                        break;
                    }
                    if part.ids.len() > 1 {
                        parts.split(part);
                    }
                }
                Err(_) => break,
            }
        }
        names.retain(|id, _| asked.binary_search(id).is_ok());
        names
    }
}
