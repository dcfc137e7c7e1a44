//! Which functions can be consumers, and what each parameter is.

use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Pat, Result, Type, TypeReference};

use crate::options::add;

pub(crate) struct Handler {
    /// The type that the payload is decoded to.
    pub(crate) payload: Type,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) connection: Option<Connection>,
    pub(crate) is_async: bool,
}

pub(crate) enum Parameter {
    Payload,
    Context,
    State(Box<Type>),
    Connection,
}

#[derive(Clone, Copy)]
pub(crate) enum Connection {
    Sqlite,
    Postgres,
    Mysql,
}

pub(crate) fn accept(function: &ItemFn) -> Result<Handler> {
    let mut errors = None;
    refuse_kinds(function, cfg!(feature = "async"), &mut errors);
    let mut payload: Option<Type> = None;
    let mut connection = None;
    let mut parameters = Vec::new();
    for argument in &function.sig.inputs {
        match parameter(argument) {
            Ok((Parameter::Payload, ty)) => {
                if payload.is_some() {
                    add(
                        &mut errors,
                        Error::new(ty.span(), "a consumer takes one payload, put both into one struct"),
                    );
                }
                payload.get_or_insert(ty.clone());
                parameters.push(Parameter::Payload);
            }
            Ok((Parameter::Connection, ty)) => {
                if connection.is_some() {
                    add(&mut errors, Error::new(ty.span(), "a consumer takes one connection"));
                }
                match which_connection(ty) {
                    Some(which) => connection = Some(which),
                    None => add(
                        &mut errors,
                        Error::new(
                            ty.span(),
                            "only a connection can be taken by `&mut`, write `&mut SqliteConnection`, `&mut PgConnection` or \
                             `&mut MysqlConnection` (shared state is taken as `&T`)",
                        ),
                    ),
                }
                parameters.push(Parameter::Connection);
            }
            Ok((other, _)) => parameters.push(other),
            Err(error) => add(&mut errors, error),
        }
    }
    if let (Some(_), Some(asyncness)) = (connection, function.sig.asyncness) {
        let text = "a transactional consumer must be a plain fn: Diesel's connections are synchronous";
        add(&mut errors, Error::new(asyncness.span(), text));
    }
    let is_async = function.sig.asyncness.is_some();
    match (errors, payload) {
        (Some(errors), _) => Err(errors),
        (None, Some(payload)) => Ok(Handler { payload, parameters, connection, is_async }),
        (None, None) => {
            let name = &function.sig.ident;
            let text = format!(
                "a consumer takes the payload as a parameter by value, write `fn {name}(message: MyMessage)`"
            );
            Err(Error::new(function.sig.paren_token.span.join(), text))
        }
    }
}

fn refuse_kinds(function: &ItemFn, async_enabled: bool, errors: &mut Option<Error>) {
    let signature = &function.sig;
    let mut refuse = |span, text: &str| add(errors, Error::new(span, text));
    if let Some(token) = signature.asyncness
        && !async_enabled
    {
        refuse(
            token.span(),
            "async consumers need the feature `async` of taskmq-core: cargo add taskmq-core --features async",
        );
    }
    if let Some(token) = signature.constness {
        refuse(token.span(), "a consumer cannot be a const fn, remove `const`");
    }
    if let Some(token) = signature.unsafety {
        refuse(token.span(), "a consumer cannot be an unsafe fn, remove `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        refuse(abi.span(), "a consumer cannot have another ABI, remove `extern`");
    }
    if !signature.generics.params.is_empty() {
        refuse(
            signature.generics.params.span(),
            "a consumer cannot be generic, write the types of its message",
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        refuse(clause.span(), "a consumer cannot be generic, remove the where clause");
    }
    if let Some(variadic) = &signature.variadic {
        refuse(variadic.span(), "a consumer cannot be variadic");
    }
}

fn parameter(argument: &FnArg) -> Result<(Parameter, &Type)> {
    let typed = match argument {
        FnArg::Receiver(receiver) => {
            let text =
                "a consumer is a free function, take what it needs of `self` as shared state: `app: &App`";
            return Err(Error::new(receiver.span(), text));
        }
        FnArg::Typed(typed) => typed,
    };
    match &*typed.ty {
        Type::Reference(TypeReference { lifetime: Some(lifetime), .. }) => {
            Err(Error::new(lifetime.span(), "a consumer's parameters have no lifetimes, remove it"))
        }
        Type::Reference(TypeReference { mutability, elem, .. }) => {
            if is_context(elem) {
                return match mutability {
                    Some(token) => Err(Error::new(token.span(), "the context is shared, write `&Context`")),
                    None => Ok((Parameter::Context, elem)),
                };
            }
            if mutability.is_some() {
                return Ok((Parameter::Connection, elem));
            }
            match &**elem {
                Type::Path(path) if path.path.is_ident("str") => {
                    Err(Error::new(typed.ty.span(), "the payload is taken by value, write `String`"))
                }
                Type::Slice(_) => {
                    Err(Error::new(typed.ty.span(), "the payload is taken by value, write `Vec<...>`"))
                }
                Type::ImplTrait(_) | Type::TraitObject(_) => {
                    Err(Error::new(elem.span(), "shared state has one type, write that type"))
                }
                elem => Ok((Parameter::State(Box::new(elem.clone())), elem)),
            }
        }
        Type::ImplTrait(_) => {
            Err(Error::new(typed.ty.span(), "a consumer cannot be generic, write the type of its message"))
        }
        ty if is_context(ty) && matches!(&*typed.pat, Pat::Ident(_)) => {
            Err(Error::new(ty.span(), "the context is lent, write `&Context`"))
        }
        ty => Ok((Parameter::Payload, ty)),
    }
}

fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last().map(|s| s.ident.to_string()),
        _ => None,
    }
}

fn is_context(ty: &Type) -> bool {
    last_segment(ty).as_deref() == Some("Context")
}

fn which_connection(ty: &Type) -> Option<Connection> {
    match last_segment(ty)?.as_str() {
        "SqliteConnection" => Some(Connection::Sqlite),
        "PgConnection" => Some(Connection::Postgres),
        "MysqlConnection" => Some(Connection::Mysql),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_needs_the_feature() {
        let function: ItemFn = syn::parse_quote!(
            async fn play(n: u32) {}
        );
        let mut errors = None;
        refuse_kinds(&function, false, &mut errors);
        assert!(errors.expect("refused").to_string().contains("feature `async` of taskmq-core"));
        let mut errors = None;
        refuse_kinds(&function, true, &mut errors);
        assert!(errors.is_none());
    }
}
