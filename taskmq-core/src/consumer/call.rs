use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::context::Context;
use super::failure::Failure;

/// A handler's outcome: the result to keep as JSON text, or why it failed.
pub type HandlerResult = std::result::Result<Option<String>, Failure>;

/// What an `async` handler gives.
#[cfg(feature = "async")]
pub type HandlerFuture<'a> = std::pin::Pin<Box<dyn std::future::Future<Output = HandlerResult> + Send + 'a>>;

/// The application's shared state, one value of each type.
pub(crate) type States = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// One call of a handler: what its parameters are taken from.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) payload: &'a str,
    pub(crate) context: &'a Context,
    pub(crate) states: &'a States,
}

impl<'a> Call<'a> {
    /// The message's payload as the handler's type.
    ///
    /// # Errors
    /// A [`Failure`] that dead-letters the message at once: what does not fit today will not fit tomorrow.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(self.payload).map_err(|e| Failure::payload(type_name::<T>(), &e))
    }

    /// What the handler may ask about its message.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// The application's shared state of type `T`.
    ///
    /// # Errors
    /// A [`Failure`] when the worker has none; it checks that before it starts.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&'a T, Failure> {
        self.states
            .get(&TypeId::of::<T>())
            .and_then(|state| state.downcast_ref())
            .ok_or_else(|| Failure::new(format!("the worker has no state of type {}", type_name::<T>())))
    }
}
