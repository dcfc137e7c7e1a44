//! Asking for the secret: a person by a page, a program by words.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use crate::page;
use crate::pages::assets;
use crate::texts::Texts;

/// `next` is the page that was asked for.
pub(super) fn unauthorized(parts: &Parts, next: &str) -> Response {
    unless_right(parts, None, next)
}

pub(super) fn wrong(parts: &Parts, next: &str) -> Response {
    unless_right(parts, Some(page::texts(&parts.headers).wrong_secret), next)
}

/// Nothing was compared.
pub(super) fn too_often(parts: &Parts, wait: Duration, next: &str) -> Response {
    let texts = page::texts(&parts.headers);
    let mut response = if wants_page(parts) {
        ask(parts, texts, Some(texts.too_often), next).into_response()
    } else {
        "Too many wrong tokens or passwords came from this address.\n".into_response()
    };
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    response
}

fn unless_right(parts: &Parts, problem: Option<&str>, next: &str) -> Response {
    let mut response = if wants_page(parts) {
        ask(parts, page::texts(&parts.headers), problem, next).into_response()
    } else {
        "The admin wants its token: send it as `Authorization: Bearer ...`, or open the address that it printed.\n"
            .into_response()
    };
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn wants_page(parts: &Parts) -> bool {
    let accepts = parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

fn ask(parts: &Parts, texts: &Texts, problem: Option<&str>, next: &str) -> Html<String> {
    let root = page::root_of(parts);
    let page: Markup = html! {
        (DOCTYPE)
        html lang=(texts.code) data-theme="auto" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (texts.sign_in) " · taskmq" }
                link rel="icon" href=(format!("{root}assets/icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(format!("{root}{}", assets::style()));
            }
            body.sign-in {
                main {
                    h1 {
                        img src=(format!("{root}assets/icon.svg")) alt="" width="32" height="32";
                        "taskmq"
                    }
                    form method="post" action=(format!("{root}sign-in")) {
                        @if let Some(problem) = problem { p.notice.bad role="alert" { (problem) } }
                        input type="hidden" name="next" value=(next);
                        label for="secret" { (texts.secret) }
                        input #secret type="password" name="secret" required autofocus autocomplete="current-password";
                        button.primary { (texts.sign_in) }
                    }
                    p.muted { (texts.where_secret) }
                }
            }
        }
    };
    Html(page.into_string())
}
