//! The names in the OpenAPI documents, with everything that generated clients rely on: operations, their
//! parameters and answers, schemas and their members, types, formats and limits. None of it may
//! change, since clients that exist were generated from it; members may be added.

use std::collections::BTreeMap;

use dispatcher_tests::service::InProcess;
use serde_json::{Value, json};

use crate::openapi::{documents, operations};

/// Schemas of both documents: name, and what [`shape`] makes of it.
const SHARED: [(&str, &str); 25] = [
    ("Account", "string 1..10, deprecated"),
    ("CreatedAt", "string(date-time)"),
    // `error_code` and `request_id` are ours.
    ("Error", "{error_code: string, message!: string, request_id: string}"),
    ("InventoryIdNullable", "string, nullable"),
    ("Labels", "{*: string}"),
    ("Links", "closed {first!: string, last!: string, next: string, previous: string}"),
    ("Meta", "closed {count!: integer, total!: integer}"),
    ("OrgId", "string 1..10"),
    ("PlaybookName", "string 1.."),
    (
        "Run",
        "{account: Account, correlation_id: RunCorrelationId, created_at: CreatedAt, id: RunId, \
         labels: Labels, name: PlaybookName, org_id: OrgId, recipient: RunRecipient, \
         service: Service, status: RunStatus, timeout: RunTimeout, updated_at: UpdatedAt, url: Url, \
         web_console_url: WebConsoleUrl}",
    ),
    ("RunCorrelationId", "string"),
    (
        "RunHost",
        "{host: string, inventory_id: string(uuid), links: RunHostLinks, run: Run, \
         status: RunStatus, stdout: string}",
    ),
    ("RunHostLinks", "{inventory_host: string, nullable}"),
    ("RunHosts", "{data!: [RunHost], links!: Links, meta!: Meta}"),
    ("RunId", "string(uuid)"),
    ("RunLabelsNullable", "{*: string}, nullable"),
    ("RunRecipient", "string(uuid)"),
    ("RunStatus", "string canceled|failure|running|success|timeout"),
    ("RunTimeout", "integer 0..604800, default 3600"),
    ("Service", "string 1.."),
    ("ServiceNullable", "string 1.., nullable"),
    ("StatusNullable", "string canceled|failure|running|success|timeout, nullable"),
    ("UpdatedAt", "string(date-time)"),
    ("Url", "string(url)"),
    ("WebConsoleUrl", "string(url) 1.."),
];

/// That of organisations has this one beside the shared ones.
const PUBLIC: [(&str, &str); 1] = [("Runs", "{data!: [Run], links!: Links, meta!: Meta}")];

/// And that of services these.
const INTERNAL: [(&str, &str); 21] = [
    ("CancelInputV2", "{org_id!: OrgId, principal!: Principal, run_id!: RunId}"),
    ("HighLevelRecipientStatus", "[RecipientWithConnectionInfo]"),
    ("HostId", "string 1.."),
    ("HostsWithOrgId", "{hosts!: [string 1..] 1..50, org_id!: OrgId}"),
    ("Principal", "string 1.."),
    ("RecipientConfig", "{sat_id: string(sat-id-uuid), sat_org_id: string 1..}"),
    ("RecipientStatus", "RecipientWithOrg & {connected!: boolean}"),
    ("RecipientType", "string 1.. directConnect|none|satellite"),
    (
        "RecipientWithConnectionInfo",
        "{org_id!: OrgId, recipient!: RunRecipient, recipient_type!: RecipientType, \
         sat_id!: SatelliteId, sat_org_id!: SatelliteOrgId, \
         status!: string connected|disconnected|rhc_not_configured, systems!: [HostId]}",
    ),
    ("RecipientWithOrg", "{org_id!: OrgId, recipient!: RunRecipient}"),
    ("RunCanceled", "{code!: integer, run_id!: RunId}"),
    ("RunCreated", "{code!: integer, id: RunId, message: string}"),
    (
        "RunInput",
        "{account!: Account, hosts: RunInputHosts, labels: Labels, recipient!: RunRecipient, \
         timeout: RunTimeout, url!: Url}",
    ),
    (
        "RunInputHosts",
        "[{ansible_host: string 1.., inventory_id: string(uuid), \
         subscription_manager_id: string(uuid)}]",
    ),
    (
        // `inputs` is ours.
        "RunInputV2",
        "{hosts: RunInputHosts, inputs: RunInputs, labels: Labels, name!: PlaybookName, \
         org_id!: OrgId, principal!: Principal, recipient!: RunRecipient, \
         recipient_config: RecipientConfig, timeout: RunTimeout, url!: Url, \
         web_console_url: WebConsoleUrl}",
    ),
    (
        // Ours.
        "RunInputs",
        "closed {check: boolean, default false, diff: boolean, default false, extra_vars: {*}, \
         inventory: string, limit: string, playbook_sha256: string, playbook_signature: string, \
         secrets: {*}, skip_tags: [string], tags: [string], verbosity: integer 0..5, default 0}",
    ),
    ("RunsCanceled", "[RunCanceled]"),
    ("RunsCreated", "[RunCreated]"),
    ("SatelliteId", "string(sat-id-uuid)"),
    ("SatelliteOrgId", "string"),
    ("Version", "string 1.."),
];

/// Parameters, by the names that operations refer to.
const PARAMETERS: [(&str, &str); 7] = [
    ("Limit", "limit in query: integer 1..200, default 50"),
    ("Offset", "offset in query: integer 0.., default 0"),
    (
        "RunHostFields",
        "fields in query deepObject exploded: {data: [string \
         host|inventory_id|links|run|status|stdout], default [\"host\",\"run\",\"status\"]}",
    ),
    (
        "RunHostFilter",
        "filter in query deepObject exploded: {inventory_id: InventoryIdNullable, \
         run: {id: string, labels: RunLabelsNullable, service: ServiceNullable}, nullable, \
         status: StatusNullable}",
    ),
    (
        "RunsFields",
        "fields in query deepObject exploded: {data: [string \
         correlation_id|created_at|id|labels|name|org_id|recipient|service|status|timeout|\
         updated_at|url|web_console_url], default \
         [\"id\",\"labels\",\"org_id\",\"recipient\",\"status\",\"timeout\",\"url\"]}",
    ),
    (
        "RunsFilter",
        "filter in query deepObject exploded: {labels: RunLabelsNullable, recipient: string, \
         service: ServiceNullable, status: StatusNullable}",
    ),
    (
        "RunsSortBy",
        "sort_by in query: string created_at|created_at:asc|created_at:desc, default \
         \"created_at:desc\"",
    ),
];

/// Operations: method and path, name, parameters, body, answers.
const OPERATIONS: [(&str, &str, &str, &str, &str); 9] = [
    (
        "GET /api/playbook-dispatcher/v1/runs",
        "api.runs.list",
        "RunsFilter RunsFields RunsSortBy Limit Offset",
        "",
        "200 Runs, 400 BadRequest, 403 Forbidden",
    ),
    (
        "GET /api/playbook-dispatcher/v1/run_hosts",
        "api.run.hosts.list",
        "RunHostFilter RunHostFields Limit Offset",
        "",
        "200 RunHosts, 400 BadRequest, 403 Forbidden",
    ),
    (
        "POST /internal/dispatch",
        "api.internal.runs.create",
        "",
        "[RunInput] 1..50",
        "207 RunsCreated, 400 BadRequest",
    ),
    ("GET /internal/version", "api.internal.version", "", "", "200 Version"),
    (
        "POST /internal/v2/recipients/status",
        "api.internal.v2.recipients.status",
        "",
        "[RecipientWithOrg] 1..",
        "200 [RecipientStatus], 400 BadRequest",
    ),
    (
        "POST /internal/v2/dispatch",
        "api.internal.v2.runs.create",
        "",
        "[RunInputV2] 1..50",
        "207 RunsCreated",
    ),
    (
        "POST /internal/v2/cancel",
        "api.internal.v2.runs.cancel",
        "",
        "[CancelInputV2] 1..50",
        "207 RunsCanceled, 400 BadRequest",
    ),
    (
        "POST /internal/v2/connection_status",
        "api.internal.highlevel.connection.status",
        "",
        "HostsWithOrgId",
        "200 HighLevelRecipientStatus, 400 BadRequest",
    ),
    (
        "GET /internal/v2/run_hosts",
        "api.internal.v2.run.hosts.list",
        "RunHostFilter RunHostFields Limit Offset",
        "",
        "200 RunHosts, 400 BadRequest, 403 Forbidden",
    ),
];

/// The end of a reference.
fn last(reference: &Value) -> String {
    reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// A schema in a line: everything but what it says to people. `!` is for required members, in the order of
/// their names.
fn shape(schema: &Value) -> String {
    if schema.get("$ref").is_some() {
        return last(schema);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().map(shape).collect::<Vec<_>>().join(" & ");
    }
    let kind = schema["type"].as_str().unwrap();
    let mut text = match kind {
        "object" => members(schema),
        "array" => format!("[{}]", shape(&schema["items"])),
        _ => kind.to_owned(),
    };
    if let Some(format) = schema["format"].as_str() {
        text += &format!("({format})");
    }
    for [min, max] in [["minLength", "maxLength"], ["minItems", "maxItems"], ["minimum", "maximum"]]
    {
        let limit = |name: &str| schema.get(name).map(Value::to_string);
        if limit(min).is_some() || limit(max).is_some() {
            let [min, max] = [min, max].map(|name| limit(name).unwrap_or_default());
            text += &format!(" {min}..{max}");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let mut values: Vec<_> = values.iter().map(|value| value.as_str().unwrap()).collect();
        values.sort_unstable();
        text += &format!(" {}", values.join("|"));
    }
    if let Some(default) = schema.get("default") {
        text += &format!(", default {default}");
    }
    for flag in ["deprecated", "nullable"] {
        if schema[flag] == Value::Bool(true) {
            text += &format!(", {flag}");
        }
    }
    text
}

fn members(schema: &Value) -> String {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let all = schema["properties"].as_object().into_iter().flatten();
    let sorted: BTreeMap<_, _> = all.collect();
    let mut members: Vec<String> = sorted
        .into_iter()
        .map(|(name, schema)| {
            let mark = if required.contains(&Value::from(name.as_str())) { "!" } else { "" };
            format!("{name}{mark}: {}", shape(schema))
        })
        .collect();
    let mut prefix = "";
    match &schema["additionalProperties"] {
        Value::Bool(true) => members.push("*".to_owned()),
        Value::Bool(false) => prefix = "closed ",
        Value::Null => {}
        value => members.push(format!("*: {}", shape(value))),
    }
    format!("{prefix}{{{}}}", members.join(", "))
}

fn parameter(parameter: &Value) -> String {
    let [name, place] = ["name", "in"].map(|member| parameter[member].as_str().unwrap());
    let style = parameter["style"].as_str().map(|style| format!(" {style}")).unwrap_or_default();
    let exploded = if parameter["explode"] == Value::Bool(true) { " exploded" } else { "" };
    format!("{name} in {place}{style}{exploded}: {}", shape(&parameter["schema"]))
}

type Operation = (String, String, String, String, String);

fn operation((method, path, operation): (String, String, &Value)) -> Operation {
    let content = |holder: &Value| shape(&holder["content"]["application/json"]["schema"]);
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(last);
    let answers = operation["responses"].as_object().unwrap().iter().map(|(code, answer)| {
        let is_common = answer.get("$ref").is_some();
        format!("{code} {}", if is_common { last(answer) } else { content(answer) })
    });
    let id = operation["operationId"].as_str().unwrap().to_owned();
    (
        format!("{method} {path}"),
        id,
        parameters.collect::<Vec<_>>().join(" "),
        operation.get("requestBody").map(content).unwrap_or_default(),
        answers.collect::<Vec<_>>().join(", "),
    )
}

/// The components of a kind, by name.
fn components(
    document: &Value,
    kind: &str,
    write: fn(&Value) -> String,
) -> BTreeMap<String, String> {
    let named = document["components"][kind].as_object().unwrap().iter();
    named.map(|(name, component)| (name.clone(), write(component))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn names_types_and_limits_are_those_that_generated_clients_know() {
    let service = InProcess::start().await.unwrap();
    let [public, internal] = documents(&service.url).await;
    let error = |answer: &Value| shape(&answer["content"]["application/json"]["schema"]);
    let errors = owned(&[("BadRequest", "Error"), ("Forbidden", "Error")]);
    for (document, title, own) in [
        (&public, "Playbook Dispatcher", PUBLIC.as_slice()),
        (&internal, "Playbook Dispatcher Internal API", INTERNAL.as_slice()),
    ] {
        let info = &document["info"];
        assert_eq!((&info["title"], &info["version"]), (&json!(title), &json!("1.0.0")));
        assert_eq!(components(document, "schemas", shape), owned(&[&SHARED, own].concat()));
        assert_eq!(components(document, "responses", error), errors);
    }
    let parameters = owned(&PARAMETERS);
    assert_eq!(components(&public, "parameters", parameter), parameters);
    let mut of_hosts = parameters;
    of_hosts.retain(|name, _| !name.starts_with("Runs"));
    assert_eq!(components(&internal, "parameters", parameter), of_hosts);
    // Generated constructors take members in this order.
    let names = |schema: &Value| {
        schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let members = |name: &str| names(&internal["components"]["schemas"][name]);
    let filter = |name: &str| names(&public["components"]["parameters"][name]["schema"]);
    assert_eq!(filter("RunsFilter"), "status service recipient labels");
    assert_eq!(filter("RunHostFilter"), "status run inventory_id");
    let optional = "web_console_url labels timeout hosts recipient_config inputs";
    assert_eq!(members("RunInputV2"), format!("recipient org_id principal url name {optional}"));
    assert_eq!(members("RunInput"), "recipient account url labels timeout hosts");
    assert_eq!(members("CancelInputV2"), "run_id org_id principal");
    assert_eq!(members("RecipientWithOrg"), "recipient org_id");
    assert_eq!(members("HostsWithOrgId"), "org_id hosts");
    assert_eq!(members("RunCreated"), "code message id");
    assert_eq!(members("RunCanceled"), "run_id code");
    let found = [&public, &internal].into_iter().flat_map(operations).map(operation);
    let expected = OPERATIONS.map(|(place, id, parameters, body, answers)| {
        [place, id, parameters, body, answers].map(str::to_owned).into()
    });
    assert_eq!(found.collect::<Vec<Operation>>(), expected);
}
