//! Who asks for a page, and how they want to see it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use maud::Markup;

use crate::Actor;
use crate::access::SignedIn;
use crate::admin::Shared;
use crate::fields::{Fields, query};
use crate::problem::Problem;
use crate::texts::{CHINESE, ENGLISH, Texts};

/// Where nothing else was asked for.
pub(crate) const FIRST: &str = "overview";
/// In the address that a change leads to.
const TOLD: &str = "told";
pub(crate) const THEME: &str = "taskmq_theme";
pub(crate) const LANGUAGE: &str = "taskmq_language";

/// The colours that were chosen; the browser's own wish where none were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(crate) const ALL: [Theme; 3] = [Theme::Auto, Theme::Light, Theme::Dark];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
}

/// One request for a page.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) shared: Arc<Shared>,
    pub(crate) texts: &'static Texts,
    pub(crate) theme: Theme,
    pub(crate) actor: Actor,
    /// By a session that can be ended.
    pub(crate) signed_in: bool,
    /// From this page to where the admin is mounted: every link begins with it.
    pub(crate) root: String,
    /// From there to this page.
    pub(crate) here: String,
    /// What was just done, and led here.
    pub(crate) told: Option<&'static str>,
}

impl FromRequestParts<Arc<Shared>> for Page {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Self::Rejection> {
        let Ok(fields) = Fields::from_request_parts(parts, shared).await;
        let theme = cookie(&parts.headers, THEME);
        let texts = texts(&parts.headers);
        Ok(Self {
            shared: Arc::clone(shared),
            texts,
            theme: Theme::ALL.into_iter().find(|t| Some(t.as_str()) == theme).unwrap_or(Theme::Auto),
            actor: parts.extensions.get::<Actor>().cloned().unwrap_or_default(),
            signed_in: parts.extensions.get::<SignedIn>().is_some(),
            root: root_of(parts),
            here: here(parts.uri.path(), parts.uri.query()),
            told: fields.get(TOLD).and_then(|done| texts.told(done)),
        })
    }
}

impl Page {
    /// A link to another page.
    pub(crate) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// Sends the browser there.
    pub(crate) fn redirect(&self, path: &str) -> Response {
        (StatusCode::SEE_OTHER, [(LOCATION, self.to(path))]).into_response()
    }

    /// Sends the browser there after a change, which that page then tells of.
    pub(crate) fn done(&self, done: &str, path: &str) -> Response {
        let told = query(&[(TOLD, done)]);
        let told = if path.contains('?') { told.replacen('?', "&", 1) } else { told };
        self.redirect(&format!("{path}{told}"))
    }

    /// The whole page, or why there is none.
    pub(crate) fn answer(&self, title: &str, body: Result<Markup, Problem>) -> Response {
        match body {
            Ok(body) => Html(self.layout(title, &body).into_string()).into_response(),
            Err(problem) => {
                let page = self.layout(self.texts.problem, &self.problem(&problem));
                (problem.status(), Html(page.into_string())).into_response()
            }
        }
    }
}

/// From the page of this request to where the admin is mounted.
pub(crate) fn root_of(parts: &Parts) -> String {
    root(parts.uri.path(), original(parts).path())
}

/// What was asked for before a host's router took its prefix away.
pub(crate) fn original(parts: &Parts) -> &Uri {
    parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0)
}

/// From where the admin is mounted to this page. The first one has a name, for nested at /admin it is not at /admin/.
pub(crate) fn here(inner: &str, query: Option<&str>) -> String {
    let path = match inner.trim_start_matches('/') {
        "" => FIRST,
        path => path,
    };
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// Relative, so that it holds behind whatever prefix a proxy or the host's router takes away.
fn root(inner: &str, original: &str) -> String {
    let depth = inner.trim_start_matches('/').matches('/').count();
    if depth > 0 {
        return "../".repeat(depth);
    }
    // Nested at /admin, the first page is /admin itself: from there its own name leads down.
    match original.rsplit('/').next() {
        Some(name) if inner.trim_start_matches('/').is_empty() && !name.is_empty() => format!("{name}/"),
        _ => "./".to_owned(),
    }
}

pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

pub(crate) fn texts(headers: &HeaderMap) -> &'static Texts {
    match cookie(headers, LANGUAGE) {
        Some("zh") => return &CHINESE,
        Some("en") => return &ENGLISH,
        _ => {}
    }
    let wanted = headers.get(ACCEPT_LANGUAGE).and_then(|wanted| wanted.to_str().ok()).unwrap_or_default();
    let mut best: (f32, &'static Texts) = (0.0, &ENGLISH);
    for part in wanted.split(',') {
        let (language, weight) = part.split_once(";q=").unwrap_or((part, "1"));
        let weight: f32 = weight.trim().parse().unwrap_or(0.0);
        let texts = match language.trim().split('-').next() {
            Some("zh") => &CHINESE,
            Some("en") => &ENGLISH,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, texts);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_where_it_is_mounted() {
        for (inner, original, expected) in [
            ("/", "/", "./"),
            ("/", "/admin", "admin/"),
            ("/", "/deep/admin/", "./"),
            ("/messages", "/admin/messages", "./"),
            ("/messages/5", "/admin/messages/5", "../"),
            ("/changes/5/stop", "/changes/5/stop", "../../"),
        ] {
            assert_eq!(root(inner, original), expected, "{inner} {original}");
        }
    }

    #[test]
    fn every_page_has_a_name_to_come_back_to() {
        assert_eq!(here("/", None), "overview");
        assert_eq!(here("/", Some("topics=a")), "overview?topics=a");
        assert_eq!(here("/topic", Some("name=a%2Fb")), "topic?name=a%2Fb");
        assert_eq!(here("//evil.test", None), "evil.test");
    }

    #[test]
    fn the_language_is_the_browsers_unless_one_was_chosen() {
        let code = |accept: &str, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, accept.parse().expect("a header"));
            headers.insert(COOKIE, cookie.parse().expect("a header"));
            texts(&headers).code
        };
        assert_eq!(code("fr, zh-CN;q=0.8, en;q=0.5", "a=b"), "zh-CN");
        assert_eq!(code("en-GB,zh;q=0.9", ""), "en");
        assert_eq!(code("zh", "x=y; taskmq_language=en"), "en");
        assert_eq!(code("fr", ""), "en");
    }
}
