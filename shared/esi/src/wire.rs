//! ESI's JSON, read tolerantly: fields may be added at any time, and one odd row must not spoil a thousand.

use std::fmt::{self, Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A row of affiliation.
#[derive(Debug, Deserialize)]
pub(crate) struct AffiliationRow {
    #[serde(rename = "character_id", default)]
    pub(crate) character: Id,
    #[serde(rename = "corporation_id", default)]
    pub(crate) corporation: Id,
    #[serde(rename = "alliance_id", default)]
    pub(crate) alliance: Id,
}

/// A row of names.
#[derive(Debug, Deserialize)]
pub(crate) struct NameRow {
    pub(crate) id: i64,
    pub(crate) name: String,
}

/// An id in a row: absent means none, which is not the same as unreadable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Id {
    #[default]
    Absent,
    Is(i64),
    Invalid,
}

impl From<i64> for Id {
    fn from(id: i64) -> Self {
        if id > 0 { Self::Is(id) } else { Self::Invalid }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_i64<E>(self, id: i64) -> Result<Id, E> {
        Ok(Id::from(id))
    }

    fn visit_u64<E>(self, id: u64) -> Result<Id, E> {
        i64::try_from(id).map_or(Ok(Id::Invalid), |id| Ok(Id::from(id)))
    }

    fn visit_unit<E>(self) -> Result<Id, E> {
        Ok(Id::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Id, E> {
        Ok(Id::Invalid)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Id, E> {
        Ok(Id::Invalid)
    }

    fn visit_str<E>(self, _: &str) -> Result<Id, E> {
        Ok(Id::Invalid)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Id, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Id::Invalid)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Id, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Id::Invalid)
    }
}

/// An id that must be there and make sense, for answers about one thing: `#[serde(deserialize_with)]`.
pub(crate) fn positive<'de, D: Deserializer<'de>, T: From<PositiveId>>(deserializer: D) -> Result<T, D::Error> {
    match Id::deserialize(deserializer)? {
        Id::Is(id) => Ok(PositiveId(id).into()),
        Id::Absent | Id::Invalid => Err(D::Error::custom("no usable id")),
    }
}

/// An id that may be absent or null, but not nonsense.
pub(crate) fn positive_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<PositiveId>,
{
    match Id::deserialize(deserializer)? {
        Id::Is(id) => Ok(Some(PositiveId(id).into())),
        Id::Absent => Ok(None),
        Id::Invalid => Err(D::Error::custom("no usable id")),
    }
}

/// An id above zero.
pub(crate) struct PositiveId(i64);

impl From<PositiveId> for identity::ids::CorporationId {
    fn from(PositiveId(id): PositiveId) -> Self {
        Self(id)
    }
}

impl From<PositiveId> for identity::ids::AllianceId {
    fn from(PositiveId(id): PositiveId) -> Self {
        Self(id)
    }
}

/// `[1,2,3]`
pub(crate) fn id_list(ids: &[i64]) -> String {
    let mut body = String::with_capacity(ids.len() * 11 + 2);
    body.push('[');
    for id in ids {
        let comma = if body.len() > 1 { "," } else { "" };
        // Writing to a String does not fail.
        let _ = write!(body, "{comma}{id}");
    }
    body.push(']');
    body
}

/// The text of `{"error": …}`, if the body is that.
pub(crate) fn error_text(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| crate::error::excerpt(&body.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_row_is_read_as_odd_and_spoils_no_other() {
        let text = r#"[{"character_id":1,"corporation_id":2,"alliance_id":null,"faction_id":5,"new":{"a":[1]}},
            {"character_id":"1","corporation_id":0},{"corporation_id":-3,"alliance_id":[1,{"a":2}]},
            {"character_id":{"a":1},"corporation_id":1.5,"alliance_id":true},{"character_id":18446744073709551615}]"#;
        let rows: Vec<AffiliationRow> = serde_json::from_str(text).unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.character, row.corporation, row.alliance)).collect();
        assert_eq!(
            rows,
            [
                (Id::Is(1), Id::Is(2), Id::Absent),
                (Id::Invalid, Id::Invalid, Id::Absent),
                (Id::Absent, Id::Invalid, Id::Invalid),
                (Id::Invalid, Id::Invalid, Id::Invalid),
                (Id::Invalid, Id::Absent, Id::Absent),
            ]
        );
    }

    #[test]
    fn a_list_of_ids_is_json() {
        assert_eq!(id_list(&[1, 20, 300]), "[1,20,300]");
        assert_eq!(id_list(&[]), "[]");
    }

    #[test]
    fn an_error_text_is_taken_from_json_alone() {
        assert_eq!(error_text(br#"{"error":"Not found","x":1}"#).as_deref(), Some("Not found"));
        assert_eq!(error_text(b"<html>"), None);
        assert_eq!(error_text(br#"{"error":{}}"#), None);
    }
}
