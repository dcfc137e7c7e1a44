//! The admin mounted in a host's own axum app: `DATABASE_URL=app.db cargo run -p taskmq-admin --features sqlite --example mounted`.

use axum::Router;
use taskmq_admin::{Access, Admin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let admin = Admin::new(std::env::var("DATABASE_URL")?);
    // The host's own routes and its own protection go around it.
    let app = Router::new().nest("/admin", admin.router(Access::host_decides())?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18473").await?;
    Ok(axum::serve(listener, app).await?)
}
