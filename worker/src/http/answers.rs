//! What an answer of the service means to a worker.
//!
//! The rule: only the service itself can take a run away. Whatever a balancer, a proxy or a page of
//! some other server says is waited out.

use dispatcher_wire::{
    execution::GapProblem, inputs::RunInputs, registration::RegisterReply, view::Problem,
};
use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::{link::LinkError, outbound::causes};

/// The largest answer: inputs, with room.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// The most of a foreign text that is repeated.
const MAX_SHOWN: usize = 300;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// Sends a request and reads the answer.
pub(super) async fn of(request: RequestBuilder) -> Result<Answer, LinkError> {
    let away = |error: reqwest::Error| LinkError::Unavailable(causes(&error.without_url()));
    let mut response = request.send().await.map_err(away)?;
    let (status, mut body) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let told = format!("it answered more than {MAX_ANSWER} bytes");
            return Err(LinkError::Unavailable(told));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

impl Answer {
    /// What it says.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, LinkError> {
        self.succeeded()?;
        serde_json::from_slice(&self.body).map_err(|error| {
            LinkError::Unavailable(format!("it answered something unexpected: {error}"))
        })
    }

    /// The inputs of a run. Whatever this worker does not understand in them it must not leave out.
    pub(super) fn inputs(self) -> Result<RunInputs, LinkError> {
        self.succeeded()?;
        serde_json::from_slice(&self.body).map_err(|error| {
            // The text of an error about a type could quote a secret.
            let shown = if error.to_string().contains("unknown field") {
                error.to_string()
            } else {
                "they are not what they should be".to_owned()
            };
            LinkError::Refused(format!("this worker does not understand them: {shown}; update it"))
        })
    }

    /// Nothing but success.
    pub(super) fn done(self) -> Result<(), LinkError> {
        self.succeeded()
    }

    /// The answer to a registration, whose refusals are all for people.
    pub(super) fn registered(self) -> Result<RegisterReply, LinkError> {
        match self.status {
            status if status.is_success() => self.json(),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(LinkError::Refused(
                "there is no registration at this address; is it the dispatcher's, and recent \
                 enough?"
                    .to_owned(),
            )),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(LinkError::Refused(self.told()))
            }
            _ => Err(self.refusal()),
        }
    }

    /// Whether the service does not know this worker's key.
    pub(super) fn is_key_refused(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether the service does not know the route.
    pub(super) fn is_unknown_route(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
    }

    fn succeeded(&self) -> Result<(), LinkError> {
        if self.status.is_success() { Ok(()) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> LinkError {
        match self.status {
            StatusCode::UNAUTHORIZED => LinkError::KeyRefused(self.told()),
            StatusCode::CONFLICT => self.conflict(),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE if self.is_ours() => {
                LinkError::Refused(self.told())
            }
            status if status.is_redirection() => LinkError::Unavailable(format!(
                "it answered a redirect ({status}), which is not followed; name the dispatcher's \
                 own address with DISPATCHER_URL"
            )),
            _ => LinkError::Unavailable(self.told()),
        }
    }

    fn conflict(&self) -> LinkError {
        let code = serde_json::from_slice::<Problem>(&self.body).map(|found| found.error_code);
        match (code.as_deref(), serde_json::from_slice::<GapProblem>(&self.body)) {
            (Ok("gap"), Ok(gap)) => LinkError::Gap(gap.next_counter),
            (Ok("claim_lost"), _) => LinkError::NotYours,
            (Ok(_), _) => LinkError::Refused(self.told()),
            (Err(_), _) => LinkError::Unavailable(self.told()),
        }
    }

    /// Whether the service itself answered.
    fn is_ours(&self) -> bool {
        serde_json::from_slice::<Problem>(&self.body).is_ok()
    }

    fn told(&self) -> String {
        let text = match serde_json::from_slice::<Problem>(&self.body) {
            Ok(Problem { message, error_code, request_id }) => {
                format!("{message} ({error_code}, request {request_id})")
            }
            Err(_) => String::from_utf8_lossy(&self.body).trim().to_owned(),
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        format!("HTTP status {}: {text}", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), body: body.as_bytes().to_vec() }
    }

    fn problem(status: u16, code: &str) -> LinkError {
        let body = format!(
            "{{\"message\":\"m\",\"error_code\":\"{code}\",\"request_id\":\"r\",\"next_counter\":7}}"
        );
        answer(status, &body).refusal()
    }

    #[test]
    fn only_the_service_takes_a_run_away() {
        assert!(matches!(problem(409, "gap"), LinkError::Gap(7)));
        assert!(matches!(problem(409, "claim_lost"), LinkError::NotYours));
        assert!(matches!(problem(409, "else"), LinkError::Refused(_)));
        assert!(matches!(problem(400, "invalid_events"), LinkError::Refused(_)));
        assert!(matches!(problem(401, "worker_key_unknown"), LinkError::KeyRefused(_)));
        assert!(matches!(problem(429, "too_many"), LinkError::Unavailable(_)));
        for (status, body) in [(409, "busy"), (400, "<html>"), (404, ""), (302, ""), (503, "x")] {
            let refusal = answer(status, body).refusal();
            assert!(matches!(refusal, LinkError::Unavailable(_)), "{status}: {refusal}");
        }
        let odd = answer(200, "<html>").json::<Problem>();
        assert!(matches!(odd, Err(LinkError::Unavailable(_))));
    }

    #[test]
    fn inputs_that_are_not_understood_are_refused_and_not_shown() {
        let told = |body: &str| answer(200, body).inputs().unwrap_err().to_string();
        assert!(told("{\"forks\": 5}").contains("unknown field `forks`"));
        let secret = told("{\"secrets\": \"hunter2\"}");
        assert!(secret.contains("update it") && !secret.contains("hunter2"), "{secret}");
    }
}
