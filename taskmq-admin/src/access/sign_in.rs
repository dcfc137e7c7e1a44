//! The way in with the password or the token, the session's cookie, and the way out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HeaderValue, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::gate::Gate;
use super::{asking, hosts, secrets};
use crate::Actor;
use crate::page::{self, FIRST};

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
    let next = next(parts);
    let Some((token, here)) = token_in(parts) else { return asking::unauthorized(parts, &next) };
    let address = gate.address(parts);
    match gate.try_token(&token, address) {
        Ok(true) => begin(gate, parts, host, "token", &here),
        Ok(false) => {
            gate.people.count(address);
            gate.tell_of_wrong("token", address);
            asking::wrong(parts, &next)
        }
        Err(wait) => asking::too_often(parts, wait, &next),
    }
}

/// The token that an address has, and from there the way to the same page without it.
pub(super) fn token_in(parts: &Parts) -> Option<(String, String)> {
    if parts.method != Method::GET {
        return None;
    }
    let (token, query) = query_of(parts);
    // The last part of the path is where it is already, whatever a proxy may have taken away.
    let last = page::original(parts).path().rsplit('/').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some((token?, format!("./{last}{query}")))
}

/// The page that is asked for, to come back to once somebody is signed in.
fn next(parts: &Parts) -> String {
    match parts.uri.path() {
        "/sign-in" | "/sign-out" => FIRST.to_owned(),
        path if parts.method == Method::GET => page::here(path, query_of(parts).1.as_deref()),
        _ => FIRST.to_owned(),
    }
}

/// The token among it, and what there is besides.
fn query_of(parts: &Parts) -> (Option<String>, Option<String>) {
    let given = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
    let (tokens, others): (Vec<_>, Vec<_>) = given.partition(|(name, _)| name == "token");
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
    (tokens.into_iter().next_back().map(|(_, token)| token), Some(query).filter(|query| !query.is_empty()))
}

/// Begins a session.
fn begin(gate: &Gate, parts: &Parts, host: &Authority, actor: &str, to: &str) -> Response {
    let Ok(secret) = gate.sessions.begin(Actor(actor.to_owned())) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let cookie = cookie(gate, parts, host, &secret, "");
    ([(SET_COOKIE, cookie)], lead_to(to, parts)).into_response()
}

/// Sends the browser there, or to the first page if that cannot be said.
pub(super) fn lead_to(to: &str, parts: &Parts) -> Response {
    let first = format!("{}{FIRST}", page::root_of(parts));
    let place = |to: &str| to.is_ascii().then(|| HeaderValue::from_str(to).ok()).flatten();
    match place(to).or_else(|| place(&first)) {
        Some(to) => (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
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
    let (Some(host), Ok(Form(Given { secret, next }))) = (hosts::named(&parts), form) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let next = match next.trim_start_matches('/') {
        "" => FIRST,
        next => next,
    };
    // Beginning with a dot, it cannot lead to another site.
    let to = format!("./{next}");
    let address = gate.address(&parts);
    match gate.try_token(&secret, address) {
        Ok(true) => return begin(&gate, &parts, &host, "token", &to),
        Ok(false) => {}
        Err(wait) => return asking::too_often(&parts, wait, next),
    }
    let Some(hash) = gate.access.password.clone() else {
        gate.people.count(address);
        gate.tell_of_wrong("token", address);
        return asking::wrong(&parts, next);
    };
    if let Err(wait) = gate.people.begin(address) {
        return asking::too_often(&parts, wait, next);
    }
    let permit = CHECKS.acquire().await;
    let right = tokio::task::spawn_blocking(move || secrets::is_password(&secret, &hash)).await;
    drop(permit);
    if right.unwrap_or(false) {
        gate.people.forgive(address);
        begin(&gate, &parts, &host, "password", &to)
    } else {
        gate.tell_of_wrong("password", address);
        asking::wrong(&parts, next)
    }
}

async fn sign_out(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(host) = hosts::named(&parts) else { return StatusCode::BAD_REQUEST.into_response() };
    if let Some(secret) = secret(&parts, &host) {
        gate.sessions.end(secret);
    }
    let cookie = cookie(&gate, &parts, &host, "", "; Max-Age=0");
    ([(SET_COOKIE, cookie)], lead_to(&format!("./{FIRST}"), &parts)).into_response()
}
