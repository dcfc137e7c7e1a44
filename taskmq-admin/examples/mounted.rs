//! The admin mounted in a host's own axum app, behind the host's login:
//! `DATABASE_URL=app.db APP_SESSION=a-long-secret cargo run -p taskmq-admin --features sqlite --example mounted`, and then
//! `curl --cookie session=a-long-secret http://127.0.0.1:18473/admin`.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use taskmq_admin::{Access, Actor, Admin};

/// Stands for the host's own login: here there is one session, and it is Kim's.
fn user(headers: &HeaderMap, session: &str) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let given = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("session="))?;
    (given == session).then(|| "kim".to_owned())
}

/// Lets in whoever is signed in, and tells the admin who acts.
async fn signed_in(State(session): State<String>, mut request: Request, next: Next) -> Response {
    match user(request.headers(), &session) {
        Some(name) => {
            request.extensions_mut().insert(Actor(name));
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let admin = Admin::new(std::env::var("DATABASE_URL")?).router(Access::host_decides())?;
    let app = Router::new()
        .nest("/admin", admin)
        // Nested so, axum serves no `/admin/`.
        .route("/admin/", get(|| async { Redirect::permanent("/admin") }))
        .layer(from_fn_with_state(std::env::var("APP_SESSION")?, signed_in));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18473").await?;
    Ok(axum::serve(listener, app).await?)
}
