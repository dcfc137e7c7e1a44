//! A line between a worker and its server that can be made to drop everything.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Passes connections on to a server. Nobody is told when it swallows: connections stay open, and new ones are taken.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    swallows: AtomicBool,
    /// Both ends of every connection, so that none is closed before the proxy is dropped.
    ends: Mutex<Vec<TcpStream>>,
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
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for end in self.line.ends.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = end.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Line {
    fn connect(self: &Arc<Self>, client: TcpStream, server: &str) -> io::Result<()> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push(client.try_clone()?);
        if self.swallows.load(Ordering::Acquire) {
            return Ok(());
        }
        let server = TcpStream::connect(server)?;
        ends.push(server.try_clone()?);
        let silent = Arc::<AtomicBool>::default();
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let (line, silent) = (Arc::clone(self), Arc::clone(&silent));
            thread::spawn(move || line.pass(from, to, &silent));
        }
        Ok(())
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
        let mut bytes = [0; 16 * 1024];
        while let Ok(number) = from.read(&mut bytes) {
            if self.swallows.load(Ordering::Acquire) {
                silent.store(true, Ordering::Release);
            }
            let lost = silent.load(Ordering::Acquire);
            if number == 0 {
                if !lost {
                    let _ = to.shutdown(std::net::Shutdown::Both);
                }
                return;
            }
            if !lost && to.write_all(&bytes[..number]).is_err() {
                return;
            }
        }
    }
}
