//! What changes while one looks, sent as it changes.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use maud::Markup;

use crate::fields::Fields;
use crate::page::Page;
use crate::pages::{changes, message, overview, topic, workers, workflows};
use crate::problem::Problem;

const EVERY: Duration = Duration::from_secs(1);

/// The live part of a page once a second, if it looks different.
pub(crate) async fn live(mut page: Page, fields: Fields) -> impl IntoResponse {
    // The browser puts it into a page whose way to the admin may be another.
    if let Some(root) = fields
        .get("root")
        .filter(|root| root.len() < 100 && !root.starts_with('/') && !root.contains([':', '\\']))
    {
        root.clone_into(&mut page.root);
    }
    let stream =
        futures_util::stream::unfold((page, fields, String::new()), |(page, fields, last)| async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let now = match part(&page, &fields).await {
                    Ok(part) => part.into_string(),
                    Err(Problem::NotFound) => return None,
                    // It may be there again in a second; until then what was shown stays.
                    Err(_) => continue,
                };
                if now != last {
                    let event = Event::default().data(now.replace('\r', ""));
                    return Some((Ok::<_, Infallible>(event), (page, fields, now)));
                }
            }
        });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn part(page: &Page, fields: &Fields) -> Result<Markup, Problem> {
    match fields.get("of") {
        Some("overview") => overview::part(page, fields).await,
        Some("topic") => topic::part(page, fields.get("name").unwrap_or_default()).await,
        Some("message") => message::part(page, fields.parse("id").ok_or(Problem::NotFound)?).await,
        Some("workers") => workers::part(page).await,
        Some("workflow") => workflows::part(page, fields.parse("id").ok_or(Problem::NotFound)?).await,
        Some("change") => changes::part(page, fields.parse("id").ok_or(Problem::NotFound)?),
        _ => Err(Problem::NotFound),
    }
}
