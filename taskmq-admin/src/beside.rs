//! `worker --admin ADDR:PORT`: the admin on a thread of the worker's process; and `worker --metrics ADDR:PORT`, which
//! has no pages.

use std::net::SocketAddr;

use clap::{CommandFactory, FromArgMatches, Parser};
use taskmq_core::worker::{AdminServer, Pulse};

use crate::serve::{ServeArgs, Server};
use crate::{Result, metrics};

inventory::submit! {
    AdminServer { start, start_metrics }
}

/// What `taskmq-cli admin` takes as flags, a worker takes from the environment.
#[derive(Debug, Parser)]
struct Environment {
    #[command(flatten)]
    serve: ServeArgs,
}

impl Environment {
    fn read() -> std::result::Result<ServeArgs, String> {
        let matches = Self::command().try_get_matches_from(["worker"]).map_err(|e| e.to_string())?;
        Self::from_arg_matches(&matches).map(|environment| environment.serve).map_err(|e| e.to_string())
    }
}

/// Serves for as long as the process lives.
fn start(listen: SocketAddr, database_url: &str, worker: Pulse) -> std::result::Result<String, String> {
    let args = ServeArgs { listen, ..Environment::read()? };
    serve(Server::bind_beside(database_url, &args, worker))
}

fn start_metrics(listen: SocketAddr, worker: Pulse) -> std::result::Result<String, String> {
    let token = Environment::read()?.metrics_token;
    serve(Server::bind_probes(listen, token.as_deref(), worker)).map(|url| url + "metrics")
}

fn serve(server: Result<Server>) -> std::result::Result<String, String> {
    let server = server.map_err(|e| e.to_string())?;
    metrics::install()?;
    let url = server.url();
    let serve = || {
        if let Err(error) = server.run_until(std::future::pending()) {
            tracing::error!("the server beside this worker ended: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("taskmq-admin".to_owned()).spawn(serve);
    thread.map_err(|e| format!("cannot start the admin's thread: {e}"))?;
    Ok(url)
}
