//! The admin beside a worker. It is a crate of its own, so that a worker without it carries no web server.

use std::net::SocketAddr;

use crate::{Error, Result};

/// How to serve the admin. The crate `taskmq-admin`, with its feature `worker`, submits one; a program has it when it
/// names that crate: `use taskmq_admin as _;`.
#[derive(Debug)]
pub struct AdminServer {
    /// Serves the queue of this database on this address from a thread of its own, and gives the link to it; or says
    /// why not.
    pub start: fn(SocketAddr, &str) -> std::result::Result<String, String>,
}

inventory::collect!(AdminServer);

pub(super) fn start(address: SocketAddr, database_url: &str) -> Result<()> {
    let Some(server) = inventory::iter::<AdminServer>().next() else {
        return Err(Error::Configuration(
            "--admin needs the admin in this program: cargo add taskmq-admin --features worker, with the feature of \
             your database, and `use taskmq_admin as _;` in src/bin/worker.rs"
                .to_owned(),
        ));
    };
    let link = (server.start)(address, database_url).map_err(Error::Configuration)?;
    tracing::info!("the admin is at {link}");
    Ok(())
}
