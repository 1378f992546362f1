//! A request, read whole.

use std::collections::HashMap;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};

use crate::route::Route;

/// More than a full list of ids needs.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Ids ESI takes in one call.
const MAX_IDS: usize = 1000;

pub(crate) struct Call {
    pub(crate) route: Route,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The id in the path.
    pub(crate) path_id: Option<i64>,
    /// The ids in the body as they came, or why they are not acceptable. Empty on other routes.
    pub(crate) ids: Result<Vec<i64>, String>,
    /// Every id the request names, sorted, for faults that look for one.
    pub(crate) named: Vec<i64>,
    /// The form of an SSO request.
    pub(crate) form: HashMap<String, String>,
}

impl Call {
    /// Reads the body; one that does not arrive whole, or is too long, counts as empty.
    pub(crate) async fn read(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let (route, path_id) = Route::parse(&parts.method, &path);
        let mut named: Vec<i64> = path_id.into_iter().collect();
        let ids = match route {
            Route::Affiliation | Route::Names => read_ids(&parts.headers, &body, &mut named),
            _ => Ok(Vec::new()),
        };
        let form = match route {
            Route::Token | Route::Revoke => url::form_urlencoded::parse(&body).into_owned().collect(),
            _ => HashMap::new(),
        };
        Self { route, method: parts.method, path, headers: parts.headers, path_id, ids, named, form }
    }

    /// A header as text; absent and unreadable are one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn has_content_type(&self, wanted: &str) -> bool {
        has_content_type(&self.headers, wanted)
    }
}

fn read_ids(headers: &HeaderMap, body: &Bytes, sorted: &mut Vec<i64>) -> Result<Vec<i64>, String> {
    let ids: Vec<i64> =
        serde_json::from_slice(body).map_err(|_| "the body must be a JSON array of integers".to_owned())?;
    sorted.extend_from_slice(&ids);
    sorted.sort_unstable();
    if !has_content_type(headers, "application/json") {
        return Err("the body must be sent as application/json".to_owned());
    }
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(format!("between 1 and {MAX_IDS} ids are taken, these are {}", ids.len()));
    }
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("the ids must be unique".to_owned());
    }
    Ok(ids)
}

fn has_content_type(headers: &HeaderMap, wanted: &str) -> bool {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}
