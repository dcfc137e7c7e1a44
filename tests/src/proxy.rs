//! A line between a program and its server that can be made slow, to drop everything, or to break.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Passes connections on to a server. Nobody is told when it swallows: connections stay open, and new ones are taken.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    swallows: AtomicBool,
    refuses: AtomicBool,
    /// When each connection was asked for.
    attempts: Mutex<Vec<Instant>>,
    lag_millis: AtomicU64,
    /// So many pieces have come, in both directions.
    pieces: AtomicU64,
    strike: Mutex<Option<Strike>>,
    connections: Mutex<Connections>,
}

/// What is done instead of passing on the piece of this number.
struct Strike {
    piece: u64,
    strike: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", self.piece)
    }
}

/// Both ends of every connection, so that none is closed before it is done with.
#[derive(Debug, Default)]
struct Connections {
    next: u64,
    ends: HashMap<u64, Vec<TcpStream>>,
}

impl Proxy {
    /// One before the server of this URL, on a port of its own.
    ///
    /// # Errors
    /// When no port can be had, or the URL names none.
    pub fn before(url: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let here = listener.local_addr()?.to_string();
        let after_host = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        let server = after_host.split('/').next().unwrap_or_default().to_owned();
        let line = Arc::<Line>::default();
        let proxy = Self { url: url.replacen(&server, &here, 1), line: Arc::clone(&line) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // What goes wrong here looks to the client as if the server had gone.
                let _ = line.connect(client, &server);
            }
        });
        Ok(proxy)
    }

    /// The way to the server's database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on everything is dropped, or nothing more. A connection that lost anything stays silent for ever.
    pub fn swallow(&self, swallows: bool) {
        self.line.swallows.store(swallows, Ordering::Release);
    }

    /// From now on every connection breaks, and each new one as soon as it is made, or no more. So is a server that is gone,
    /// with something before it that still takes connections.
    pub fn refuse(&self, refuses: bool) {
        self.line.refuses.store(refuses, Ordering::Release);
        if refuses {
            self.reset();
        }
    }

    /// When connections were asked for since then.
    pub fn attempts_since(&self, then: Instant) -> Vec<Instant> {
        self.line.attempts().iter().copied().filter(|at| *at >= then).collect()
    }

    /// From now on whatever is sent, in either direction, comes this much later, and what follows it waits.
    pub fn lag(&self, lag: Duration) {
        self.line.lag_millis.store(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// So many pieces have come in all, in both directions: with small messages each is a request or an answer.
    pub fn pieces(&self) -> u64 {
        self.line.pieces.load(Ordering::Acquire)
    }

    /// Instead of passing on the piece of this number (1 is the first), does this. Whoever sent it is to know no more of
    /// the other end, nor the other end of it.
    pub fn strike_at(&self, piece: u64, strike: impl FnOnce() + Send + 'static) {
        *self.line.strike() = Some(Strike { piece, strike: Box::new(strike) });
    }

    /// Breaks every connection, and tells both ends.
    pub fn reset(&self) {
        for end in self.line.connections().ends.drain().flat_map(|(_, ends)| ends) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.reset();
    }
}

impl Line {
    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strike(&self) -> std::sync::MutexGuard<'_, Option<Strike>> {
        self.strike.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream, server: &str) -> io::Result<()> {
        self.attempts().push(Instant::now());
        if self.refuses.load(Ordering::Acquire) {
            return Ok(());
        }
        let server =
            if self.swallows.load(Ordering::Acquire) { None } else { Some(TcpStream::connect(server)?) };
        let mut ends = vec![client.try_clone()?];
        if let Some(server) = &server {
            ends.push(server.try_clone()?);
        }
        let id = {
            let mut connections = self.connections();
            connections.next += 1;
            let id = connections.next;
            connections.ends.insert(id, ends);
            id
        };
        let Some(server) = server else {
            let line = Arc::clone(self);
            let mut client = client;
            thread::spawn(move || {
                let _ = io::copy(&mut client, &mut io::sink());
                line.connections().ends.remove(&id);
            });
            return Ok(());
        };
        let silent = Arc::<AtomicBool>::default();
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let (line, silent) = (Arc::clone(self), Arc::clone(&silent));
            thread::spawn(move || {
                line.pass(from, to, &silent);
                line.connections().ends.remove(&id);
            });
        }
        Ok(())
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
        let mut bytes = [0; 16 * 1024];
        loop {
            // An end that died with something unread is gone as much as one that closed.
            let number = from.read(&mut bytes).unwrap_or(0);
            if self.swallows.load(Ordering::Acquire) {
                silent.store(true, Ordering::Release);
            }
            let piece = self.pieces.fetch_add(1, Ordering::AcqRel) + 1;
            let strike = self.strike().take_if(|strike| strike.piece <= piece);
            if let Some(Strike { strike, .. }) = strike {
                silent.store(true, Ordering::Release);
                strike();
            }
            let lost = silent.load(Ordering::Acquire);
            thread::sleep(Duration::from_millis(self.lag_millis.load(Ordering::Acquire)));
            if number == 0 {
                if !lost {
                    let _ = to.shutdown(Shutdown::Both);
                }
                return;
            }
            if !lost && to.write_all(&bytes[..number]).is_err() {
                return;
            }
        }
    }
}
