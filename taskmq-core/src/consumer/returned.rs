use std::any::Any;
use std::fmt::Display;

use serde::Serialize;

use super::call::HandlerResult;
use super::failure::Failure;

/// What a handler returned. `Returned(value).outcome()` finds the inherent method for a `Result` and the trait's
/// for everything else, so that both may be returned although `Result` can be serialised as well.
#[derive(Debug)]
pub struct Returned<T>(pub T);

impl<T: Serialize, E: Display + 'static> Returned<Result<T, E>> {
    /// The result to keep, or the failure.
    ///
    /// # Errors
    /// The handler's own.
    pub fn outcome(self) -> HandlerResult {
        match self.0 {
            Ok(value) => keep(&value),
            Err(error) => Err(match (&error as &dyn Any).downcast_ref::<Failure>() {
                Some(failure) => failure.clone(),
                None => Failure::new(error),
            }),
        }
    }
}

/// See [`Returned`].
pub trait ReturnedValue {
    /// The result to keep.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn outcome(self) -> HandlerResult;
}

impl<T: Serialize> ReturnedValue for Returned<T> {
    fn outcome(self) -> HandlerResult {
        keep(&self.0)
    }
}

fn keep<T: Serialize>(value: &T) -> HandlerResult {
    let json = serde_json::to_string(value)
        .map_err(|e| Failure::dead(format!("it ran, but its result cannot be written as JSON: {e}")))?;
    Ok((json != "null").then_some(json))
}
