//! Who may use the pages. Every request passes [`Gate::admit`] before anything of it reaches a page, and every answer
//! gets the same headers.

mod attempts;
mod headers;
mod hosts;
mod origin;
mod secrets;
mod sessions;
mod sign_in;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use taskmq_core::limits::MAX_PAYLOAD_BYTES;

use self::attempts::Attempts;
use self::hosts::Hosts;
use self::secrets::Fingerprint;
use self::sessions::Sessions;
use crate::{Actor, Result};

/// The largest payload, and the form around it.
const LARGEST_BODY: usize = MAX_PAYLOAD_BYTES + 64 * 1024;
/// A body that takes longer is not waited for.
const SLOWEST_BODY: Duration = Duration::from_secs(30);

/// Who may use the pages of a mounted [`Admin`](crate::Admin).
///
/// ```
/// use taskmq_admin::Access;
/// let host = Access::host_decides(); // whoever gets through the host's own login
/// let tools = Access::token("mJ8xq2rZ0bLk7vTn4cYw9eGs")?.allowed_hosts(&["queue.example.org".to_owned()])?;
/// # Ok::<(), taskmq_admin::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "it protects what it is given to"]
pub struct Access {
    /// None, and no password: others decide who comes in.
    token: Option<Fingerprint>,
    password: Option<Arc<PasswordHash>>,
    metrics_token: Option<Fingerprint>,
    hosts: Option<Hosts>,
    trust_proxy: bool,
}

/// Without its secrets.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("token", &self.token.is_some())
            .field("password", &self.password.is_some())
            .field("metrics_token", &self.metrics_token.is_some())
            .field("hosts", &self.hosts)
            .field("trust_proxy", &self.trust_proxy)
            .finish()
    }
}

impl Access {
    /// Whoever the host lets through: the router is behind the host's own login. Requests of other sites are refused
    /// all the same. Who acts is the request extension [`Actor`], if the host sets it.
    pub fn host_decides() -> Self {
        Self { token: None, password: None, metrics_token: None, hosts: None, trust_proxy: false }
    }

    /// Whoever has this token: people who open `?token=...` once, and tools that send it as a bearer.
    ///
    /// # Errors
    /// [`Error::Token`](crate::Error::Token) when it is shorter than 24 characters, or has others than letters, digits and `-._~`.
    pub fn token(token: &str) -> Result<Self> {
        Self::host_decides().or_token(token)
    }

    /// Whoever knows this password, which is given as it is or as its argon2 hash (`$argon2id$...`, a PHC string).
    ///
    /// # Errors
    /// [`Error::Password`](crate::Error::Password) when it is empty, or no such hash.
    pub fn password(password: &str) -> Result<Self> {
        let hash = secrets::password(password)?;
        Ok(Self { password: Some(Arc::new(hash)), ..Self::host_decides() })
    }

    /// Whoever has this token, too.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub fn or_token(self, token: &str) -> Result<Self> {
        Ok(Self { token: Some(secrets::token(token)?), ..self })
    }

    /// Whoever has this token may read `/metrics`, and nothing else, as a bearer: what a scraper gets instead of the
    /// token or the password that opens the pages. Where others decide who comes in, `/metrics` asks for it all the same.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    #[cfg(feature = "metrics")]
    pub fn metrics_token(self, token: &str) -> Result<Self> {
        Ok(Self { metrics_token: Some(secrets::token(token)?), ..self })
    }

    /// It answers to these names alone (`queue.example.org`, with its port where that is not the usual one). A router
    /// that is mounted answers to any otherwise.
    ///
    /// # Errors
    /// [`Error::Host`](crate::Error::Host) for what is no host's name.
    pub fn allowed_hosts(self, names: &[String]) -> Result<Self> {
        Ok(Self { hosts: Some(Hosts::only(names)?), ..self })
    }

    /// A proxy stands before it, and what that says is true: `X-Forwarded-For` (whose tries of a password are counted),
    /// `X-Forwarded-Proto` (`https` makes cookies `Secure`), and, where it decides who comes in, `X-Forwarded-User`.
    pub fn trust_proxy(self, trust: bool) -> Self {
        Self { trust_proxy: trust, ..self }
    }

    /// It answers to the names of this machine with the listener's port, and to these.
    #[cfg(feature = "serve")]
    pub(crate) fn on_listener(self, listener: SocketAddr, names: &[String]) -> Result<Self> {
        Ok(Self { hosts: Some(Hosts::of_listener(listener, names)?), ..self })
    }

    /// Puts the gate before the pages.
    pub(crate) fn protect(self, pages: Router) -> Router {
        let gate =
            Arc::new(Gate { access: self, sessions: Sessions::default(), attempts: Attempts::default() });
        pages.merge(sign_in::routes(Arc::clone(&gate))).layer(from_fn_with_state(gate, pass))
    }
}

/// A random token for one run.
#[cfg(feature = "serve")]
pub(crate) fn random_token() -> Result<String> {
    secrets::random()
}

/// The argon2 hash of a password as a PHC string, as [`Access::password`] takes it.
///
/// # Errors
/// [`Error::Password`](crate::Error::Password) when it is empty.
pub fn hash_password(password: &str) -> Result<String> {
    secrets::password(password).map(|hash| hash.to_string())
}

/// The request came with a session, which can be ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedIn;

struct Gate {
    access: Access,
    sessions: Sessions,
    attempts: Attempts,
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match gate.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => *refusal,
    };
    headers::add(&mut response);
    response
}

fn refuse<T>(status: StatusCode, words: &'static str) -> std::result::Result<T, Box<Response>> {
    Err(Box::new((status, format!("{words}\n")).into_response()))
}

impl Gate {
    /// The request as a page may have it, or the answer instead.
    async fn admit(&self, request: Request) -> std::result::Result<Request, Box<Response>> {
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
        let bearer = bears(&parts, self.access.token);
        if !looks && !bearer && !origin::is_own(&parts.headers, &host) {
            return refuse(
                StatusCode::FORBIDDEN,
                "Changes can only be asked for from the admin's own pages.",
            );
        }
        let path = parts.uri.path();
        let is_open = match path {
            "/health" | "/ready" => looks,
            "/metrics" => looks && bears(&parts, self.access.metrics_token),
            "/sign-in" => !looks && self.has_login(),
            path => looks && path.starts_with("/assets/"),
        };
        if !is_open {
            if bearer {
                parts.extensions.insert(Actor("token".to_owned()));
            } else if self.has_login() {
                let secret = sign_in::secret(&parts, &host).and_then(|secret| self.sessions.who(secret));
                let Some(actor) = secret else {
                    return Err(Box::new(sign_in::ask(self, &parts, &host)));
                };
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
        let body = if looks { Body::empty() } else { bounded(&parts, body).await? };
        Ok(Request::from_parts(parts, body))
    }

    fn has_login(&self) -> bool {
        self.access.token.is_some() || self.access.password.is_some()
    }

    fn is_token(&self, given: &str) -> bool {
        self.access.token.is_some_and(|token| token.is_of(given))
    }

    /// Where the request comes from, as far as it can be known.
    fn address(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if !self.access.trust_proxy {
            return peer;
        }
        // The proxy adds whom it saw at the end; what comes before, anybody may have written.
        let last = forwarded(parts, "x-forwarded-for").and_then(|list| list.rsplit(',').next());
        last.and_then(|address| address.trim().parse().ok()).or(peer)
    }

    fn is_secure(&self, parts: &Parts) -> bool {
        self.access.trust_proxy
            && forwarded(parts, "x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }
}

fn bears(parts: &Parts, token: Option<Fingerprint>) -> bool {
    let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let given = header.and_then(|header| header.split_once(' '));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer") && token.is_some_and(|token| token.is_of(given.trim()))
    })
}

fn forwarded<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok())
}

/// The whole body, if it is not too large and does not take too long.
async fn bounded(parts: &Parts, body: Body) -> std::result::Result<Body, Box<Response>> {
    let announced =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY as u64) {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than any message may be.");
    }
    match tokio::time::timeout(SLOWEST_BODY, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(_)) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is larger than any message may be, or was cut off.",
        ),
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive."),
    }
}
