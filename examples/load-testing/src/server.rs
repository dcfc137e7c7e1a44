//! The platform's web side: `POST /runs` asks for a load test, `GET /` is an endpoint to test.

use std::sync::Arc;

use tiny_http::{Method, Request, Response, Server};

use crate::consumers::LoadTest;
use crate::database::{DbPool, Error};
use crate::runs;

/// Answers on a free port of this machine, on threads of its own, and gives the address.
pub fn start(pool: DbPool) -> Result<String, Error> {
    let server = Arc::new(Server::http("127.0.0.1:0")?);
    let address = server.server_addr().to_string();
    for _ in 0..8 {
        let (server, pool) = (Arc::clone(&server), pool.clone());
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                answer(request, &pool);
            }
        });
    }
    Ok(address)
}

fn answer(mut request: Request, pool: &DbPool) {
    let response = match (request.method(), request.url()) {
        (Method::Get, "/") => Response::from_string("hello\n"),
        (Method::Post, "/runs") => match ask_for(&mut request, pool) {
            Ok(id) => Response::from_string(format!("{{\"id\": {id}}}\n")).with_status_code(202),
            Err(error) => Response::from_string(format!("{error}\n")).with_status_code(400),
        },
        _ => Response::from_string("GET / or POST /runs\n").with_status_code(404),
    };
    // The client may have gone.
    let _ = request.respond(response);
}

fn ask_for(request: &mut Request, pool: &DbPool) -> Result<i64, Error> {
    let test: LoadTest = serde_json::from_reader(request.as_reader())?;
    runs::ask_for(&mut *pool.get()?, &test)
}
