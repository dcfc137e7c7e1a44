//! The page that asks for the password or the token, the session's cookie, and the way out.

use std::sync::Arc;

use axum::extract::{OriginalUri, Request, State};
use axum::http::header::{ACCEPT, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Router};
use maud::{DOCTYPE, html};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Gate, hosts, secrets};
use crate::Actor;
use crate::page;
use crate::pages::assets;

/// Each takes 19 MiB, and nobody is in such a hurry.
static CHECKS: Semaphore = Semaphore::const_new(2);

pub(super) fn routes(gate: Arc<Gate>) -> Router {
    Router::new().route("/sign-in", post(sign_in)).route("/sign-out", post(sign_out)).with_state(gate)
}

/// Ports of one host share their cookies, so the port is part of the name.
fn cookie_name(host: &Authority) -> String {
    host.port_u16().map_or_else(|| "taskmq_session".to_owned(), |port| format!("taskmq_session_{port}"))
}

pub(super) fn secret<'a>(parts: &'a Parts, host: &Authority) -> Option<&'a str> {
    page::cookie(&parts.headers, &cookie_name(host))
}

/// Lets in whoever brings the token in the address; asks all others for it.
pub(super) fn ask(gate: &Gate, parts: &Parts, host: &Authority) -> Response {
    if parts.method != Method::GET {
        return unauthorized(parts, None);
    }
    let mut query: Vec<(String, String)> = Vec::new();
    let mut token = None;
    for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned()
    {
        if name == "token" { token = Some(value) } else { query.push((name, value)) }
    }
    match token {
        Some(token) if gate.is_token(&token) => {
            let path = parts.extensions.get::<OriginalUri>().map_or(parts.uri.path(), |uri| uri.0.path());
            // The last part of the path is where it is already, whatever a proxy may have taken away.
            let mut here = format!("./{}", path.rsplit('/').next().unwrap_or_default());
            if !query.is_empty() {
                let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
                here = format!("{here}?{query}");
            }
            begin(gate, parts, host, "token", &here)
        }
        Some(_) => unauthorized(parts, Some(Problem::Wrong)),
        None => unauthorized(parts, None),
    }
}

/// Begins a session.
fn begin(gate: &Gate, parts: &Parts, host: &Authority, actor: &str, to: &str) -> Response {
    let Ok(secret) = gate.sessions.begin(Actor(actor.to_owned())) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("./"));
    let cookie = cookie(gate, parts, host, &secret, "");
    (StatusCode::SEE_OTHER, [(LOCATION, to)], [(SET_COOKIE, cookie)]).into_response()
}

fn cookie(gate: &Gate, parts: &Parts, host: &Authority, secret: &str, more: &str) -> String {
    let secure = if gate.is_secure(parts) { "; Secure" } else { "" };
    format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}{more}", cookie_name(host))
}

#[derive(Deserialize)]
struct Given {
    secret: String,
    #[serde(default)]
    next: String,
}

async fn sign_in(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = axum::RequestExt::extract::<Form<Given>, _>(Request::from_parts(parts.clone(), body)).await;
    let (Some(host), Ok(Form(given))) = (hosts::named(&parts), form) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // Beginning with a dot, it cannot lead to another site.
    let next = format!("./{}", given.next.trim_start_matches('/'));
    if gate.is_token(&given.secret) {
        return begin(&gate, &parts, &host, "token", &next);
    }
    let Some(hash) = gate.access.password.clone() else {
        return unauthorized(&parts, Some(Problem::Wrong));
    };
    let address = gate.address(&parts);
    if let Err(wait) = gate.attempts.begin(address) {
        return unauthorized(&parts, Some(Problem::TooOften(wait.as_secs() + 1)));
    }
    let permit = CHECKS.acquire().await;
    let right = tokio::task::spawn_blocking(move || secrets::is_password(&given.secret, &hash)).await;
    drop(permit);
    if right.unwrap_or(false) {
        gate.attempts.forgive(address);
        begin(&gate, &parts, &host, "password", &next)
    } else {
        unauthorized(&parts, Some(Problem::Wrong))
    }
}

async fn sign_out(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(host) = hosts::named(&parts) else { return StatusCode::BAD_REQUEST.into_response() };
    if let Some(secret) = secret(&parts, &host) {
        gate.sessions.end(secret);
    }
    let cookie = cookie(&gate, &parts, &host, "", "; Max-Age=0");
    (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("./"))], [(SET_COOKIE, cookie)])
        .into_response()
}

#[derive(Clone, Copy)]
enum Problem {
    Wrong,
    /// And how many seconds to wait.
    TooOften(u64),
}

/// Asks for the secret: a person by a page, a tool by words.
fn unauthorized(parts: &Parts, problem: Option<Problem>) -> Response {
    let texts = page::texts(&parts.headers);
    let status = match problem {
        Some(Problem::TooOften(_)) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNAUTHORIZED,
    };
    let accepts = parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if accepts.contains("text/html") {
        let original = parts.extensions.get::<OriginalUri>().map_or(parts.uri.path(), |uri| uri.0.path());
        let root = page::root(parts.uri.path(), original);
        let is_page = parts.method == Method::GET;
        let next = if is_page { parts.uri.path().trim_start_matches('/') } else { "" };
        let page = html! {
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
                            @match problem {
                                Some(Problem::Wrong) => p.notice.bad role="alert" { (texts.wrong_secret) },
                                Some(Problem::TooOften(_)) => p.notice.bad role="alert" { (texts.too_often) },
                                None => {},
                            }
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
        (status, Html(page.into_string())).into_response()
    } else {
        let words = "The admin wants its token: send it as `Authorization: Bearer ...`, or open the address that it printed.\n";
        (status, words).into_response()
    };
    match problem {
        Some(Problem::TooOften(seconds)) => response.headers_mut().insert(RETRY_AFTER, seconds.into()),
        _ => response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
    };
    response
}
