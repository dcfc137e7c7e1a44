//! The `#[task_consumer]` attribute of [taskmq](https://docs.rs/taskmq-core); use it as `taskmq_core::task_consumer`,
//! where it is documented.

mod expand;
mod handler;
mod options;

use proc_macro2::TokenStream;
use syn::ItemFn;

/// Makes a function the consumer of a topic, and gives it a typed producer.
///
/// `#[task_consumer(topic = "yace")] fn play(test: LoadTest)` leaves the function as it is, registers it as the
/// consumer of the topic, and adds `play::message(&LoadTest)`, `play::consumer()` and `play::TOPIC`.
#[proc_macro_attribute]
pub fn task_consumer(
    options: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    consumer(options.into(), item.into()).into()
}

fn consumer(options: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error =
                syn::Error::new(error.span(), "#[task_consumer] stands on a plain `fn` or `async fn`")
                    .to_compile_error();
            return quote::quote!(#item #error);
        }
    };
    let options = options::parse(options);
    let handler = handler::accept(&function);
    match (options, handler) {
        (Ok(options), Ok(handler)) => expand::consumer(&function, &options, &handler),
        (options, handler) => expand::refused(&function, options.err(), handler.err()),
    }
}

#[cfg(test)]
mod tests;
