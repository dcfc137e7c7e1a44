/// What can go wrong with the admin before it serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The queue's own words.
    #[error(transparent)]
    Queue(#[from] taskmq_core::Error),
}

/// What the admin gives.
pub type Result<T> = std::result::Result<T, Error>;
