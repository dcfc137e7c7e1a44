//! The admin beside a worker. It is a crate of its own, so that a worker without it carries no web server.

use std::net::SocketAddr;

use super::{Pulse, WorkerArgs};
use crate::{Error, Result};

/// How to serve the admin. The crate `taskmq-admin`, with its feature `worker`, submits one; a program has it when it
/// names that crate: `use taskmq_admin as _;`.
#[derive(Debug)]
pub struct AdminServer {
    /// Serves the queue of this database on this address from a thread of its own, and gives the link to it; or says
    /// why not. Whether the worker lives and is ready it asks its pulse.
    pub start: fn(SocketAddr, &str, Pulse) -> std::result::Result<String, String>,
    /// The same without any pages and any database: only the metrics of this process, and its pulse.
    pub start_metrics: fn(SocketAddr, Pulse) -> std::result::Result<String, String>,
}

inventory::collect!(AdminServer);

/// Serves what the flags ask for, before the worker begins: what it counts is recorded from then on.
pub(super) fn start(args: &WorkerArgs, database_url: &str, pulse: &Pulse) -> Result<()> {
    if let Some(address) = args.admin {
        let link =
            (server("--admin")?.start)(address, database_url, pulse.clone()).map_err(Error::Configuration)?;
        tracing::info!("the admin is at {link}");
    }
    if let Some(address) = args.metrics {
        let link =
            (server("--metrics")?.start_metrics)(address, pulse.clone()).map_err(Error::Configuration)?;
        tracing::info!("the metrics are at {link}");
    }
    Ok(())
}

fn server(flag: &str) -> Result<&'static AdminServer> {
    inventory::iter::<AdminServer>().next().ok_or_else(|| {
        Error::Configuration(format!(
            "{flag} needs the admin in this program: cargo add taskmq-admin --features worker, with the feature of \
             your database, and `use taskmq_admin as _;` in src/bin/worker.rs"
        ))
    })
}
