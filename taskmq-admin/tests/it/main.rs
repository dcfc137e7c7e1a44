//! The pages on every database.
