//! taskmq turns the database that a Diesel project already has into its message queue.
//!
//! A message's way, which is also the order of the modules:
//! [`produce`](mod@produce) stores it, the [`worker`] claims it and runs its [`consumer`], and the outcome is
//! settled: done, retried, or dead. Every operation on the queue is a method of [`broker::Broker`]; each
//! database's SQL is in one module below [`broker`].
//!
//! ```no_run
//! # #[cfg(feature = "sqlite")] {
//! use diesel::prelude::*;
//! use serde::{Deserialize, Serialize};
//! use taskmq_core::task_consumer;
//!
//! #[derive(Serialize, Deserialize)]
//! struct LoadTest { url: String, users: u32 }
//!
//! #[task_consumer(topic = "yace")]
//! fn play(test: LoadTest) -> Result<u32, std::io::Error> { Ok(test.users) }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut conn = SqliteConnection::establish("app.db")?;
//! play::message(&LoadTest { url: "http://127.0.0.1:8080".into(), users: 10 }).produce(&mut conn)?;
//! # Ok(()) }
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
// A program that only produces has the broker whole, for it is one trait, but does not use the half of it.
#![cfg_attr(not(feature = "worker"), allow(dead_code))]

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("taskmq-core needs a database: enable its feature `sqlite`, `postgres` or `mysql`");

mod backend;
pub mod broker;
mod connection;
pub mod consumer;
mod database_url;
mod error;
mod ids;
pub mod limits;
#[cfg(any(feature = "sqlite", feature = "worker"))]
mod lock_files;
pub mod message;
pub mod migration;
pub mod overview;
pub mod produce;
#[cfg(feature = "schedules")]
pub mod schedule;
mod statement;
mod trace;
#[cfg(feature = "worker")]
pub mod worker;
pub mod workflow;

pub use backend::Backend;
pub use connection::{AnyConnection, BrokerConnection};
pub use consumer::context::Context;
pub use consumer::failure::Failure;
pub use consumer::log::LogLevel;
pub use consumer::registry::Registry;
pub use consumer::{Backoff, Consumer, Retention};
pub use error::{Error, Result};
pub use message::{MessageId, State};
pub use produce::{NewMessage, Produced, produce, produce_many};
#[cfg(feature = "worker")]
pub use worker::Worker;
pub use workflow::Workflow;

/// Makes a function the consumer of a topic, and gives it a typed producer.
///
/// See [`consumer`] for what the function may take and return, and for every option.
pub use taskmq_derive::task_consumer;

/// What the code that [`task_consumer`] writes uses. Not public API.
#[doc(hidden)]
pub mod private {
    #[cfg(feature = "async")]
    pub use crate::consumer::call::HandlerFuture;
    pub use crate::consumer::call::{Call, HandlerResult};
    pub use crate::consumer::registry::Registration;
    pub use crate::consumer::returned::{Returned, ReturnedValue};
    pub use inventory;
}
