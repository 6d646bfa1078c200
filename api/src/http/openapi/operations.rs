//! The operations of the documents: their names, what they take and what they answer.

use dispatcher_wire::dispatch::{
    AccountItem, CancelItem, DispatchItem, HostsWithOrg, RecipientWithOrg,
};
use serde_json::{Map, Value, json};

use super::shapes::{named, put, shape};
use crate::http::schema::{Schema, bodies::ContractBody};

/// A way to ask, and what comes back.
pub(super) struct Operation {
    path: &'static str,
    method: &'static str,
    /// What generated clients call it.
    id: &'static str,
    summary: &'static str,
    about: &'static str,
    /// By their names among the components.
    parameters: &'static [&'static str],
    /// What the handler checks its body with.
    pub(super) body: Option<fn() -> &'static Schema>,
    /// Status, and what it comes with.
    answers: &'static [(&'static str, Answer)],
}

/// What an answer is.
enum Answer {
    /// A schema.
    Of(&'static str),
    /// A list of what a schema says.
    ListOf(&'static str),
    /// One of the components' answers.
    Common(&'static str),
}

use Answer::{Common, ListOf, Of};

const BAD_REQUEST: (&str, Answer) = ("400", Common("BadRequest"));
const FORBIDDEN: (&str, Answer) = ("403", Common("Forbidden"));

/// What organisations call.
pub(super) const PUBLIC: [Operation; 2] = [
    Operation {
        path: "/api/playbook-dispatcher/v1/runs",
        method: "get",
        id: "api.runs.list",
        summary: "List runs",
        about: "The runs of the caller's organisation, a page at a time, the newest first. With \
                permissions that name services, only the runs of those.",
        parameters: &["RunsFilter", "RunsFields", "RunsSortBy", "Limit", "Offset"],
        body: None,
        answers: &[("200", Of("Runs")), BAD_REQUEST, FORBIDDEN],
    },
    Operation {
        path: "/api/playbook-dispatcher/v1/run_hosts",
        method: "get",
        id: "api.run.hosts.list",
        summary: "List hosts of runs",
        about: "The hosts of the organisation's runs, a page at a time. A host that took part in \
                two runs is there twice.",
        parameters: &["RunHostFilter", "RunHostFields", "Limit", "Offset"],
        body: None,
        answers: &[("200", Of("RunHosts")), BAD_REQUEST, FORBIDDEN],
    },
];

/// What services call.
pub(super) const INTERNAL: [Operation; 7] = [
    Operation {
        path: "/internal/dispatch",
        method: "post",
        id: "api.internal.runs.create",
        summary: "Run playbooks, by account",
        about: "The older form of a dispatch. Every item has an outcome of its own, in the order of \
                the request. With the header `Idempotency-Key` it can be repeated safely.",
        parameters: &[],
        body: Some(Vec::<AccountItem>::schema),
        answers: &[("207", Of("RunsCreated")), BAD_REQUEST],
    },
    Operation {
        path: "/internal/version",
        method: "get",
        id: "api.internal.version",
        summary: "Tell the version",
        about: "The revision that the service was built from. No key is needed.",
        parameters: &[],
        body: None,
        answers: &[("200", Of("Version"))],
    },
    Operation {
        path: "/internal/v2/recipients/status",
        method: "post",
        id: "api.internal.v2.recipients.status",
        summary: "Tell whether recipients are connected",
        about: "One answer for each recipient, in the order of the request.",
        parameters: &[],
        body: Some(Vec::<RecipientWithOrg>::schema),
        answers: &[("200", ListOf("RecipientStatus")), BAD_REQUEST],
    },
    Operation {
        path: "/internal/v2/dispatch",
        method: "post",
        id: "api.internal.v2.runs.create",
        summary: "Run playbooks",
        about: "Every item has an outcome of its own, in the order of the request. With the header \
                `Idempotency-Key` it can be repeated safely.",
        parameters: &[],
        body: Some(Vec::<DispatchItem>::schema),
        answers: &[("207", Of("RunsCreated"))],
    },
    Operation {
        path: "/internal/v2/cancel",
        method: "post",
        id: "api.internal.v2.runs.cancel",
        summary: "Cancel runs",
        about: "Every item has an outcome of its own, in the order of the request. 202 says that the \
                run was asked to end; its state says when it has.",
        parameters: &[],
        body: Some(Vec::<CancelItem>::schema),
        answers: &[("207", Of("RunsCanceled")), BAD_REQUEST],
    },
    Operation {
        path: "/internal/v2/connection_status",
        method: "post",
        id: "api.internal.highlevel.connection.status",
        summary: "Tell how hosts can be reached",
        about: "Finds out through which recipients hosts of Inventory are reached, and whether those \
                are connected. With an `x-rh-identity` header and without a key.",
        parameters: &[],
        body: Some(HostsWithOrg::schema),
        answers: &[("200", Of("HighLevelRecipientStatus")), BAD_REQUEST],
    },
    Operation {
        path: "/internal/v2/run_hosts",
        method: "get",
        id: "api.internal.v2.run.hosts.list",
        summary: "List hosts of runs",
        about: "The hosts of the runs of the organisation that the `x-rh-identity` header names, of \
                every service, a page at a time. With a key, too.",
        parameters: &["RunHostFilter", "RunHostFields", "Limit", "Offset"],
        body: None,
        answers: &[("200", Of("RunHosts")), BAD_REQUEST, FORBIDDEN],
    },
];

/// Operations as a document lists them.
pub(super) fn paths(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        put(path, operation.method, Some(operation.write()));
    }
    paths.into()
}

impl Operation {
    fn write(&self) -> Value {
        let mut operation = json!({
            "summary": self.summary, "description": self.about, "operationId": self.id,
        });
        let parameters: Vec<Value> = self.parameters.iter().map(|name| parameter(name)).collect();
        put(&mut operation, "parameters", Some(parameters).filter(|all| !all.is_empty()));
        // Not `required`: what an empty body is answered with, the handler decides.
        put(&mut operation, "requestBody", self.body.map(|body| content(&shape(body()))));
        let answers: Map<String, Value> = self
            .answers
            .iter()
            .map(|(code, answer)| ((*code).to_owned(), answer.write()))
            .collect();
        put(&mut operation, "responses", Some(answers));
        operation
    }
}

impl Answer {
    fn write(&self) -> Value {
        let schema = match self {
            Common(name) => return json!({ "$ref": format!("#/components/responses/{name}") }),
            Of(name) => named(name),
            ListOf(name) => json!({ "type": "array", "items": named(name) }),
        };
        let mut answer = json!({ "description": "What was asked for." });
        put(&mut answer, "content", content(&schema).get("content"));
        answer
    }
}

fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

fn content(schema: &Value) -> Value {
    json!({ "content": { "application/json": { "schema": schema } } })
}
