use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use taskmq_core::Backend;

use crate::Result;
use crate::access::Access;
use crate::bulk::Bulks;
use crate::database::Pool;
use crate::figures::Sampler;
use crate::page::Page;
use crate::pages::{
    assets, audit, change, changes, dead, live, message, messages, overview, preferences, produce, schedules,
    topic, workers, workflows,
};
use crate::probes::{self, Probed};
use crate::problem::Problem;

/// So many may read at once, and so many write.
const READERS: usize = 4;
const WRITERS: usize = 2;

/// The admin of one queue.
#[derive(Clone)]
pub struct Admin {
    database_url: String,
    read_only: bool,
    hide_payloads: bool,
    #[cfg(feature = "worker")]
    worker: Option<taskmq_core::worker::Pulse>,
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
        Self {
            database_url: database_url.into(),
            read_only: false,
            hide_payloads: false,
            #[cfg(feature = "worker")]
            worker: None,
        }
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

    /// Beside this worker: whether that lives and is ready is what it tells.
    #[cfg(feature = "worker")]
    pub(crate) fn beside(self, worker: taskmq_core::worker::Pulse) -> Self {
        Self { worker: Some(worker), ..self }
    }

    /// All pages, for those whom `access` lets in. Links are relative, so that it works wherever it is nested.
    ///
    /// # Errors
    /// When the URL is of no database that this program knows.
    pub fn router(&self, access: Access) -> Result<Router> {
        Ok(access.protect(self.pages()?))
    }

    /// The pages without any protection.
    pub(crate) fn pages(&self) -> Result<Router> {
        let shared = self.shared()?;
        let mut router = Router::new()
            .route("/", get(overview::show))
            // The same, for links: nested at /admin, a router has no /admin/.
            .route("/overview", get(overview::show))
            .route("/topic", get(topic::show))
            .route("/messages", get(messages::show))
            .route("/messages/{id}", get(message::show))
            .route("/dead", get(dead::show))
            .route("/workers", get(workers::show))
            .route("/schedules", get(schedules::show))
            .route("/workflows", get(workflows::list))
            .route("/workflows/{id}", get(workflows::show))
            .route("/audit", get(audit::show))
            .route("/live", get(live::live))
            .route("/health", get(probes::health))
            .route("/ready", get(probes::ready))
            .route("/preferences", post(preferences::choose))
            .route("/assets/admin.css", get(assets::css))
            .route("/assets/admin.js", get(assets::js))
            .route("/assets/icon.svg", get(assets::icon));
        #[cfg(feature = "metrics")]
        {
            router = router.route("/metrics", get(crate::metrics::show));
        }
        if !self.read_only {
            router = router
                .route("/topic", post(topic::change))
                .route("/schedules", post(schedules::change))
                .route("/workers", post(workers::change))
                .route("/workflows/{id}", post(workflows::change))
                .route("/produce", get(produce::form).post(produce::produce))
                .route("/change", post(change::change))
                .route("/changes", get(changes::list))
                .route("/changes/{id}", get(changes::show))
                .route("/changes/{id}/stop", post(changes::stop));
        }
        Ok(router.fallback(elsewhere).with_state(shared))
    }

    /// Whether its pages can be had at all.
    ///
    /// # Errors
    /// See [`try_out`](crate::database::try_out).
    #[cfg(feature = "serve")]
    pub(crate) fn try_out(&self) -> Result<()> {
        Ok(crate::database::try_out(&self.database_url)?)
    }

    fn shared(&self) -> Result<Arc<Shared>> {
        Backend::of_url(&self.database_url)?;
        let probed = Probed::Admin(Default::default());
        #[cfg(feature = "worker")]
        let probed = self.worker.clone().map_or(probed, Probed::Worker);
        Ok(Arc::new(Shared {
            reading: Pool::new(&self.database_url, true, READERS),
            writing: (!self.read_only).then(|| Pool::new(&self.database_url, false, WRITERS)),
            sampler: Sampler::default(),
            bulks: Bulks::default(),
            probed,
            read_only: self.read_only,
            hide_payloads: self.hide_payloads,
        }))
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) reading: Pool,
    /// None where it only looks.
    pub(crate) writing: Option<Pool>,
    pub(crate) sampler: Sampler,
    pub(crate) bulks: Bulks,
    pub(crate) probed: Probed,
    pub(crate) read_only: bool,
    pub(crate) hide_payloads: bool,
}

async fn elsewhere(page: Page) -> Response {
    page.answer(page.texts.problem, Err(Problem::NotFound))
}
