use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::Result;

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// As the server ships: a commit survives the loss of power.
    #[default]
    Shipped,
    /// Faster: a commit survives the death of the server, but not of the machine.
    Relaxed,
}

/// Where a server lives.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its data, socket and log are in here.
    pub folder: &'a Path,
    /// On 127.0.0.1.
    pub port: u16,
}

/// What [`Server`](crate::Server) has to know of one kind of server.
pub trait Kind: Sized {
    /// For messages.
    const NAME: &'static str;
    /// The user it runs as when this process is root.
    const ACCOUNT: &'static str;
    /// The signal that ends it in order.
    const STOP: Signal;
    /// The signal that ends it at once when nobody needs its data any more.
    const ABANDON: Signal;
    /// What its log says when it cannot start yet, because remains of the server before it are still ending.
    const TOO_SOON: &'static [&'static str];

    /// Finds the programs.
    ///
    /// # Errors
    /// [`Error::Missing`](crate::Error::Missing) names the one that is not installed.
    fn find(durability: Durability) -> Result<Self>;

    /// Makes the data.
    fn initialize(&self, site: Site<'_>) -> Command;
    /// Serves, in the foreground.
    fn serve(&self, site: Site<'_>) -> Command;
    /// Succeeds when the server takes connections.
    fn ping(&self, site: Site<'_>) -> Command;
    /// Runs SQL in a database and prints the rows, tabs between the columns.
    fn sql(&self, site: Site<'_>, database: Option<&str>, sql: &str) -> Command;
    /// What Diesel connects to: the server without a database, for a slash and a database's name to be added.
    fn url(&self, site: Site<'_>) -> String;
}
