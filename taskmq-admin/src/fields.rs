//! What a form or a query string says.

use axum::extract::{Form, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::response::Response;
use chrono::{DateTime, NaiveDateTime, Utc};
use taskmq_core::broker::Span;

/// Names and values; a field that is empty was not given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// Nothing has a NUL in it, and PostgreSQL takes no text with one.
    fn received(mut fields: Vec<(String, String)>) -> Self {
        fields.iter_mut().for_each(|(_, value)| *value = value.replace('\0', "\u{fffd}"));
        Self(fields)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(key, value)| key == name && !value.trim().is_empty());
        named.map(|(_, value)| value.trim())
    }

    /// As it was sent: a name may begin or end with a space.
    pub(crate) fn exact(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// A time as a browser sends it, in UTC.
    ///
    /// # Errors
    /// What is none.
    pub(crate) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, &str> {
        let Some(given) = self.get(name) else { return Ok(None) };
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
        let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(given, form).ok());
        let all = Span::everything(1);
        let time = time.map(|time| time.and_utc()).filter(|time| (all.from.at..=all.to.at).contains(time));
        time.map(Some).ok_or(given)
    }

    pub(crate) fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }
}

/// What cannot be read says nothing.
impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        Ok(query.map(|Query(fields)| Self::received(fields)).unwrap_or_default())
    }
}

/// A posted form.
#[derive(Debug)]
pub(crate) struct Posted(pub(crate) Fields);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        use axum::response::IntoResponse;
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        form.map(|Form(fields)| Self(Fields::received(fields))).map_err(IntoResponse::into_response)
    }
}

/// A query string of those that are given, with its question mark.
pub(crate) fn query(fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}
