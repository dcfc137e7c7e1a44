//! The admin of taskmq: web pages that look at the queue and change it, as an axum [`Router`](axum::Router) that a host
//! mounts at any path of its own.
//!
//! ```no_run
//! # fn app() -> Result<axum::Router, taskmq_admin::Error> {
//! use taskmq_admin::{Access, Admin};
//!
//! let admin = Admin::new("app.db").read_only(true);
//! let app = axum::Router::new().nest("/admin", admin.router(Access::host_decides())?);
//! # Ok(app)
//! # }
//! ```
//!
//! A request's way, which is also how the modules lie: `page` is who asks and how they want to see it, `pages` has a
//! module for each page, `view` is how things look, `texts` what they say. What is read comes from `figures` (at most once
//! a second) or over `database`; what changes many messages goes on in `bulk`.

mod access;
mod actor;
mod admin;
#[cfg(feature = "worker")]
mod beside;
mod bulk;
mod database;
mod error;
mod fields;
mod figures;
pub mod json;
#[cfg(feature = "metrics")]
mod metrics;
mod page;
mod pages;
mod probes;
mod problem;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "serve")]
pub mod serve;
mod texts;
mod view;

pub use access::{Access, hash_password};
pub use actor::Actor;
pub use admin::Admin;
pub use error::{Error, Result};
