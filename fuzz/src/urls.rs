use crate::{Backend, database_url};

/// A `DATABASE_URL`: what has a password shows none of it.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (
        Backend::of_url(text),
        database_url::without_password(text),
        database_url::cannot_connect(text, text),
    );
    if text.contains("HIDDEN") || text.contains(['?', '&', '=', '@']) {
        return;
    }
    for scheme in ["postgres", "mysql", "sqlite"] {
        for url in [
            format!("{scheme}://u:{text}HIDDEN{text}@h:1/db"),
            format!("{scheme}://u@h/db?password={text}HIDDEN@{text}"),
        ] {
            assert!(!database_url::without_password(&url).contains("HIDDEN"), "{url}");
            let error = database_url::cannot_connect(&url, &format!("no such host \"{url}\"")).to_string();
            assert!(!error.contains("HIDDEN"), "{url}: {error}");
        }
    }
}
