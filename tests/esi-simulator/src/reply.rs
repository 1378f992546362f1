//! An answer before it goes out, and the ones that need no world.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// It comes from a box in front of ESI, which knows nothing of ESI's headers.
    pub(crate) foreign: bool,
    /// It does not reach the client whole, who may therefore ask again at once.
    pub(crate) damaged: bool,
}

impl Reply {
    pub(crate) fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body, headers: Vec::new(), foreign: false, damaged: false }
    }

    pub(crate) fn value(status: u16, body: &Value) -> Self {
        Self::json(status, body.to_string())
    }

    pub(crate) fn error(status: u16, text: &str) -> Self {
        Self::value(status, &json!({ "error": text }))
    }

    pub(crate) fn oauth_error(status: u16, code: &str, text: &str) -> Self {
        Self::value(status, &json!({ "error": code, "error_description": text }))
    }

    pub(crate) fn plain(status: u16, text: &str) -> Self {
        Self { content_type: "text/plain; charset=utf-8", ..Self::json(status, text.to_owned()) }
    }

    pub(crate) fn bad_gateway() -> Self {
        let body = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
        Self { content_type: "text/html", foreign: true, ..Self::json(502, body.to_owned()) }
    }

    pub(crate) fn unavailable() -> Self {
        Self::error(503, "The datasource tranquility is temporarily unavailable")
    }

    pub(crate) fn gateway_timeout() -> Self {
        Self::value(504, &json!({ "error": "Timeout contacting tranquility", "timeout": 10 }))
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static(self.content_type));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
