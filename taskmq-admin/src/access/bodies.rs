//! What a request brings, if it is not too large and does not take too long.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::response::Response;
use taskmq_core::limits::MAX_PAYLOAD_BYTES;

use super::refuse;

/// The largest payload as a form has it, each byte as `%XX`, and the form around it.
const LARGEST: usize = 3 * MAX_PAYLOAD_BYTES + 64 * 1024;
/// What anybody may send: a secret, and where it is to lead.
const LARGEST_SIGN_IN: usize = 16 * 1024;
/// A body that takes longer is not waited for.
const SLOWEST: Duration = Duration::from_secs(30);

pub(super) async fn bounded(parts: &Parts, body: Body) -> Result<Body, Box<Response>> {
    let largest = if parts.uri.path() == "/sign-in" { LARGEST_SIGN_IN } else { LARGEST };
    let announced =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > largest as u64) {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than any that is taken here.");
    }
    match tokio::time::timeout(SLOWEST, to_bytes(body, largest)).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(_)) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is larger than any that is taken here, or was cut off.",
        ),
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive."),
    }
}
