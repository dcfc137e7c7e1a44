//! The `#[task_consumer]` attribute of [taskmq](https://docs.rs/taskmq-core); use it as `taskmq_core::task_consumer`,
//! where it is documented.

mod expand;
mod handler;
mod options;

use proc_macro::TokenStream;
use syn::ItemFn;

/// Makes a function the consumer of a topic, and gives it a typed producer.
///
/// `#[task_consumer(topic = "yace")] fn play(test: LoadTest)` leaves the function as it is, registers it as the
/// consumer of the topic, and adds `play::message(&LoadTest)`, `play::consumer()` and `play::TOPIC`.
#[proc_macro_attribute]
pub fn task_consumer(options: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let item = proc_macro2::TokenStream::from(item);
            let error =
                syn::Error::new(error.span(), "#[task_consumer] stands on a plain `fn` or `async fn`")
                    .to_compile_error();
            return quote::quote!(#item #error).into();
        }
    };
    let options = options::parse(options.into());
    let handler = handler::accept(&function);
    match (options, handler) {
        (Ok(options), Ok(handler)) => expand::consumer(&function, &options, &handler),
        (options, handler) => expand::refused(&function, options.err(), handler.err()),
    }
    .into()
}
