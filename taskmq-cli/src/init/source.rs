//! Adds `mod` lines to a Rust file, and touches nothing else in it.

use std::path::Path;

use syn::ext::IdentExt;
use syn::spanned::Spanned;

use crate::error::{Error, Result};

/// Whether the file has this module, be it in another file or in this one.
pub(crate) fn declares(path: &Path, text: &str, module: &str) -> Result<bool> {
    Ok(has_module(&parse(path, text)?, module))
}

fn has_module(file: &syn::File, name: &str) -> bool {
    file.items.iter().any(|item| matches!(item, syn::Item::Mod(module) if module.ident.unraw() == name))
}

fn parse(path: &Path, text: &str) -> Result<syn::File> {
    syn::parse_file(text.trim_start_matches('\u{feff}')).map_err(|e| {
        Error::Refused(format!(
            "{} is no valid Rust ({e} at line {}): mend it first",
            path.display(),
            e.span().start().line
        ))
    })
}

/// The file's new text with these modules declared; the old text when it has them.
pub(crate) fn with_modules(path: &Path, text: &str, modules: &[&str], declaration: &str) -> Result<String> {
    let code = text.trim_start_matches('\u{feff}');
    let file = parse(path, text)?;
    let missing: Vec<&str> = modules.iter().copied().filter(|name| !has_module(&file, name)).collect();
    if missing.is_empty() {
        return Ok(text.to_owned());
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines: String = missing.iter().map(|name| format!("{declaration} {name};{newline}")).collect();
    // After the last `mod` line; else before the first item; else at the end.
    let is_file = |item: &&syn::Item| matches!(item, syn::Item::Mod(module) if module.content.is_none());
    let last_module = file.items.iter().rfind(is_file);
    let (line, blank) = match (last_module, file.items.first()) {
        (Some(module), _) => (module.span().end().line, false),
        (None, Some(item)) => (item.span().start().line.saturating_sub(1), true),
        (None, None) => (code.lines().count(), false),
    };
    let mut out = String::with_capacity(text.len() + lines.len());
    out.push_str(&text[..text.len() - code.len()]);
    let mut rest = code;
    for _ in 0..line {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    if !out.is_empty() && !out.ends_with('\n') && !out.ends_with('\u{feff}') {
        out.push_str(newline);
    }
    out.push_str(&lines);
    if blank {
        out.push_str(newline);
    }
    out.push_str(rest);
    // What shares its line with a comment or another item may have them in it.
    let edited = syn::parse_file(out.trim_start_matches('\u{feff}')).ok();
    let are_declared = edited.is_some_and(|edited| {
        edited.items.len() == file.items.len() + missing.len()
            && missing.iter().all(|name| has_module(&edited, name))
    });
    if are_declared {
        Ok(out)
    } else {
        Err(Error::Refused(format!(
            "{} has something else where they belong, at line {}: add these lines by hand:\n{lines}",
            path.display(),
            line.max(1)
        )))
    }
}
