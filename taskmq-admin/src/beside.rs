//! `worker --admin ADDR:PORT`: the admin on a thread of the worker's process.

use std::net::SocketAddr;

use clap::{CommandFactory, FromArgMatches, Parser};
use taskmq_core::worker::AdminServer;

use crate::serve::{ServeArgs, Server};

inventory::submit! {
    AdminServer { start }
}

/// What `taskmq-cli admin` takes as flags, a worker takes from the environment.
#[derive(Debug, Parser)]
struct Environment {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Serves for as long as the process lives.
fn start(listen: SocketAddr, database_url: &str) -> Result<String, String> {
    let matches = Environment::command().try_get_matches_from(["worker"]).map_err(|e| e.to_string())?;
    let environment = Environment::from_arg_matches(&matches).map_err(|e| e.to_string())?;
    let args = ServeArgs { listen, ..environment.serve };
    let server = Server::bind(database_url, &args).map_err(|e| e.to_string())?;
    let url = server.url();
    let serve = || {
        if let Err(error) = server.run_until(std::future::pending()) {
            tracing::error!("the admin beside this worker ended: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("taskmq-admin".to_owned()).spawn(serve);
    thread.map_err(|e| format!("cannot start the admin's thread: {e}"))?;
    Ok(url)
}
