//! Colours and language, kept in cookies of the browser.

use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::Response;

use crate::fields::Posted;
use crate::page::{FIRST, LANGUAGE, Page, THEME};

pub(crate) async fn choose(page: Page, Posted(fields): Posted) -> Response {
    // It begins with the way to the admin, so it leads nowhere else.
    let back = fields.get("back").filter(|back| back.is_ascii() && !back.contains(char::is_control));
    let mut response = page.redirect(back.unwrap_or(FIRST));
    let chosen = [
        (THEME, fields.get("theme"), &["auto", "light", "dark"][..]),
        (LANGUAGE, fields.get("language"), &["en", "zh"]),
    ];
    for (name, value, allowed) in chosen {
        // No path: it is for where the admin is mounted, which only the browser knows.
        if let Some(value) = value.filter(|value| allowed.contains(value))
            && let Ok(cookie) =
                HeaderValue::from_str(&format!("{name}={value}; Max-Age=31536000; SameSite=Lax; HttpOnly"))
        {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}
