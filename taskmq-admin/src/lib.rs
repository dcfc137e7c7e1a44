//! The admin of taskmq: web pages that look at the queue and change it, as an axum [`Router`](axum::Router) that a host
//! mounts at any path of its own.

mod access;
mod actor;
mod admin;
mod bulk;
mod database;
mod error;
mod fields;
mod figures;
mod page;
mod pages;
mod probes;
mod problem;
#[cfg(feature = "serve")]
pub mod serve;
mod texts;
mod view;

pub use access::{Access, hash_password};
pub use actor::Actor;
pub use admin::Admin;
pub use error::{Error, Result};
