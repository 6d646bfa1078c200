//! Who may call what: every route of the router's page and every kind of caller, in one table. A
//! route without a row fails.

use std::{collections::BTreeSet, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{
    config::uploads::UPLOAD_PATH,
    uploads::token::{Bearer, issue},
};
use dispatcher_tests::{
    oidc::Issuer,
    process::{BASE, PATIENCE},
    service::{InProcess, KEY, ORG},
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use syn::visit::Visit;
use time::OffsetDateTime;
use uuid::Uuid;

/// The callers, a letter each: Nobody; Reader, Operator and Admin with tokens of the SSO server; a
/// Psk for every organisation, one for one (`Q`), and a reader's (`S`); an Identity header of a
/// trusted gateway, and of anybody else (`X`); a Worker; an upload Token.
const CALLERS: &str = "NROAPQSIXWT";

const READ: &str = "-+++++++---";
const WRITE: &str = "-x++++x+---";
const ADMIN: &str = "-xx+xxxx---";
const DISPATCH: &str = "-x++++x----";
const STATUS: &str = "-++++++----";
const ANYBODY: &str = "+++++++++++";
const SOMEBODY: &str = "-+++++++-+-";
const WORKERS: &str = "---------+-";

/// Method, path, and for each caller `+` (let in), `-` (not recognised) or `x` (recognised, and not
/// allowed).
const TABLE: &[(&str, &str, &str)] = &[
    ("POST", "/internal/dispatch", DISPATCH),
    ("POST", "/internal/v2/dispatch", DISPATCH),
    ("POST", "/internal/v2/cancel", DISPATCH),
    ("POST", "/internal/v2/recipients/status", STATUS),
    // Only with an identity; no key is asked for.
    ("POST", "/internal/v2/connection_status", "-------+---"),
    // Only with a key and an identity, which none of these shows together.
    ("GET", "/internal/v2/run_hosts", "-----------"),
    ("GET", "/internal/version", ANYBODY),
    ("GET", "~/runs", READ),
    ("GET", "~/runs/{id}", READ),
    ("GET", "~/runs/{id}/log", READ),
    ("GET", "~/runs/{id}/hosts/{host}/log", READ),
    ("GET", "~/events", READ),
    ("GET", "~/runs/{id}/events", READ),
    ("GET", "~/run_hosts", READ),
    ("GET", "~/recipients", READ),
    ("POST", "~/recipients/registrations", WRITE),
    // Only with a registration token, which none of these has.
    ("POST", "~/recipients/register", "-----------"),
    ("GET", "~/recipients/{id}", READ),
    ("DELETE", "~/recipients/{id}", ADMIN),
    ("PUT", "~/recipients/{id}/labels", WRITE),
    ("GET", "~/uploads", READ),
    ("GET", "~/playbooks", READ),
    ("GET", "~/playbooks/{name}", READ),
    ("PUT", "~/playbooks/{name}", WRITE),
    // Only by signed addresses.
    ("GET", "~/playbook-content/{org}/{sha256}", "xxxxxxxxxxx"),
    ("GET", "~/identity", SOMEBODY),
    ("GET", "/api/v1/identity", SOMEBODY),
    ("GET", "~/keys", ADMIN),
    ("POST", "~/keys", ADMIN),
    ("DELETE", "~/keys/{id}", ADMIN),
    ("POST", "~/keys/{id}/rotate", ADMIN),
    ("GET", "~/auth/confirmations", ADMIN),
    ("GET", "~/audit", ADMIN),
    ("GET", "~/instances", ADMIN),
    // Services that read what consumers of messages would get, and admins.
    ("POST", "~/events/read", "-xx+++xx---"),
    ("POST", "~/execution/wait", WORKERS),
    ("POST", "~/execution/claim", WORKERS),
    ("POST", "~/execution/facts", WORKERS),
    ("GET", "~/runs/{id}/inputs", WORKERS),
    ("POST", "~/runs/{id}/events", WORKERS),
    ("POST", "~/runs/{id}/finish", WORKERS),
    ("POST", UPLOAD_PATH, "-------+--+"),
    // Where to log in.
    ("GET", "~/identity/providers", ANYBODY),
    // What clients are generated from.
    ("GET", "~/openapi.json", ANYBODY),
    ("GET", "/internal/openapi.json", ANYBODY),
    ("GET", "/health/live", ANYBODY),
    ("GET", "/health/ready", ANYBODY),
    ("GET", "/api/v1", ANYBODY),
    ("GET", "/api/v1/", ANYBODY),
];

/// Every route that a page of routes names: method, and path with `~` for what `under` adds.
fn routes_of(text: &str) -> BTreeSet<(String, String)> {
    #[derive(Default)]
    struct Routes(BTreeSet<(String, String)>);
    /// The methods of `get(a).post(b).layer(c)`.
    fn methods(expression: &syn::Expr, found: &mut Vec<String>) {
        const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];
        let mut note = |name: String| {
            if METHODS.contains(&name.as_str()) {
                found.push(name.to_uppercase());
            }
        };
        match expression {
            syn::Expr::Call(call) => {
                if let syn::Expr::Path(path) = call.func.as_ref() {
                    note(path.path.segments.last().unwrap().ident.to_string());
                }
            }
            syn::Expr::MethodCall(call) => {
                note(call.method.to_string());
                methods(&call.receiver, found);
            }
            _ => {}
        }
    }
    fn path(expression: &syn::Expr) -> String {
        match expression {
            syn::Expr::Reference(reference) => path(&reference.expr),
            syn::Expr::Call(under) => format!("~/{}", path(under.args.first().unwrap())),
            syn::Expr::Lit(literal) => match &literal.lit {
                syn::Lit::Str(text) => text.value(),
                _ => panic!("a route whose path is no text"),
            },
            syn::Expr::Path(name) if name.path.is_ident("UPLOAD_PATH") => UPLOAD_PATH.to_owned(),
            _ => panic!("a route whose path this test cannot read"),
        }
    }
    impl<'ast> Visit<'ast> for Routes {
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            if call.method == "route" {
                let (at, what) = (call.args.first().unwrap(), call.args.last().unwrap());
                let mut found = Vec::new();
                methods(what, &mut found);
                assert!(!found.is_empty(), "a route without a method that this test knows");
                self.0.extend(found.into_iter().map(|method| (method, path(at))));
            }
            syn::visit::visit_expr_method_call(self, call);
        }
    }
    let mut routes = Routes::default();
    routes.visit_file(&syn::parse_file(text).unwrap());
    routes.0
}

/// Every route of the service.
pub(crate) fn routes() -> BTreeSet<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src/http/router.rs");
    let routes = routes_of(&std::fs::read_to_string(page).unwrap());
    assert!(routes.len() > 30, "the routes were not found");
    routes
}

#[test]
fn every_route_has_a_row() {
    let routes = routes();
    let rows: BTreeSet<_> =
        TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    let missing: Vec<_> = routes.difference(&rows).collect();
    assert!(missing.is_empty(), "routes without a row in TABLE: {missing:?}");
    let gone: Vec<_> = rows.difference(&routes).collect();
    assert!(gone.is_empty(), "rows of TABLE without a route: {gone:?}");
    assert_eq!(rows.len(), TABLE.len(), "a route has two rows");
}

/// The service, and what each caller shows.
struct Case {
    trusting: InProcess,
    issuer: Issuer,
    key_of_org: String,
    key_of_reader: String,
    worker_key: String,
    upload_token: String,
}

async fn start() -> Case {
    let issuer = Issuer::start().unwrap();
    let url = issuer.issuer();
    let variables = [
        ("SSO_ISSUER", url.as_str()),
        ("SSO_REFRESH", "86400"),
        ("SSO_ROLE_MAP", "look=reader,do=operator,rule=admin"),
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("INVENTORY_CONNECTOR_IMPL", "mock"),
        ("SOURCES_IMPL", "mock"),
        ("AUTH_FAILURES_PER_MINUTE", "0"),
    ];
    let trusting = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let mut case = Case {
        key_of_org: String::new(),
        key_of_reader: String::new(),
        worker_key: format!(
            "dwk_{}_{}",
            trusting.worker().await.unwrap().recipient.simple(),
            "s".repeat(32)
        ),
        upload_token: String::new(),
        trusting,
        issuer,
    };
    let bearer = Bearer { run_id: Uuid::new_v4(), org_id: ORG.to_owned() };
    let end = OffsetDateTime::now_utc() + Duration::from_secs(600);
    case.upload_token = issue(&case.trusting.app.keyring, &bearer, end);
    // The first token waits until the keys of its issuer are known.
    case.key_of_org = case.new_key("operator").await;
    case.key_of_reader = case.new_key("reader").await;
    case
}

impl Case {
    fn token(&self, role: &str) -> String {
        let claims = json!({ "org_id": ORG, "realm_access": { "roles": [role] } });
        format!("Bearer {}", self.issuer.token(&claims).unwrap())
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        Client::new().request(method, format!("{}{path}", self.trusting.url))
    }

    /// Makes a key, as an admin, and waits until it counts.
    async fn new_key(&self, role: &str) -> String {
        let body = json!({ "service": format!("svc{role}"), "role": role });
        let path = format!("{BASE}/keys");
        let request = || self.request("POST", &path).header("authorization", self.token("rule"));
        let made = until(|| request().json(&body), StatusCode::CREATED).await;
        let made: Value = made.json().await.unwrap();
        let key = format!("PSK {}", made["secret"].as_str().unwrap());
        let path = format!("{BASE}/identity");
        let request = || self.request("GET", &path).header("authorization", &key);
        let known: Value = until(request, StatusCode::OK).await.json().await.unwrap();
        assert_eq!(known["identity"]["role"], role);
        assert_eq!(known["identity"]["key_id"], made["key"]["id"]);
        key
    }

    /// A request as this caller makes it.
    fn of(&self, caller: char, method: &str, path: &str) -> RequestBuilder {
        let path = if caller == 'T' {
            format!("{path}?token={}", self.upload_token)
        } else {
            path.to_owned()
        };
        let request = self.request(method, &path);
        let identity = |org: &str| {
            let identity = json!({ "identity": { "type": "User", "org_id": org } });
            BASE64_STANDARD.encode(identity.to_string())
        };
        match caller {
            'R' => request.header("authorization", self.token("look")),
            'O' => request.header("authorization", self.token("do")),
            'A' => request.header("authorization", self.token("rule")),
            'P' => request
                .header("authorization", format!("PSK {KEY}"))
                .header("x-dispatcher-org", ORG),
            'Q' => request.header("authorization", &self.key_of_org),
            'S' => request.header("authorization", &self.key_of_reader),
            'I' => request.header("x-rh-identity", identity(ORG)),
            'W' => request.header("authorization", format!("Bearer {}", self.worker_key)),
            _ => request,
        }
    }
}

/// Sends until the answer has this status.
async fn until(request: impl Fn() -> RequestBuilder, status: StatusCode) -> Response {
    let started = std::time::Instant::now();
    loop {
        let answer = request().send().await.unwrap();
        if answer.status() == status {
            return answer;
        }
        let (found, text) = (answer.status(), answer.text().await.unwrap());
        assert!(started.elapsed() < PATIENCE, "{found}: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A body that is good enough to come to the question who sends it.
fn body(path: &str) -> Value {
    let id = Uuid::new_v4();
    match path {
        "/internal/v2/dispatch" => json!([{
            "recipient": id, "org_id": ORG, "principal": "p", "name": "n",
            "url": "https://example.com/site.yml",
        }]),
        "/internal/dispatch" => json!([{
            "recipient": id, "account": "0000001", "url": "https://example.com/site.yml",
        }]),
        "/internal/v2/cancel" => json!([{ "run_id": id, "org_id": ORG, "principal": "p" }]),
        "/internal/v2/connection_status" => json!({ "org_id": ORG, "hosts": ["h"] }),
        "/internal/v2/recipients/status" => json!([{ "recipient": id, "org_id": ORG }]),
        "~/execution/wait" => json!({ "wait_seconds": 0 }),
        _ => json!({}),
    }
}

/// `+`, `-` or `x`.
async fn class(answer: Response) -> (char, String) {
    let status = answer.status();
    // A stream that goes on is an answer; waiting for its end is not the question.
    if answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return ('+', status.to_string());
    }
    let text = answer.text().await.unwrap();
    let no_identity = text.starts_with("Bad Request: missing x-rh-identity");
    let class = match status {
        StatusCode::UNAUTHORIZED => '-',
        StatusCode::BAD_REQUEST if no_identity => '-',
        StatusCode::FORBIDDEN => 'x',
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => '?',
        _ => '+',
    };
    (class, format!("{status} {text}"))
}

#[tokio::test]
async fn every_caller_gets_what_the_table_says() {
    let case = start().await;
    let untrusting = InProcess::start_with(&[("AUTH_FAILURES_PER_MINUTE", "0")], |stores| stores);
    let untrusting = untrusting.await.unwrap();
    let mut wrong = Vec::new();
    for (method, path, expected) in TABLE {
        let address = path.replace('~', BASE).replace("{id}", &Uuid::new_v4().to_string());
        let address = address.replace("{host}", "h").replace("{name}", "n").replace("{org}", "o");
        let address = address.replace("{sha256}", &"0".repeat(64));
        assert_eq!(expected.len(), CALLERS.len());
        for (caller, expected) in CALLERS.chars().zip(expected.chars()) {
            let mut request = case.of(caller, method, &address);
            if caller == 'X' {
                // The same header as a trusted gateway's, to a service that trusts nobody.
                let header = BASE64_STANDARD
                    .encode(json!({ "identity": { "type": "User", "org_id": ORG } }).to_string());
                let to = format!("{}{address}", untrusting.url);
                request = Client::new()
                    .request(method.parse().unwrap(), to)
                    .header("x-rh-identity", header);
            }
            let answer = request.json(&body(path)).send().await.unwrap();
            let (found, said) = class(answer).await;
            if found != expected {
                wrong.push(format!("{method} {path} as {caller}: {found}, not {expected}: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_workers_key_opens_its_own_runs_and_nothing_else() {
    use dispatcher_tests::service::new_run;
    use dispatcher_wire::execution::CLAIM_HEADER;

    let service = InProcess::start().await.unwrap();
    let (own, thief) = (service.worker().await.unwrap(), service.worker().await.unwrap());
    own.wait(1).await.unwrap();
    let run = service.create(new_run(own.recipient)).await.unwrap();
    assert!(thief.claim().await.unwrap().is_none(), "another's run was handed out");
    let claimed = own.claim().await.unwrap().unwrap();
    assert_eq!(claimed.run_id, run);
    // Even with the claim, which no other worker learns.
    for (method, path) in [
        (Method::GET, format!("runs/{run}/inputs")),
        (Method::POST, format!("runs/{run}/finish")),
        (Method::POST, format!("runs/{run}/events")),
    ] {
        let request = thief.request(method, &path).header(CLAIM_HEADER, claimed.claim.to_string());
        let request = request.header("dispatcher-first-counter", "0");
        let answer = request.json(&json!({})).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
    for path in ["runs", "recipients", "playbooks", "keys"] {
        let answer = thief.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    let path = format!("{BASE}/runs/{run}");
    let view = service.request(Method::GET, &path).send().await.unwrap();
    let view: Value = view.json().await.unwrap();
    assert_eq!(view["status"], "running");
}

#[tokio::test]
async fn forged_key_ids_make_at_most_one_fetch_in_ten_seconds() {
    let case = start().await;
    let before = case.issuer.requests().keys;
    let claims = case.issuer.claims(&json!({ "org_id": ORG }));
    let key = case.issuer.key("key-1").unwrap();
    let (client, address) = (Client::new(), format!("{}{BASE}/identity", case.trusting.url));
    let (mut sent, started) = (Vec::new(), std::time::Instant::now());
    for number in 0..1_000 {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": format!("forged-{number}") });
        // A signature does not matter: there is no key to check it by.
        let token = if number == 0 {
            key.sign(&header, &claims).unwrap()
        } else {
            dispatcher_tests::jwt::unsigned(&header, &claims) + "AAAA"
        };
        let request = client.get(&address);
        sent.push(request.header("authorization", format!("Bearer {token}")));
        if sent.len() == 50 {
            for answer in
                futures_util::future::join_all(sent.drain(..).map(RequestBuilder::send)).await
            {
                assert_eq!(answer.unwrap().status(), 401);
            }
        }
    }
    let fetches = case.issuer.requests().keys - before;
    let most = 1 + started.elapsed().as_secs() / 10;
    assert!(u64::try_from(fetches).unwrap() <= most, "{fetches} fetches, at most {most}");
}

#[tokio::test]
async fn a_new_key_of_the_sso_server_counts_at_once_and_tokens_without_a_role_do_not() {
    let case = start().await;
    case.issuer.rotate("key-2").unwrap();
    let identity = |token: String| {
        case.request("GET", "/api/v1/identity").header("authorization", token).send()
    };
    // At once where the server of the tests answers at once.
    let since = std::time::Instant::now();
    loop {
        let answer = identity(case.token("do")).await.unwrap();
        if answer.status() == 200 {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{}", answer.text().await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let identity_said: Value = identity(case.token("do")).await.unwrap().json().await.unwrap();
    let said = &identity_said["identity"];
    assert_eq!((&said["kind"], &said["way"]), (&json!("user"), &json!("bearer")));
    assert_eq!((&said["name"], &said["org_id"]), (&json!("ada"), &json!(ORG)));

    let token = |claims: &Value| format!("Bearer {}", case.issuer.token(claims).unwrap());
    for (claims, status, code) in [
        (json!({ "org_id": ORG, "roles": ["x"] }), 403, "no_role"),
        (json!({ "roles": ["do"] }), 403, "no_organization"),
        (json!({ "org_id": ORG, "exp": 1 }), 401, "token_expired"),
        (json!({ "org_id": ORG, "aud": "other" }), 401, "token_invalid"),
    ] {
        let answer = identity(token(&claims)).await.unwrap();
        assert_eq!(answer.status(), status, "{claims}");
        let challenge = answer.headers().contains_key("www-authenticate");
        assert_eq!(challenge, status == 401, "{claims}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error_code"], code, "{body}");
    }
}

#[tokio::test]
async fn failed_attempts_are_held_against_their_source_only() {
    let variables = [("AUTH_FAILURES_PER_MINUTE", "5"), ("FORWARDED_FROM", "loopback")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let runs = format!("{}{BASE}/runs", service.url);
    let ask = |from: &'static str, key: &'static str| {
        let request = Client::new().get(&runs).header("x-forwarded-for", from);
        let request = request.header("authorization", format!("PSK {key}"));
        request.header("x-dispatcher-org", ORG).send()
    };
    for _ in 0..5 {
        assert_eq!(ask("192.0.2.1", "wrong").await.unwrap().status(), 403);
    }
    let limited = ask("192.0.2.1", KEY).await.unwrap();
    assert_eq!(limited.status(), 429, "before anything is checked");
    assert!(limited.headers().contains_key("retry-after"));
    // What a client claims before its proxy's own hop does not matter.
    assert_eq!(ask("198.51.100.9, 192.0.2.1", KEY).await.unwrap().status(), 429);
    assert_eq!(ask("192.0.2.1, 198.51.100.9", KEY).await.unwrap().status(), 200);
    assert_eq!(ask("198.51.100.9", KEY).await.unwrap().status(), 200);
}
