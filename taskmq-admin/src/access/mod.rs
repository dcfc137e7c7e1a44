//! Who may use the pages. Every request passes the [gate](gate::Gate) before anything of it reaches a page, and every
//! answer gets the same headers.

mod asking;
mod attempts;
mod bodies;
mod gate;
mod headers;
mod hosts;
mod origin;
mod secrets;
mod sessions;
mod sign_in;

#[cfg(feature = "serve")]
use std::net::SocketAddr;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};

use self::gate::Gate;
use self::hosts::Hosts;
use self::secrets::Fingerprint;
use crate::Result;

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
    /// all the same. Who acts is the request extension [`Actor`](crate::Actor), if the host sets it.
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

    /// A proxy stands before it, and what that says is true: `X-Forwarded-For` (whose tries are counted),
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
        let gate = Arc::new(Gate::new(self));
        // The gate bounds bodies itself, by what a message may have.
        let pages = pages.merge(sign_in::routes(Arc::clone(&gate))).layer(DefaultBodyLimit::disable());
        pages.layer(from_fn_with_state(gate, gate::pass))
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

fn refuse<T>(status: StatusCode, words: &'static str) -> std::result::Result<T, Box<Response>> {
    Err(Box::new((status, format!("{words}\n")).into_response()))
}
