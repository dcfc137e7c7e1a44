use axum::Router;
use axum::routing::get;
use taskmq_core::Backend;

use crate::Result;

/// The admin of one queue.
#[derive(Clone)]
pub struct Admin {
    database_url: String,
    read_only: bool,
    hide_payloads: bool,
}

/// Without the URL, which may have a password.
impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("read_only", &self.read_only)
            .field("hide_payloads", &self.hide_payloads)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// The admin of the queue in this database. It may change everything and shows everything.
    pub fn new(database_url: impl Into<String>) -> Self {
        Self { database_url: database_url.into(), read_only: false, hide_payloads: false }
    }

    /// Whether it only looks: then there is no route that changes anything, and its connections refuse to write.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether payloads, headers and results are kept from whoever looks.
    #[must_use]
    pub fn hide_payloads(mut self, hide: bool) -> Self {
        self.hide_payloads = hide;
        self
    }

    /// All pages. Links are relative, so that it works wherever it is nested.
    ///
    /// # Errors
    /// When the URL is of no database that this program knows.
    pub fn router(&self) -> Result<Router> {
        self.pages()
    }

    /// The pages without any protection.
    pub(crate) fn pages(&self) -> Result<Router> {
        Backend::of_url(&self.database_url)?;
        Ok(Router::new().route("/", get(|| async { "taskmq" })))
    }
}
