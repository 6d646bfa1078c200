//! A deployment that goes from the original to us and back, on one PostgreSQL database: our work leaves
//! its tables as it needs them, it goes on with what we wrote, and we go on with what it wrote.

use std::{process::Stdio, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{
    cleaner::Cleaner, config::cleaner::CleanerSettings, uploads::applier::Applier,
};
use dispatcher_tests::{
    foreign::{JSONL, form, lines, transcript},
    original::{Dispatched, Original, SCHEMA},
    postgres::Database,
    process::{BASE, PATIENCE, binary},
    satellite::{SATELLITE_JSONL, completed, finished, printed},
    service::{InProcess, KEY},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

const ORG: &str = "5318290";
const SATELLITE: Uuid = uuid::uuid!("9274c274-a258-5d00-91fe-dbe0f7849cef");

/// Us and the original on one database.
struct Both {
    database: Database,
    service: InProcess,
    original: Original,
}

impl Both {
    async fn on(database: Database) -> Self {
        let variables = [("CLOUD_CONNECTOR_IMPL", "mock"), ("IDENTITY_HEADER_FROM", "loopback")];
        let stores = database.stores().await.unwrap();
        let service = InProcess::instance(stores, &variables).await.unwrap();
        let applier = Applier::of(&service.app);
        let shutdown = service.app.shutdown.clone();
        tokio::spawn(async move { applier.run(shutdown).await });
        let original = Original::on(database.client().await.unwrap());
        Self { database, service, original }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.service.as_key(KEY, method, path).header("x-dispatcher-org", ORG)
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, &format!("{BASE}/{path}")).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    /// Dispatches to a foreign host; more members replace those of the item.
    async fn dispatch(&self, more: &Value) -> Uuid {
        let mut item = json!({
            "recipient": Uuid::new_v4(), "org_id": ORG, "principal": "jane", "name": "ours",
            "url": "https://example.com/ours.yml", "labels": { "by": "us" },
        });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = self.request(Method::POST, "/internal/v2/dispatch").json(&json!([item]));
        let made: Value = request.send().await.unwrap().json().await.unwrap();
        made[0]["id"].as_str().unwrap_or_else(|| panic!("{made}")).parse().unwrap()
    }

    async fn correlation_id(&self, run: Uuid) -> Uuid {
        let found = self.service.app.stores.runs.get(ORG, run).await.unwrap();
        found.unwrap().run.correlation_id
    }

    async fn cancel(&self, run: Uuid) -> Value {
        let item = json!([{ "run_id": run, "org_id": ORG, "principal": "jane" }]);
        let request = self.request(Method::POST, "/internal/v2/cancel").json(&item);
        request.send().await.unwrap().json::<Value>().await.unwrap()[0]["code"].clone()
    }

    /// Sends an archive in the name of the organisation, and waits until it is applied.
    async fn upload(&self, kind: &str, events: &[Value]) {
        let identity = json!({ "identity": { "type": "System", "org_id": ORG } });
        let (content_type, body) = form("file", Some(kind), &lines(events));
        let request = Client::new()
            .post(format!("{}/api/ingress/v1/upload", self.service.url))
            .header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
            .header("content-type", content_type)
            .body(body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let applied = async {
            loop {
                let page = self.get("uploads?limit=200").await;
                let rows = page["data"].as_array().unwrap();
                let own = rows.iter().find(|row| row["id"] == answer["request_id"]).unwrap();
                if own["state"] != "pending" {
                    return own.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let own = tokio::time::timeout(PATIENCE, applied).await.unwrap();
        assert_eq!((&own["state"], &own["reason"]), (&json!("applied"), &json!(null)), "{own}");
    }

    async fn clean(&self) {
        let app = &self.service.app;
        let (upkeep, wakeups) = (app.stores.upkeep.clone(), app.wakeups.clone());
        let cleaner = Cleaner::new(upkeep, CleanerSettings::default(), false, wakeups);
        cleaner.once(OffsetDateTime::now_utc()).await.unwrap();
    }

    async fn status(&self, run: Uuid) -> String {
        let runs = self.get("runs?fields[data]=id,status&limit=200").await;
        let own = runs["data"].as_array().unwrap().iter().find(|row| row["id"] == json!(run));
        own.unwrap()["status"].as_str().unwrap().to_owned()
    }

    /// Name, state and output of the hosts of a run, by name.
    async fn hosts(&self, run: Uuid) -> Vec<(String, String, String)> {
        let fields = "fields[data]=host,status,stdout";
        let page = self.get(&format!("run_hosts?{fields}&filter[run][id]={run}")).await;
        let text = |host: &Value, name: &str| host[name].as_str().unwrap().to_owned();
        let host = |host: &Value| (text(host, "host"), text(host, "status"), text(host, "stdout"));
        let mut hosts: Vec<_> = page["data"].as_array().unwrap().iter().map(host).collect();
        hosts.sort();
        hosts
    }

    /// What consumers were told of a run that is over: `<entity>.<type> <status>`, sorted.
    async fn told(&self, run: Uuid) -> Vec<String> {
        let request = self.request(Method::GET, &format!("{BASE}/runs/{run}/events"));
        let stream = request.send().await.unwrap().error_for_status().unwrap().text();
        let text = tokio::time::timeout(PATIENCE, stream).await.unwrap().unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut told: Vec<String> = names
            .zip(data)
            .filter(|(name, _)| *name != "end")
            .map(|(name, data)| {
                let data: Value = serde_json::from_str(data).unwrap();
                format!("{name} {}", data["payload"]["status"].as_str().unwrap())
            })
            .collect();
        told.sort();
        told
    }

    /// Everything that changes rows of the contract's tables, once.
    async fn work(&self) {
        let two = json!({ "hosts": [{ "ansible_host": "a" }, { "ansible_host": "b" }] });
        let run = self.dispatch(&two).await;
        self.upload(JSONL, &transcript(self.correlation_id(run).await, &["a", "c"])).await;
        let host = Uuid::new_v4();
        let satellite = json!({
            "recipient_config": { "sat_id": SATELLITE, "sat_org_id": "5" },
            "hosts": [{ "inventory_id": host, "subscription_manager_id": host }],
        });
        let run = self.dispatch(&satellite).await;
        let id = self.correlation_id(run).await;
        self.upload(SATELLITE_JSONL, &[printed(id, host, 40_000, "far")]).await;
        assert_eq!(self.cancel(run).await, 202);
        self.upload(SATELLITE_JSONL, &[finished(id, host, "canceled"), completed(id, "canceled")])
            .await;
        self.dispatch(&json!({ "timeout": 0, "hosts": [{ "ansible_host": "late" }] })).await;
        self.clean().await;
    }
}

/// Runs the real program on a database; what it printed.
async fn program(database: &Database, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(binary("dispatcher-api").unwrap())
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn our_work_leaves_the_tables_as_the_original_made_them_and_down_takes_no_row() {
    let database = Database::empty().await.unwrap();
    let mut original = Original::on(database.client().await.unwrap());
    original.client().batch_execute(SCHEMA).await.unwrap();
    let mut theirs = Dispatched::new(ORG);
    theirs.hosts = vec![(None, "theirs".to_owned())];
    original.dispatch(&theirs).await.unwrap();
    let (catalog, rows) = (original.catalog().await.unwrap(), original.rows().await.unwrap());

    program(&database, &["migrate", "up"]).await;
    assert_eq!(original.rows().await.unwrap(), rows, "taking it over changes no row");
    let both = Both::on(database).await;
    both.work().await;
    assert_eq!(original.catalog().await.unwrap(), catalog);
    assert_eq!(original.bookkeeping().await.unwrap(), [(16, false)]);
    let rows = original.rows().await.unwrap();
    assert_eq!(rows.len(), 4 + 6 + 1, "{rows:?}");

    let Both { database, service, .. } = both;
    drop(service);
    program(&database, &["migrate", "down"]).await;
    assert_eq!(original.rows().await.unwrap(), rows, "going back takes no row");
    assert_eq!(original.catalog().await.unwrap(), catalog);
    let left =
        "SELECT string_agg(c.relname::text, ' ' ORDER BY c.relname COLLATE \"C\") FROM pg_class c
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'S'";
    assert_eq!(
        original.text(left).await.unwrap(),
        "run_hosts run_hosts_pkey run_hosts_run_id_host_key runs runs_labels_index \
         runs_org_id_correlation_id_run_id_index runs_org_id_index runs_pkey schema_migrations \
         schema_migrations_pkey"
    );
    original.dispatch(&Dispatched::new(ORG)).await.unwrap();
    // And here again: what we knew of the runs beside their rows is gone, the runs are not.
    program(&database, &["migrate", "up"]).await;
    let both = Both::on(database).await;
    assert_eq!(both.get("runs").await["meta"]["total"], 5);
    assert_eq!(both.status(theirs.id).await, "running");
}

#[tokio::test]
async fn a_database_of_ours_has_all_that_the_original_needs_by_name() {
    let ours = Original::on(Database::migrated().await.unwrap().client().await.unwrap());
    let made = Original::on(Database::empty().await.unwrap().client().await.unwrap());
    made.client().batch_execute(SCHEMA).await.unwrap();
    let catalog = ours.catalog().await.unwrap();
    assert_eq!(catalog, made.catalog().await.unwrap());
    for line in [
        "run_hosts column 10 sat_sequence smallint not null f default  dropped f",
        "run_hosts constraint run_hosts_pkey PRIMARY KEY (id)",
        "run_hosts constraint run_hosts_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs(id)",
        "run_hosts constraint run_hosts_run_id_host_key UNIQUE (run_id, host)",
        "runs column 18 sat_id uuid not null f default  dropped f",
        "runs constraint runs_pkey PRIMARY KEY (id)",
        "runs_status 1 running",
        "runs_status 2 success",
        "runs_status 3 failure",
        "runs_status 4 timeout",
        "runs_status 5 canceled",
        "schema_migrations constraint schema_migrations_pkey PRIMARY KEY (version)",
        "version 16 dirty f",
    ] {
        assert!(catalog.iter().any(|known| known == line), "{line} is not in {catalog:#?}");
    }
    let names = |start: &str| {
        let lines = catalog.iter().filter(|line| line.starts_with(start));
        lines.count()
    };
    assert_eq!((names("runs column"), names("run_hosts column")), (18, 11));
    assert_eq!((names("runs index"), names("run_hosts index")), (4, 2));
    assert_eq!((names("runs trigger"), names("runs rule")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn we_go_on_with_what_the_original_writes_on_our_database() {
    let mut both = Both::on(Database::migrated().await.unwrap()).await;
    assert_eq!(both.original.bookkeeping().await.unwrap(), [(16, false)]);
    let mut runner = Dispatched::new(ORG);
    runner.hosts = vec![(Some(Uuid::new_v4()), "a".to_owned())];
    let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
    let hosts = [first, second].map(|id| (Some(id), id.to_string())).to_vec();
    let behind =
        Dispatched { sat_id: Some(SATELLITE), response_full: false, hosts, ..Dispatched::new(ORG) };
    let mut late = Dispatched::new(ORG);
    (late.timeout, late.hosts) = (0, vec![(None, "late".to_owned())]);
    for run in [&runner, &behind, &late] {
        both.original.dispatch(run).await.unwrap();
    }

    let found = both.get("runs?filter[labels][by]=the%20original&filter[status]=running").await;
    assert_eq!(found["meta"]["total"], 2);
    assert_eq!(both.get("runs?filter[status]=timeout").await["data"][0]["id"], json!(late.id));

    both.original.report(runner.id, "running", &["a"], "begun\n").await.unwrap();
    both.upload(JSONL, &transcript(runner.correlation_id, &["a", "b"])).await;
    assert_eq!(both.status(runner.id).await, "success");
    let log = "ok: [a]\nok: [b]\nPLAY RECAP\n".to_owned();
    let host =
        |name: &str, status: &str, log: &str| (name.to_owned(), status.to_owned(), log.to_owned());
    let expected = [host("a", "success", &log), host("b", "success", &log)];
    assert_eq!(both.hosts(runner.id).await, expected);
    let kept = format!("run_hosts?filter[inventory_id]={}", runner.hosts[0].0.unwrap());
    assert_eq!(both.get(&kept).await["meta"]["total"], 1, "a host keeps its id in Inventory");
    let told = ["run.update success", "run_host.create success", "run_host.update success"];
    assert_eq!(both.told(runner.id).await, told);

    assert_eq!(both.original.printed(behind.id, first, 3, "theirs ").await.unwrap(), 1);
    let id = behind.correlation_id;
    let both_hosts = [printed(id, first, 4, "ours"), printed(id, second, 1, "x")];
    both.upload(SATELLITE_JSONL, &both_hosts).await;
    let mut expected = [
        host(&first.to_string(), "running", "theirs ours"),
        host(&second.to_string(), "running", "\\n\\u2026\\nx"),
    ];
    expected.sort();
    assert_eq!(both.hosts(behind.id).await, expected);
    assert_eq!(both.cancel(behind.id).await, 202);
    both.upload(SATELLITE_JSONL, &[completed(id, "canceled")]).await;
    assert_eq!(both.status(behind.id).await, "canceled");

    program(&both.database, &["clean"]).await;
    let stored = format!("SELECT status::text FROM runs WHERE id = '{}'", late.id);
    assert_eq!(both.original.text(&stored).await.unwrap(), "timeout");
    assert_eq!(both.hosts(late.id).await, [host("late", "timeout", "")]);
    assert_eq!(both.told(late.id).await, ["run.update timeout", "run_host.update timeout"]);
    both.upload(JSONL, &transcript(late.correlation_id, &["late"])).await;
    assert_eq!(both.status(late.id).await, "success", "a late result counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_goes_on_with_what_we_write() {
    let both = Both::on(Database::migrated().await.unwrap()).await;
    let hosts = json!({ "hosts": [{ "ansible_host": "a" }] });
    let run = both.dispatch(&hosts).await;
    let expired = both.dispatch(&json!({ "timeout": 0, "hosts": [{ "ansible_host": "b" }] })).await;
    let listed = both.original.listed(ORG, &json!({ "by": "us" })).await.unwrap();
    let line = |status: &str| (status.to_owned(), "ours".to_owned());
    assert_eq!(listed, [line("timeout"), line("running")]);

    assert_eq!(both.original.clean().await.unwrap(), (1, 1));
    assert_eq!(both.status(expired).await, "timeout");
    both.clean().await;
    let correlation_id = both.correlation_id(expired).await;
    both.upload(JSONL, &transcript(correlation_id, &["b"])).await;
    assert_eq!(both.status(expired).await, "success");
    assert_eq!(both.original.clean().await.unwrap(), (0, 0));

    both.original.report(run, "success", &["a", "new"], "done by the original\n").await.unwrap();
    let host =
        |name: &str| (name.to_owned(), "success".to_owned(), "done by the original\n".to_owned());
    assert_eq!(both.hosts(run).await, [host("a"), host("new")]);
    assert_eq!(both.status(run).await, "success");
    let mut failed = transcript(both.correlation_id(run).await, &["a"]);
    failed.last_mut().unwrap()["event_data"]["failures"] = json!({ "a": 1 });
    both.upload(JSONL, &failed).await;
    assert_eq!(both.hosts(run).await, [host("a"), host("new")], "what is over stays");
    assert_eq!(both.status(run).await, "success");
    assert_eq!(both.cancel(run).await, 400, "it was no run behind a Satellite");
}
