//! The admin as a server of its own: for `taskmq-cli admin`, or beside a worker.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::{Extension, Router};
use clap::Args;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
#[cfg(feature = "worker")]
use taskmq_core::worker::Pulse;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::access::{Access, random_token};
use crate::{Admin, Error, Result};

/// A client that has not sent the head of its request by then is cut off.
const SLOWEST_HEAD: Duration = Duration::from_secs(5);
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// So many clients are connected at most; below the 1024 files that a process may usually have open.
const MOST_CLIENTS: usize = 800;
/// So long it waits for answers on their way when it is to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the admin is served. Each may also be set in the environment; a flag wins.
#[derive(Clone, Args)]
pub struct ServeArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR:PORT", env = "TASKMQ_ADMIN_LISTEN", default_value = "127.0.0.1:8470")]
    pub listen: SocketAddr,

    /// Only look: nothing can be changed
    #[arg(long, env = "TASKMQ_ADMIN_READ_ONLY")]
    pub read_only: bool,

    /// Keep payloads, headers and results from whoever looks
    #[arg(long, env = "TASKMQ_ADMIN_HIDE_PAYLOADS")]
    pub hide_payloads: bool,

    /// Answer to this name, too, as a browser names it: queue.example.org, with its port where that is not the usual one
    #[arg(long, value_name = "HOST", env = "TASKMQ_ADMIN_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_host: Vec<String>,

    /// Ask for the password in the first line of this file: as it is, or its argon2 hash ($argon2id$...)
    #[arg(long, value_name = "FILE", env = "TASKMQ_ADMIN_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,

    /// Let in whoever has this token; in the environment other users of this machine cannot see it
    #[arg(long, value_name = "TOKEN", env = "TASKMQ_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Let in whoever has this token to /metrics, and to nothing else
    #[arg(long, value_name = "TOKEN", env = "TASKMQ_METRICS_TOKEN", hide_env_values = true)]
    pub metrics_token: Option<String>,

    /// A proxy stands before it: believe its X-Forwarded-For and -Proto, and, without password and token, let it decide who comes in
    #[arg(long, env = "TASKMQ_ADMIN_TRUST_PROXY")]
    pub trust_proxy: bool,
}

/// Without the token.
impl std::fmt::Debug for ServeArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeArgs")
            .field("listen", &self.listen)
            .field("read_only", &self.read_only)
            .field("trust_proxy", &self.trust_proxy)
            .finish_non_exhaustive()
    }
}

/// An admin that listens, and is about to serve.
#[must_use = "it answers only while `run` is polled"]
pub struct Server {
    listener: TcpListener,
    listen: SocketAddr,
    router: Router,
    token: Option<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Unprotected`] when others could reach it and nothing keeps them out; [`Error::Serve`] when it cannot
    /// listen there; what is wrong with a password, a token or a name; and [`Error::Queue`] for a way to the database on
    /// which no page could be had. A database that does not answer yet is waited for by each page.
    pub fn bind(database_url: &str, args: &ServeArgs) -> Result<Self> {
        Self::bind_admin(Admin::new(database_url), args)
    }

    /// The same beside a worker.
    #[cfg(feature = "worker")]
    pub(crate) fn bind_beside(database_url: &str, args: &ServeArgs, worker: Pulse) -> Result<Self> {
        Self::bind_admin(Admin::new(database_url).beside(worker), args)
    }

    fn bind_admin(admin: Admin, args: &ServeArgs) -> Result<Self> {
        let (access, token) = access(args)?;
        let (listener, listen) = bind(args.listen)?;
        let admin = admin.read_only(args.read_only).hide_payloads(args.hide_payloads);
        let router = admin.router(access.on_listener(listen, &args.allowed_host)?)?;
        admin.try_out()?;
        Ok(Self { listener, listen, router, token })
    }

    /// Listens for whoever asks for a worker's metrics, and whether it lives.
    #[cfg(feature = "worker")]
    pub(crate) fn bind_probes(listen: SocketAddr, token: Option<&str>, worker: Pulse) -> Result<Self> {
        let mut access = Access::host_decides();
        if let Some(token) = token {
            access = access.metrics_token(token)?;
        }
        let (listener, listen) = bind(listen)?;
        // Others reach it by names that nobody here knows; a browser of this machine reaches it by few.
        if listen.ip().is_loopback() {
            access = access.on_listener(listen, &[])?;
        }
        let router = access.protect(crate::probes::of_worker(worker));
        Ok(Self { listener, listen, router, token: None })
    }

    /// The address to open, with the token that was made for this run.
    pub fn url(&self) -> String {
        let token = self.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        format!("http://{}/{token}", self.listen)
    }

    /// Serves on a runtime of its own until `stop` is done.
    ///
    /// # Errors
    /// [`Error::Serve`] when there is no runtime or no listener.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let failed = |source| Error::Serve { listen: self.listen, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("taskmq-admin")
            .enable_all()
            .build()
            .map_err(failed)?;
        let served = runtime.block_on(serve(self.listener, self.router, stop)).map_err(failed);
        runtime.shutdown_timeout(FAREWELL);
        served
    }
}

fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |source| Error::Serve { listen, source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;
    Ok((listener, listen))
}

/// Who comes in, and the token if it was made for this run.
fn access(args: &ServeArgs) -> Result<(Access, Option<String>)> {
    let mut access = match &args.password_file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })?;
            Some(Access::password(text.lines().next().unwrap_or_default())?)
        }
        None => None,
    };
    if let Some(token) = &args.token {
        access = Some(access.unwrap_or_else(Access::host_decides).or_token(token)?);
    }
    let mut made = None;
    let access = match access {
        Some(access) => access,
        None if args.trust_proxy => Access::host_decides(),
        None if args.listen.ip().is_loopback() => Access::token(made.insert(random_token()?))?,
        None => return Err(Error::Unprotected { listen: args.listen }),
    };
    let access = match &args.metrics_token {
        Some(token) => access.metrics_token(token)?,
        None => access,
    };
    Ok((access.trust_proxy(args.trust_proxy), made))
}

async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_HEAD)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(100);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let client = Arc::clone(&clients).acquire_owned().await;
            (client, listener.accept().await)
        };
        let (client, stream, peer) = tokio::select! {
            () = &mut stop => break,
            (client, accepted) = accept => match accepted {
                Ok((stream, peer)) => (client, stream, peer),
                Err(error) => {
                    // Too many open files, for instance: others of this process may close theirs.
                    tracing::warn!("the admin cannot accept a client: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let service = router.clone().layer(Extension(ConnectInfo(peer)));
        let service = TowerToHyperService::new(service.map_request(|request: hyper::Request<Incoming>| {
            let request: Request = request.map(axum::body::Body::new);
            request
        }));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What goes wrong here is the client's: it was too slow, spoke no HTTP, or went away.
            let _ = connection.await;
            drop(client);
        });
    }
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    Ok(())
}
