/// What can go wrong with the admin before it serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The queue's own words.
    #[error(transparent)]
    Queue(#[from] taskmq_core::Error),
    /// A token that could be guessed, or that does not fit into an address.
    #[error("a token needs at least {shortest} characters, all letters, digits or one of - . _ ~")]
    Token {
        /// The fewest characters.
        shortest: usize,
    },
    /// A password that is none, or a hash that cannot be read.
    #[error("the password cannot be used: {0}")]
    Password(String),
    /// What is no host's name.
    #[error("{name:?} is no host's name: write it as in queue.example.org or queue.example.org:8443")]
    Host {
        /// What was given.
        name: String,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// Others could reach the admin, and nothing would keep them out.
    #[error(
        "{listen} can be reached from other machines: give a password (--password-file) or a token \
         (TASKMQ_ADMIN_TOKEN), or --trust-proxy when a proxy before it decides who comes in"
    )]
    Unprotected {
        /// The address.
        listen: std::net::SocketAddr,
    },
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server cannot run.
    #[error("cannot serve the admin on {listen}: {source}")]
    Serve {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the admin gives.
pub type Result<T> = std::result::Result<T, Error>;
