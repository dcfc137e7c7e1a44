//! What changes while one looks, sent as it changes.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{once, unfold};
use maud::Markup;
use tokio::time::timeout_at;

use crate::fields::Fields;
use crate::page::Page;
use crate::pages::{changes, message, overview, topic, workers, workflows};
use crate::problem::Problem;

const EVERY: Duration = Duration::from_secs(1);
/// It may be there again in a second; until then what was shown stays. After this the page is to say that it is old.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long at most a stream lasts. The page asks for the next one, and by that it is seen who is signed in still.
const LASTS: Duration = Duration::from_secs(15);

/// The live part of a page at once, and then once a second, if it looks different. What cannot be had from the beginning is
/// no stream: the script says so and tries again.
pub(crate) async fn live(mut page: Page, fields: Fields) -> Response {
    // The browser puts it into a page whose way to the admin may be another.
    if let Some(root) = fields
        .get("root")
        .filter(|root| root.len() < 100 && !root.starts_with('/') && !root.contains([':', '\\']))
    {
        root.clone_into(&mut page.root);
    }
    let first = match part(&page, &fields).await {
        Ok(part) => part.into_string(),
        Err(problem) => return problem.status().into_response(),
    };
    let until = Instant::now() + LASTS;
    let further = unfold(Some((page, fields, first.clone())), move |state| async move {
        let (page, fields, last) = state?;
        match timeout_at(until.into(), next(&page, &fields, &last)).await {
            Ok(now) => now.map(|now| (event(&now), Some((page, fields, now)))),
            Err(_) => Some((Event::default().event("again").data("again"), None)),
        }
    });
    let events = once(std::future::ready(event(&first))).chain(further).map(Ok::<_, Infallible>);
    // nginx would keep it back until it is long enough.
    ([("x-accel-buffering", "no")], Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}

fn event(part: &str) -> Event {
    Event::default().data(part.replace('\r', ""))
}

/// What is other than the last; `None` when it is not to be had any more.
async fn next(page: &Page, fields: &Fields, last: &str) -> Option<String> {
    let mut failing = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let asked = Instant::now();
        match part(page, fields).await {
            Ok(now) if now.0 != last => return Some(now.0),
            Ok(_) => failing = None,
            Err(Problem::NotFound) => return None,
            Err(_) if failing.get_or_insert(asked).elapsed() < PATIENCE => {}
            Err(_) => return None,
        }
    }
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
