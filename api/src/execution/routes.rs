//! What workers call, over HTTP. A worker is known by its own key and reaches only runs that its
//! recipient holds, under the claim it was handed.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use dispatcher_wire::execution::{
    AppendReply, CLAIM_HEADER, ClaimReply, ClaimRequest, Doorbell, FIRST_COUNTER_HEADER,
    FinishReply, FinishRequest, GapProblem, MAX_EVENTS_BYTES, WaitRequest,
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{ExecutionError, batch::BatchError, model::Hold};
use crate::{
    app::App,
    auth::principal::WorkerPrincipal,
    http::{
        extract::{Segments, Worker},
        problem::{Problem, request_id},
    },
};

/// The most that a body other than events may have, in bytes.
const MAX_SMALL_BODY: usize = 4096;

/// `POST …/execution/wait`: waits for work or a cancellation. Waiting is presence.
pub async fn wait(
    State(app): State<App>,
    Worker(worker): Worker,
    body: Body,
) -> Result<Json<Doorbell>, Refusal> {
    let WaitRequest { wait_seconds, at_a_time } = decode(&read(body, MAX_SMALL_BODY).await?)?;
    let at_most = Duration::from_secs(wait_seconds);
    Ok(Json(app.execution.wait(worker.recipient, at_a_time, at_most).await?))
}

/// `POST …/execution/claim`: hands out the recipient's next run, if there is one.
pub async fn claim(
    State(app): State<App>,
    Worker(worker): Worker,
    body: Body,
) -> Result<Json<ClaimReply>, Refusal> {
    let body = read(body, MAX_SMALL_BODY).await?;
    let request = if body.is_empty() { ClaimRequest::default() } else { decode(&body)? };
    let ClaimRequest { claimed_by, at_a_time } = request;
    let run = app.execution.claim(worker.recipient, &claimed_by, at_a_time).await?;
    Ok(Json(ClaimReply { run }))
}

/// `GET …/runs/{id}/inputs`: the inputs of a claimed run, secrets opened; never to be cached.
pub async fn inputs(
    State(app): State<App>,
    Worker(worker): Worker,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let inputs = app.execution.inputs(hold(&worker, &id, &headers)?).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(inputs)).into_response())
}

/// `POST …/runs/{id}/events`: takes in events, one per line; answers once they are durable.
pub async fn append(
    State(app): State<App>,
    Worker(worker): Worker,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AppendReply>, Refusal> {
    let hold = hold(&worker, &id, &headers)?;
    let first_counter = number(&headers, FIRST_COUNTER_HEADER)?;
    let body = read(body, MAX_EVENTS_BYTES).await?;
    Ok(Json(app.execution.append_lines(hold, first_counter, &body).await?))
}

/// `POST …/runs/{id}/finish`: ends a run; answers with the state it is in then.
pub async fn finish(
    State(app): State<App>,
    Worker(worker): Worker,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FinishReply>, Refusal> {
    let hold = hold(&worker, &id, &headers)?;
    let FinishRequest { next_counter } = decode(&read(body, MAX_SMALL_BODY).await?)?;
    let status = app.execution.finish(hold, next_counter).await?;
    Ok(Json(FinishReply { status }))
}

/// Why a worker's request was not carried out, on its way out.
#[derive(Debug)]
pub enum Refusal {
    /// Records are missing before those that were sent.
    Gap(u64),
    /// Anything else.
    Problem(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ExecutionError> for Refusal {
    fn from(error: ExecutionError) -> Self {
        let text = error.to_string();
        Self::Problem(match error {
            ExecutionError::Gap(next_counter) => return Self::Gap(next_counter),
            ExecutionError::Store(error) => error.into(),
            ExecutionError::NotYours => Problem::ours(StatusCode::CONFLICT, "claim_lost", text),
            ExecutionError::Batch(BatchError::TooLarge) => too_large(MAX_EVENTS_BYTES),
            ExecutionError::Batch(_) => {
                Problem::ours(StatusCode::BAD_REQUEST, "invalid_events", text)
            }
            ExecutionError::Inputs(error) => {
                Problem::internal("the inputs of a run cannot be handed out", &error)
            }
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let next_counter = match self {
            Self::Problem(problem) => return problem.into_response(),
            Self::Gap(next_counter) => next_counter,
        };
        let body = GapProblem {
            message: ExecutionError::Gap(next_counter).to_string(),
            error_code: "gap".to_owned(),
            request_id: request_id(),
            next_counter,
        };
        (StatusCode::CONFLICT, Json(body)).into_response()
    }
}

/// What the request claims to hold; whether it does is decided by the store, with the write.
fn hold(worker: &WorkerPrincipal, id: &str, headers: &HeaderMap) -> Result<Hold, Problem> {
    let unknown = |_| Problem::not_found("run_not_found", "a run's id is a UUID");
    let run_id = Uuid::try_parse(id).map_err(unknown)?;
    let claim = text(headers, CLAIM_HEADER)?;
    let claim = Uuid::try_parse(claim).map_err(|_| bad_header(CLAIM_HEADER, "a UUID"))?;
    Ok(Hold { run_id, claim, recipient: worker.recipient })
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, Problem> {
    text(headers, name)?.parse().map_err(|_| bad_header(name, "a number from 0"))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Problem> {
    let value = headers.get(HeaderName::from_static(name));
    value.and_then(|value| value.to_str().ok()).ok_or_else(|| bad_header(name, "one value"))
}

fn bad_header(name: &str, allowed: &str) -> Problem {
    let message = format!("the header {name} is missing or malformed; allowed: {allowed}");
    Problem::ours(StatusCode::BAD_REQUEST, "invalid_header", message)
}

/// The whole body, at most so long.
async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| broken_off())?;
        if whole.len() + piece.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn broken_off() -> Problem {
    let message = "the body broke off before its end; send the request again";
    Problem::ours(StatusCode::BAD_REQUEST, "body_incomplete", message)
}

fn too_large(limit: usize) -> Problem {
    let message = format!("the body has more than {limit} bytes, which is the most allowed here");
    Problem::ours(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not as expected: {error}");
        Problem::ours(StatusCode::BAD_REQUEST, "invalid_body", message)
    })
}
