//! The style sheet, the script and the icon; whoever has them once asks again only when they have changed.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use crate::view::layout::ICON;

const STYLE: &str = include_str!("../../assets/admin.css");
const SCRIPT: &str = include_str!("../../assets/admin.js");

/// The same for the same text (FNV-1a).
const fn mark(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

pub(crate) fn style() -> String {
    format!("assets/admin.css?{:x}", const { mark(STYLE) })
}

pub(crate) fn script() -> String {
    format!("assets/admin.js?{:x}", const { mark(SCRIPT) })
}

pub(crate) async fn css() -> impl IntoResponse {
    asset("text/css; charset=utf-8", STYLE)
}

pub(crate) async fn js() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

pub(crate) async fn icon() -> impl IntoResponse {
    asset("image/svg+xml", ICON.0)
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text)
}
