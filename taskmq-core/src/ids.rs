use crate::{Error, Result};

/// A fresh incarnation id: positive, from the operating system's random numbers, so it is never met twice, not
/// even after a database was set back to an older state (a sequence would be).
pub(crate) fn incarnation() -> Result<i64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok((i64::from_ne_bytes(bytes) & i64::MAX).max(1))
}
