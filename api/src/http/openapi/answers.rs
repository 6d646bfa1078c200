//! What answers look like. Nothing checks an answer on its way out; tests hold real ones against this.

use dispatcher_wire::{
    RunStatus,
    dispatch::{HostsConnection, RecipientType},
};
use serde_json::{Map, Value, json};

use super::shapes::named;
use crate::http::schema::{
    Schema,
    bodies::MAX_VERBOSITY,
    components::{
        ACCOUNT, LABELS, ORG_ID, PLAYBOOK_NAME, RECIPIENT_WITH_ORG, RUN_ID, RUN_RECIPIENT,
        RUN_TIMEOUT, URL, WEB_CONSOLE_URL,
    },
};

/// What answers have in common with requests.
pub(super) const OF_REQUESTS: [Schema; 10] = [
    Schema::Named(&ACCOUNT),
    Schema::Named(&LABELS),
    Schema::Named(&ORG_ID),
    Schema::Named(&PLAYBOOK_NAME),
    Schema::Named(&RECIPIENT_WITH_ORG),
    Schema::Named(&RUN_ID),
    Schema::Named(&RUN_RECIPIENT),
    Schema::Named(&RUN_TIMEOUT),
    Schema::Named(&URL),
    Schema::Named(&WEB_CONSOLE_URL),
];

/// The answers that several operations give.
pub(super) fn responses() -> Value {
    let error = |about: &str| {
        json!({
            "description": about,
            "content": { "application/json": { "schema": named("Error") } },
        })
    };
    json!({
        "BadRequest": error("The request is not acceptable; the message says why."),
        "Forbidden": error("Whoever asks may not do this."),
    })
}

/// Every schema of answers, by name; and the one of requests that is checked elsewhere.
pub(super) fn schemas() -> Map<String, Value> {
    [members(), runs(), run_hosts(), pages(), outcomes(), recipients(), inputs()]
        .into_iter()
        .filter_map(|schemas| match schemas {
            Value::Object(schemas) => Some(schemas),
            _ => None,
        })
        .flatten()
        .collect()
}

fn members() -> Value {
    json!({
        "RunStatus": {
            "description": "The state of a run, or of a host in it. One that has not ended when its \
                            time is over reads `timeout`.",
            "type": "string",
            "enum": RunStatus::ALL,
        },
        "RunCorrelationId": {
            "description": "Ties what a host reports to its run.",
            "type": "string",
        },
        "Service": {
            "description": "The service that asked for the run.",
            "type": "string",
            "minLength": 1,
        },
        "CreatedAt": { "description": "When it began.", "type": "string", "format": "date-time" },
        "UpdatedAt": {
            "description": "When it changed last.",
            "type": "string",
            "format": "date-time",
        },
    })
}

fn runs() -> Value {
    let run = json!({
        "id": named("RunId"),
        "account": named("Account"),
        "org_id": named("OrgId"),
        "recipient": named("RunRecipient"),
        "correlation_id": named("RunCorrelationId"),
        "name": named("PlaybookName"),
        "web_console_url": named("WebConsoleUrl"),
        "service": named("Service"),
        "url": named("Url"),
        "labels": named("Labels"),
        "timeout": named("RunTimeout"),
        "status": named("RunStatus"),
        "created_at": named("CreatedAt"),
        "updated_at": named("UpdatedAt"),
    });
    json!({
        "Run": {
            "description": "A run, with the members that were asked for. A run without a name has no \
                            `name`; none has an `account` any more.",
            "type": "object",
            "properties": run,
        },
        "Runs": page_of("Run", "A page of runs."),
    })
}

fn run_hosts() -> Value {
    let host = json!({
        "host": { "description": "The name in Ansible's inventory.", "type": "string" },
        "stdout": { "description": "What was printed.", "type": "string" },
        "status": named("RunStatus"),
        "run": named("Run"),
        "inventory_id": {
            "description": "The id in Inventory, where it is known.",
            "type": "string",
            "format": "uuid",
        },
        "links": named("RunHostLinks"),
    });
    json!({
        "RunHost": {
            "description": "A host's part in a run, with the members that were asked for; of `run` \
                            there is the `id`.",
            "type": "object",
            "properties": host,
        },
        "RunHostLinks": {
            "description": "Where else there is something on the host.",
            "type": "object",
            "properties": { "inventory_host": { "type": "string", "nullable": true } },
        },
        "RunHosts": page_of("RunHost", "A page of hosts."),
    })
}

fn page_of(item: &str, about: &str) -> Value {
    json!({
        "description": about,
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": named(item) },
            "meta": named("Meta"),
            "links": named("Links"),
        },
        "required": ["data", "meta", "links"],
    })
}

fn pages() -> Value {
    let count = |about: &str| json!({ "description": about, "type": "integer", "example": 50 });
    let link = |about: &str| json!({ "description": about, "type": "string" });
    json!({
        "Meta": {
            "description": "How many items there are.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "count": count("How many are on this page."),
                "total": count("How many match in all."),
            },
            "required": ["count", "total"],
        },
        "Links": {
            "description": "Where other pages are, relative to the host.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "first": link("The first page."),
                "last": link("The last page."),
                "next": link("The page after this one, if there is one."),
                "previous": link("The page before this one, if there is one."),
            },
            "required": ["first", "last"],
        },
        "Error": {
            "description": "Why a request was not carried out.",
            "type": "object",
            "properties": {
                "message": { "description": "For people.", "type": "string" },
                "error_code": {
                    "description": "For programs, where the reason is not one of Playbook \
                                    Dispatcher's.",
                    "type": "string",
                },
                "request_id": {
                    "description": "What to name when asking for help; with `error_code`.",
                    "type": "string",
                },
            },
            "required": ["message"],
        },
    })
}

fn outcomes() -> Value {
    let code = |example: u16| {
        let about = "What became of this item, as a status of HTTP.";
        json!({ "description": about, "type": "integer", "example": example })
    };
    json!({
        "RunCreated": {
            "description": "The outcome of an item of a dispatch.",
            "type": "object",
            "properties": {
                "code": code(201),
                "message": {
                    "description": "Why there is no run.",
                    "type": "string",
                    "example": "Tenant not found",
                },
                "id": named("RunId"),
            },
            "required": ["code"],
        },
        "RunsCreated": { "type": "array", "items": named("RunCreated") },
        "RunCanceled": {
            "description": "The outcome of an item of a cancellation. The id is that of the run with \
                            code 202, and zero with every other.",
            "type": "object",
            "properties": { "run_id": named("RunId"), "code": code(202) },
            "required": ["code", "run_id"],
        },
        "RunsCanceled": { "type": "array", "items": named("RunCanceled") },
        "Version": {
            "description": "The revision that the service was built from.",
            "type": "string",
            "minLength": 1,
            "example": "unknown",
        },
    })
}

fn recipients() -> Value {
    let connected = json!({ "description": "Whether it is connected.", "type": "boolean" });
    json!({
        "RecipientStatus": {
            "allOf": [
                named("RecipientWithOrg"),
                {
                    "type": "object",
                    "properties": { "connected": connected },
                    "required": ["connected"],
                },
            ],
        },
        "RecipientWithConnectionInfo": {
            "description": "Hosts that are reached in the same way. Where there is no recipient its id \
                            is zero; where there is no Satellite, `sat_id` and `sat_org_id` are empty.",
            "type": "object",
            "properties": {
                "recipient": named("RunRecipient"),
                "org_id": named("OrgId"),
                "sat_id": named("SatelliteId"),
                "sat_org_id": named("SatelliteOrgId"),
                "recipient_type": named("RecipientType"),
                "systems": { "type": "array", "items": named("HostId") },
                "status": {
                    "description": "Whether they can be reached.",
                    "type": "string",
                    "enum": [
                        HostsConnection::Connected,
                        HostsConnection::Disconnected,
                        HostsConnection::RhcNotConfigured,
                    ],
                },
            },
            "required": [
                "recipient", "org_id", "recipient_type", "sat_id", "sat_org_id", "systems", "status",
            ],
        },
        "HighLevelRecipientStatus": {
            "type": "array",
            "items": named("RecipientWithConnectionInfo"),
        },
        "HostId": { "description": "A host's id in Inventory.", "type": "string", "minLength": 1 },
        "SatelliteId": {
            "description": "The id of a Satellite instance.",
            "type": "string",
            "format": "sat-id-uuid",
        },
        "SatelliteOrgId": {
            "description": "The id of an organisation inside a Satellite.",
            "type": "string",
        },
        "RecipientType": {
            "description": "What hosts are reached through.",
            "type": "string",
            "enum": [RecipientType::Satellite, RecipientType::DirectConnect, RecipientType::None],
            "minLength": 1,
        },
    })
}

/// How a playbook is executed, which [`crate::http::schema::bodies`] checks member by member.
fn inputs() -> Value {
    let text = |about: &str| json!({ "description": about, "type": "string" });
    let variables = |about: &str| json!({ "description": about, "type": "object", "additionalProperties": true });
    let tags = |about: &str| json!({ "description": about, "type": "array", "items": { "type": "string" } });
    let choice = |about: &str| json!({ "description": about, "type": "boolean", "default": false });
    json!({
        "RunInputs": {
            "description": "How the playbook is executed; for workers of this service only. At most \
                            256 KiB.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "extra_vars": variables("Ansible's extra variables."),
                "inventory": text("An inventory, in Ansible's INI or YAML form."),
                "limit": text("Ansible's pattern of hosts."),
                "tags": tags("Only tasks with these tags."),
                "skip_tags": tags("No tasks with these tags."),
                "check": choice("Change nothing, and say what would change."),
                "diff": choice("Show what changes in files."),
                "verbosity": {
                    "description": "How often Ansible's `-v` is given.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": MAX_VERBOSITY,
                    "default": 0,
                },
                "playbook_sha256": text("The SHA-256 that the playbook must have, in hexadecimal."),
                "playbook_signature":
                    text("An Ed25519 signature of the playbook as it is fetched, in base64."),
                "secrets": variables("Extra variables that are kept sealed and never shown."),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::fields::{RUN_FIELDS, RUN_HOST_FIELDS};

    #[test]
    fn every_field_of_the_lists_is_described() {
        let schemas = schemas();
        let described = |name: &str| -> Vec<String> {
            let members = schemas[name]["properties"].as_object().unwrap();
            let mut names: Vec<String> = members.keys().cloned().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(described("RunHost"), RUN_HOST_FIELDS);
        let mut fields = RUN_FIELDS.to_vec();
        // Generated clients have it, though no answer does.
        fields.insert(0, "account");
        assert_eq!(described("Run"), fields);
    }
}
