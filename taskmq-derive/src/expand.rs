//! What is written for a consumer. Nothing is refused here any more.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Ident, ItemFn};

use crate::handler::{Connection, Handler, Parameter};
use crate::options::{Options, Retention};

pub(crate) fn consumer(function: &ItemFn, options: &Options, handler: &Handler) -> TokenStream {
    let (name, vis, krate) = (&function.sig.ident, &function.vis, &options.krate);
    let (topic, payload) = (&options.topic, &handler.payload);
    let about = format!(
        "The producer and the registration of the consumer [`fn@{name}`] of topic `{}`.",
        topic.value()
    );
    let priority = options.priority.map(|priority| quote!(.priority(#priority)));
    let new = constructor(function, options, handler);
    let settings = settings(options, handler);
    quote! {
        #function

        #[doc = #about]
        #[allow(non_camel_case_types, dead_code, missing_debug_implementations, clippy::manual_non_exhaustive)]
        #vis struct #name {}

        #[allow(dead_code, clippy::needless_pass_by_value)]
        impl #name {
            /// The topic whose messages it takes.
            pub const TOPIC: &'static str = #topic;

            /// A message for this consumer; it is stored when `produce` is called on it.
            pub fn message(payload: &#payload) -> #krate::NewMessage<'static> {
                #krate::NewMessage::new(Self::TOPIC, payload) #priority
            }

            /// This consumer, for a registry that is put together by hand.
            pub fn consumer() -> #krate::Consumer {
                #new #settings
            }
        }

        #krate::private::inventory::submit! {
            #krate::private::Registration(#name::consumer)
        }
    }
}

/// The function as it is and the errors; with the struct, so that its users do not fail as well.
pub(crate) fn refused(function: &ItemFn, options: Option<Error>, handler: Option<Error>) -> TokenStream {
    let (name, vis) = (&function.sig.ident, &function.vis);
    let errors = options.into_iter().chain(handler).map(|e| e.to_compile_error());
    if function.sig.receiver().is_some() {
        // Inside an `impl` there can be no struct.
        return quote!(#function #(#errors)*);
    }
    quote! {
        #function
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #name {}
        #(#errors)*
    }
}

fn constructor(function: &ItemFn, options: &Options, handler: &Handler) -> TokenStream {
    let (name, krate) = (&function.sig.ident, &options.krate);
    // Names that cannot be taken for the function's own: it may be called `payload`.
    let mine = |name: &str| Ident::new(name, Span::mixed_site());
    let [call, payload, connection, returned] = ["call", "payload", "connection", "returned"].map(mine);
    let path = quote!(::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)));
    let ty = &handler.payload;
    // Errors about the payload's type (it does not implement Deserialize) point at the type in the signature.
    let decode = quote_spanned!(ty.span()=> #call.payload::<#ty>()?);
    let arguments = handler.parameters.iter().enumerate().map(|(index, parameter)| match parameter {
        Parameter::Payload => quote!(#payload),
        Parameter::Context => quote!(#call.context()),
        Parameter::State(_) => {
            let state = mine(&format!("state_{index}"));
            quote!(#state)
        }
        Parameter::Connection => quote!(#connection),
    });
    let states = handler.parameters.iter().enumerate().filter_map(|(index, parameter)| {
        let Parameter::State(ty) = parameter else { return None };
        let state = mine(&format!("state_{index}"));
        Some(quote!(let #state = #call.state::<#ty>()?;))
    });
    let prepare = quote! {
        #[allow(unused_imports)]
        use #krate::private::ReturnedValue as _;
        let #payload = #decode;
        #(#states)*
    };
    let result = quote!(#name(#(#arguments),*));
    // Errors about what it returns point at the return type.
    let span = match &function.sig.output {
        syn::ReturnType::Default => name.span(),
        syn::ReturnType::Type(_, ty) => ty.span(),
    };
    let outcome = |value: TokenStream| quote_spanned!(span=> #krate::private::Returned(#value).outcome());
    match handler.connection {
        None if handler.is_async => {
            let outcome = outcome(quote!(#returned));
            quote! {
                #krate::Consumer::new_async(Self::TOPIC, #path, |#call| ::std::boxed::Box::pin(async move {
                    #prepare
                    let #returned = #result.await;
                    #outcome
                }))
            }
        }
        None => {
            let outcome = outcome(quote!(#returned));
            quote! {
                #krate::Consumer::new(Self::TOPIC, #path, |#call| {
                    #prepare
                    #[allow(clippy::let_unit_value)]
                    let #returned = #result;
                    #outcome
                })
            }
        }
        Some(kind) => {
            let which = match kind {
                Connection::Sqlite => quote!(Sqlite),
                Connection::Postgres => quote!(Postgres),
                Connection::Mysql => quote!(Mysql),
            };
            let outcome = outcome(quote!(#returned));
            quote! {
                #krate::Consumer::new_transactional(Self::TOPIC, #path, #krate::Backend::#which, |#call, #connection| {
                    let #krate::AnyConnection::#which(#connection) = #connection else {
                        return ::core::result::Result::Err(#krate::Failure::dead("its connection is to another kind of database"));
                    };
                    #prepare
                    #[allow(clippy::let_unit_value)]
                    let #returned = #result;
                    #outcome
                })
            }
        }
    }
}

fn settings(options: &Options, handler: &Handler) -> TokenStream {
    let krate = &options.krate;
    let schedule = schedule(options, handler);
    let max_attempts = options.max_attempts.map(|n| quote!(.max_attempts(#n)));
    let timeout = options.timeout.map(duration).map(|time| quote!(.timeout(#time)));
    let backoff = options.backoff.map(|(first, longest)| {
        let (first, longest) = (duration(first), duration(longest));
        quote!(.backoff(#first, #longest))
    });
    let ageing = options.ageing.map(duration).map(|time| quote!(.ageing(#time)));
    let retention = options.retention.as_ref().map(|retention| match retention {
        Retention::None => quote!(.retention(#krate::Retention::None)),
        Retention::For(time) => {
            let time = duration(*time);
            quote!(.retention(#krate::Retention::For(#time)))
        }
        Retention::Forever => quote!(.retention(#krate::Retention::Forever)),
    });
    let states = handler.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::State(ty) => Some(quote!(.needs_state::<#ty>())),
        _ => None,
    });
    let payload = &handler.payload;
    let reads = quote_spanned!(payload.span()=> .reads::<#payload>());
    // So does the error about one without a schema.
    let schema = options.schema.then(|| quote_spanned!(payload.span()=> .schema::<#payload>()));
    quote!(.at(::core::file!(), ::core::line!()) #reads #schema #max_attempts #timeout #backoff #ageing #retention #schedule #(#states)*)
}

fn schedule(options: &Options, handler: &Handler) -> Option<TokenStream> {
    let cron = options.schedule.as_ref()?;
    let time_zone = options.time_zone.as_ref().map_or_else(|| quote!("UTC"), |zone| quote!(#zone));
    let ty = &handler.payload;
    let payload = match &options.payload {
        Some(payload) => quote!(#payload),
        // The error about a type without a default points at the type.
        None => quote_spanned!(ty.span()=> <#ty as ::core::default::Default>::default()),
    };
    let unique = options.unique.as_ref().map(|key| quote!(.unique(#key)));
    Some(quote!(.schedule(#cron, #time_zone, || {
        let payload: #ty = #payload;
        Self::message(&payload) #unique
    })))
}

fn duration(time: Duration) -> TokenStream {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}
