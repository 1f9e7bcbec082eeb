//! The paths, and who may do what.
//!
//! | path | gives |
//! |---|---|
//! | `GET /` | the status page |
//! | `GET /api/v1/status` | the [`Status`], JSON |
//! | `GET /api/v1/events` | the same as server-sent events: one `status` at once and one after each change |
//! | `GET /metrics` | metrics for Prometheus |
//! | `POST /api/v1/backup`, `/eject`, `/cancel` | does it; 202 if it is done or under way, 409 with the reason if not |
//! | `POST /api/v1/disks/{id}/trust`, `/forget` | a disk of the set is right as it is; does not belong to it any more |
//!
//! A wrong or missing token is 401, on every path that does something. Nothing can be changed by a GET, and no cookie is
//! ever set, so that a page elsewhere can make a browser do nothing.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use crate::border::Post;
use crate::command::{Answer, Asked, Command};
use crate::inbound::What;
use crate::status::Status;
use crate::web::{metrics, page, token};

/// The page carries its own style and nothing else; it runs no script and is in no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// What those who come through a door may do.
#[derive(Clone)]
pub enum Rights {
    /// All.
    All,
    /// Read; and with this token all.
    WithToken(String),
}

#[derive(Clone)]
struct Shared {
    rights: Rights,
    post: Post,
    status: watch::Receiver<Arc<Status>>,
}

/// The paths of a door.
pub fn routes(rights: Rights, to_the_loop: Post, status: watch::Receiver<Arc<Status>>) -> Router {
    Router::new()
        .route("/", get(status_page))
        .route("/api/v1/status", get(status_now))
        .route("/api/v1/events", get(events))
        .route("/metrics", get(metrics_now))
        .route("/api/v1/backup", post(backup))
        .route("/api/v1/eject", post(eject))
        .route("/api/v1/cancel", post(cancel))
        .route("/api/v1/disks/{id}/trust", post(trust))
        .route("/api/v1/disks/{id}/forget", post(forget))
        .fallback(|| async { words(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            words(StatusCode::METHOD_NOT_ALLOWED, "this path is not for that method")
        })
        .with_state(Shared { rights, post: to_the_loop, status })
}

async fn status_page(State(shared): State<Shared>) -> Response {
    let html = page::render(&shared.status.borrow());
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    let policy = (header::CONTENT_SECURITY_POLICY, POLICY);
    ([kind, policy, (header::CACHE_CONTROL, "no-store"), NO_SNIFF], html).into_response()
}

const NO_SNIFF: (header::HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

async fn status_now(State(shared): State<Shared>) -> Response {
    let status = Arc::clone(&shared.status.borrow());
    json(StatusCode::OK, &*status)
}

async fn metrics_now(State(shared): State<Shared>) -> Response {
    let text = metrics::render(&shared.status.borrow());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), NO_SNIFF], text).into_response()
}

async fn events(State(shared): State<Shared>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changes = shared.status;
    changes.mark_changed();
    Sse::new(unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        let text = serde_json::to_string(&**changes.borrow_and_update()).unwrap_or_default();
        Some((Ok(Event::default().event("status").data(text)), changes))
    }))
}

async fn backup(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    ask(&shared, &headers, Command::Backup).await
}

async fn eject(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    ask(&shared, &headers, Command::Eject).await
}

async fn cancel(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    ask(&shared, &headers, Command::Cancel).await
}

async fn trust(State(shared): State<Shared>, Path(disk): Path<String>, headers: HeaderMap) -> Response {
    ask(&shared, &headers, Command::Trust(disk)).await
}

async fn forget(State(shared): State<Shared>, Path(disk): Path<String>, headers: HeaderMap) -> Response {
    ask(&shared, &headers, Command::Forget(disk)).await
}

async fn ask(shared: &Shared, headers: &HeaderMap, command: Command) -> Response {
    if !allowed(&shared.rights, headers) {
        let mut refused = words(StatusCode::UNAUTHORIZED, "this needs the token of the box");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return refused;
    }
    let (answer, answered) = oneshot::channel();
    shared.post.send(What::Asked(Asked { command, answer }));
    match answered.await {
        Ok(Answer { accepted: true, words: text }) => words(StatusCode::ACCEPTED, &text),
        Ok(Answer { accepted: false, words: text }) => words(StatusCode::CONFLICT, &text),
        Err(_) => words(StatusCode::SERVICE_UNAVAILABLE, "the box is going down"),
    }
}

fn allowed(rights: &Rights, headers: &HeaderMap) -> bool {
    let Rights::WithToken(token) = rights else { return true };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|given| token::same(given, token))
}

#[derive(Serialize)]
struct Words<'a> {
    words: &'a str,
}

fn words(code: StatusCode, text: &str) -> Response {
    json(code, &Words { words: text })
}

fn json(code: StatusCode, value: &impl Serialize) -> Response {
    let head = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), NO_SNIFF];
    match serde_json::to_vec(value) {
        Ok(bytes) => (code, head, bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
