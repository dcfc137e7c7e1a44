//! What every request passes before anything of it reaches a page.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::attempts::Attempts;
use super::sessions::Sessions;
use super::{Access, SignedIn, asking, bodies, headers, hosts, origin, refuse, sign_in};
use crate::Actor;

pub(super) struct Gate {
    pub(super) access: Access,
    pub(super) sessions: Sessions,
    /// Of those who sign in, and of programs with a bearer: one with an old token keeps no person out.
    pub(super) people: Attempts,
    programs: Attempts,
}

/// What a bearer opens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearer {
    Pages,
    Metrics,
}

pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match gate.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => *refusal,
    };
    headers::add(&mut response);
    response
}

impl Gate {
    pub(super) fn new(access: Access) -> Self {
        let (sessions, people, programs) = Default::default();
        Self { access, sessions, people, programs }
    }

    /// The request as a page may have it, or the answer instead.
    async fn admit(&self, request: Request) -> Result<Request, Box<Response>> {
        let (mut parts, body) = request.into_parts();
        let named = hosts::named(&parts);
        let known = named.filter(|host| self.access.hosts.as_ref().is_none_or(|hosts| hosts.has(host)));
        let Some(host) = known else {
            return refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "This host's name is not one of the admin's: allow it with --allowed-host, if it is yours.",
            );
        };
        let looks = matches!(parts.method, Method::GET | Method::HEAD);
        let path = parts.uri.path();
        let is_open = match path {
            "/health" | "/ready" => looks,
            "/sign-in" => !looks && self.has_login(),
            path => looks && path.starts_with("/assets/"),
        };
        let bearer = if is_open { None } else { self.bearer(&parts)? };
        let has_token = bearer == Some(Bearer::Pages);
        if !looks && !has_token && !origin::is_own(&parts.headers, &host) {
            return refuse(
                StatusCode::FORBIDDEN,
                "Changes can only be asked for from the admin's own pages.",
            );
        }
        let is_scraper = looks && path == "/metrics" && bearer == Some(Bearer::Metrics);
        if !is_open && !is_scraper {
            if has_token {
                parts.extensions.insert(Actor("token".to_owned()));
            } else if self.has_login() {
                let secret = sign_in::secret(&parts, &host).and_then(|secret| self.sessions.who(secret));
                let Some(actor) = secret else {
                    return Err(Box::new(sign_in::ask(self, &parts, &host)));
                };
                // Somebody who is signed in has opened the link again: it is not to stay in the address.
                if let Some((_, here)) = sign_in::token_in(&parts) {
                    return Err(Box::new(sign_in::lead_to(&here, &parts)));
                }
                parts.extensions.insert(actor);
                parts.extensions.insert(SignedIn);
            } else if path == "/metrics" && self.access.metrics_token.is_some() {
                let words = "Send the token of the metrics as `Authorization: Bearer ...`.\n";
                let challenge = [(WWW_AUTHENTICATE, "Bearer")];
                return Err(Box::new((StatusCode::UNAUTHORIZED, challenge, words).into_response()));
            } else if self.access.trust_proxy
                && let Some(user) = forwarded(&parts, "x-forwarded-user")
            {
                parts.extensions.insert(Actor(user.chars().filter(|c| !c.is_control()).take(100).collect()));
            }
        }
        let body = if looks { Body::empty() } else { bodies::bounded(&parts, body).await? };
        Ok(Request::from_parts(parts, body))
    }

    fn has_login(&self) -> bool {
        self.access.token.is_some() || self.access.password.is_some()
    }

    /// What the bearer of this request opens. A host that lets people in may have bearers of its own: they are no tries
    /// where there is no token.
    fn bearer(&self, parts: &Parts) -> Result<Option<Bearer>, Box<Response>> {
        let Access { token, metrics_token, .. } = self.access;
        if token.is_none() && !(metrics_token.is_some() && parts.uri.path() == "/metrics") {
            return Ok(None);
        }
        let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let given = header.and_then(|header| header.split_once(' '));
        let Some((_, given)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Ok(None);
        };
        let address = self.address(parts);
        self.programs.check(address).map_err(|wait| Box::new(asking::too_often(parts, wait, "")))?;
        let tokens = [(token, Bearer::Pages), (metrics_token, Bearer::Metrics)];
        let is_given =
            |token: Option<super::Fingerprint>| token.is_some_and(|token| token.is_of(given.trim()));
        let found = tokens.into_iter().find_map(|(token, opens)| is_given(token).then_some(opens));
        if found.is_none() {
            self.programs.count(address);
            self.tell_of_wrong("token", address);
        }
        Ok(found)
    }

    /// Whether a person has given the token, if they have a try left.
    pub(super) fn try_token(&self, given: &str, address: Option<IpAddr>) -> Result<bool, Duration> {
        self.people.check(address)?;
        Ok(self.access.token.is_some_and(|token| token.is_of(given)))
    }

    /// For whoever keeps an eye on the log, or bans addresses by it.
    pub(super) fn tell_of_wrong(&self, what: &str, address: Option<IpAddr>) {
        match address {
            Some(address) => tracing::warn!("a wrong {what} was tried from {address}"),
            None => tracing::warn!("a wrong {what} was tried"),
        }
    }

    /// Where the request comes from, as far as it can be known.
    pub(super) fn address(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if !self.access.trust_proxy {
            return peer;
        }
        // The proxy adds whom it saw at the end; what comes before, anybody may have written.
        let last = forwarded(parts, "x-forwarded-for").and_then(|list| list.rsplit(',').next());
        last.and_then(|address| ip_of(address.trim())).or(peer)
    }

    pub(super) fn is_secure(&self, parts: &Parts) -> bool {
        self.access.trust_proxy
            && forwarded(parts, "x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }
}

/// Some proxies tell the port as well, or put IPv6 in brackets.
fn ip_of(address: &str) -> Option<IpAddr> {
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    bare.parse().or_else(|_| address.parse().map(|with_port: SocketAddr| with_port.ip())).ok()
}

fn forwarded<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (text, address) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9:51234", Some("203.0.113.9")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(ip_of(text), address.and_then(|address| address.parse().ok()), "{text}");
        }
    }
}
